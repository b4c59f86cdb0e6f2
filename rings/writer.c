/*
 * A writer's memory, the engine's side: made at attach, mapped read-only, forgotten when the writer
 * is gone and nothing of it is in flight.
 */
#include "rings/engine.h"
#include "rings/memory.h"
#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t round_page(uint64_t bytes)
{
    return (bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE * LAYOUT_PAGE;
}

static void lay_out(struct writer_header *h, const struct engine_header *e, enum sluice_role role,
                    int index)
{
    h->magic = WRITER_MAGIC;
    h->layout = SLUICE_LAYOUT_VERSION;
    h->role = (uint32_t)role;
    h->epoch = e->epoch;
    h->index = (uint32_t)index;
    h->outbox.slots = e->outbox_slots;
    h->outbox.slots_at = WRITER_FIXED_BYTES;
    h->pongs.slots = e->pongs_slots;
    h->pongs.slots_at = h->outbox.slots_at + h->outbox.slots * sizeof(struct ring_slot);
    h->outbox.at = round_page(h->pongs.slots_at + h->pongs.slots * sizeof(struct ring_slot));
    h->outbox.bytes = e->outbox_bytes;
    h->pongs.at = h->outbox.at + h->outbox.bytes;
    h->pongs.bytes = e->pongs_bytes;
    h->memory_bytes = h->pongs.at + h->pongs.bytes;
}

/* The next upstream continues where the last one stopped. Written through a mapping of its own that
 * goes away at once: afterwards the engine only reads this memory. */
static int write_start(const struct sluice_channel *ch, int fd, const struct writer_header *h)
{
    char *page = sluice_memory_map(fd, 0, WRITER_FIXED_BYTES, MAP_TO_WRITE);
    if (!page)
        return -errno;
    memcpy(page, h, sizeof(*h));
    struct writer_shared *s = (struct writer_shared *)(void *)(page + WRITER_SHARED_AT);
    atomic_store_explicit(&s->meta_head, ch->inbox.meta_head, memory_order_relaxed);
    atomic_store_explicit(&s->inbox_head, ch->inbox.head, memory_order_relaxed);
    sluice_memory_unmap(page, WRITER_FIXED_BYTES);
    return 0;
}

static int open_box(struct sluice_outbox *box, int fd, const struct ring_part *part,
                    const struct ring_tails *tails, struct ring_heads *heads, const char *slots)
{
    *box = (struct sluice_outbox){.tails = tails,
                                  .heads = heads,
                                  .slots = (const struct ring_slot *)(const void *)slots,
                                  .slot_count = part->slots,
                                  .byte_count = part->bytes};
    atomic_store_explicit(&heads->byte_head, 0, memory_order_relaxed);
    atomic_store_explicit(&heads->slot_head, 0, memory_order_relaxed);
    atomic_store_explicit(&heads->run_end, 0, memory_order_relaxed);
    box->base = sluice_memory_map_twice(fd, part->at, part->bytes, MAP_TO_READ_LATER);
    return box->base ? 0 : -errno;
}

/* h: our own copy of the header; the one in the memory is the writer's from now on. */
static int map_writer(struct sluice_channel *ch, struct sluice_writer *w,
                      const struct writer_header *h)
{
    w->fixed = sluice_memory_map(w->memory_fd, 0, h->outbox.at, MAP_TO_READ_LATER);
    if (!w->fixed)
        return -errno;
    w->fixed_bytes = h->outbox.at;
    const char *base = w->fixed;
    w->shared = (const struct writer_shared *)(const void *)(base + WRITER_SHARED_AT);
    int err = open_box(&w->outbox, w->memory_fd, &h->outbox, &w->shared->outbox,
                       &ch->shared->writers[h->index].outbox, base + h->outbox.slots_at);
    if (err)
        return err;
    return open_box(&w->pongs, w->memory_fd, &h->pongs, &w->shared->pongs,
                    &ch->shared->writers[h->index].pongs, base + h->pongs.slots_at);
}

static int build_writer(struct sluice_channel *ch, struct sluice_writer *w, int index)
{
    struct writer_header h = {0};
    lay_out(&h, ch->header, w->role, index);
    w->memory_fd = sluice_memory_create("sluice-writer", h.memory_bytes);
    if (w->memory_fd < 0)
        return w->memory_fd;
    int err = write_start(ch, w->memory_fd, &h);
    if (!err)
        err = map_writer(ch, w, &h);
    return err ? err : sluice_memory_seal_size(w->memory_fd);
}

/* The last place is the upstream's. */
static bool producer_may_come(const struct sluice_channel *ch)
{
    uint32_t free_places = 0;
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++)
        free_places += ch->writers[i].state == WRITER_FREE;
    return free_places > (ch->upstream < 0 ? 1u : 0u);
}

int sluice_writer_create(struct sluice_channel *ch, enum sluice_role role, int *index)
{
    if (role == SLUICE_UPSTREAM ? ch->upstream >= 0 : !producer_may_come(ch))
        return -EBUSY;
    for (int i = 0; i < (int)SLUICE_WRITERS_MAX; i++) {
        struct sluice_writer *w = &ch->writers[i];
        if (w->state != WRITER_FREE)
            continue;
        if (role == SLUICE_UPSTREAM)
            sluice_inbox_discard(ch);
        *w = (struct sluice_writer){.state = WRITER_ATTACHED,
                                    .role = role,
                                    .number = ch->writers_ever++,
                                    .memory_fd = -1,
                                    .bell_fd = -1};
        ch->writers_used |= 1u << i;
        int err = build_writer(ch, w, i);
        if (err) {
            sluice_writer_free(ch, w);
            return err;
        }
        *index = i;
        return 0;
    }
    return -EBUSY;
}

void sluice_writer_free(struct sluice_channel *ch, struct sluice_writer *w)
{
    SLUICE_CHECK(w->state != WRITER_FREE);
    SLUICE_CHECK(ch->upstream != (int)(w - ch->writers));
    sluice_memory_unmap(w->outbox.base, 2 * w->outbox.byte_count);
    sluice_memory_unmap(w->pongs.base, 2 * w->pongs.byte_count);
    sluice_memory_unmap(w->fixed, w->fixed_bytes);
    if (w->memory_fd >= 0)
        close(w->memory_fd);
    *w = (struct sluice_writer){.state = WRITER_FREE};
    ch->writers_used &= ~(1u << (w - ch->writers));
}

void sluice_channel_throw_out(struct sluice_channel *ch, struct sluice_writer *w)
{
    int index = (int)(w - ch->writers);
    w->state = WRITER_CORRUPT;
    ch->links_changed = true; /* no sleep before the owner heard of it */
    if (ch->upstream == index && ch->inbox.away) {
        ch->inbox.wanted = true; /* sluice_inbox_came_back() goes on from here */
        return;
    }
    ch->corrupt |= !w->left_before;
    sluice_log(SLUICE_LOG_WARN, "%s: a client wrote nonsense into its memory and is thrown out",
               ch->header->name);
    sluice_count(ch, SLUICE_COUNTER_clients_corrupt, 1);
    if (ch->upstream == index) {
        ch->upstream = -1; /* nothing it says counts any more */
        ch->inbox.lied = false;
        sluice_inbox_settle(ch);
    }
    for (int i = 0; i < (int)SLUICE_LINKS_MAX; i++)
        if (ch->links[i].writer == index)
            sluice_link_end(ch, &ch->links[i]);
}

static bool asked(uint64_t changed, unsigned at)
{
    return (changed >> at & REQUEST_FIELD) != 0;
}

void sluice_channel_take_requests(struct sluice_channel *ch)
{
    if (ch->upstream < 0)
        return;
    struct sluice_writer *w = &ch->writers[ch->upstream];
    uint64_t now = atomic_load_explicit(&w->shared->request, memory_order_acquire);
    uint64_t changed = now ^ w->request_seen;
    if (!changed)
        return;
    w->request_seen = now;
    if (asked(changed, REQUEST_READY_AT) && now & REQUEST_READY)
        sluice_channel_set_ready(ch, SLUICE_READY_UPSTREAM, 0);
    else if (asked(changed, REQUEST_READY_AT))
        sluice_channel_set_ready(ch, 0, SLUICE_READY_UPSTREAM);
    ch->close_requested |= asked(changed, REQUEST_CLOSE_AT);
    ch->prefer_requested |= asked(changed, REQUEST_PREFER_AT);
    ch->reconnect_requested |= asked(changed, REQUEST_CONNECT_AT);
}

bool sluice_channel_has_request(const struct sluice_channel *ch)
{
    if (ch->upstream < 0)
        return false;
    const struct sluice_writer *w = &ch->writers[ch->upstream];
    return atomic_load_explicit(&w->shared->request, memory_order_acquire) != w->request_seen;
}
