/*
 * A channel's life on the engine's side: sizes, memory, creation, end of a turn. The rings are in
 * inbox.c and outbox.c, those who attach in writer.c and link.c.
 */
#include "rings/engine.h"
#include "rings/memory.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB 1024ull
#define MIB (1024ull * KIB)

struct size_rule {
    uint64_t fallback, min, max;
};

static const struct size_rule inbox_rule = {MIB, 64 * KIB, 1024 * MIB};
static const struct size_rule outbox_rule = {MIB, 64 * KIB, 1024 * MIB};
static const struct size_rule metadata_rule = {4096, 64, MIB};
static const struct size_rule slots_rule = {4096, 64, MIB};
static const struct size_rule pongs_rule = {64, 16, 64 * KIB};

/* Default, range, up to a power of two: 0 or -EINVAL. */
static int settle(uint64_t *out, uint64_t asked, const struct size_rule *rule)
{
    if (!asked)
        asked = rule->fallback;
    if (asked < rule->min || asked > rule->max)
        return -EINVAL;
    uint64_t v = rule->min;
    while (v < asked)
        v *= 2;
    *out = v;
    return 0;
}

static int settle_sizes(struct engine_header *h, const struct sluice_channel_config *cfg)
{
    if (settle(&h->inbox_bytes, cfg->inbox_bytes, &inbox_rule) ||
        settle(&h->outbox_bytes, cfg->outbox_bytes, &outbox_rule) ||
        settle(&h->meta_entries, cfg->metadata_entries, &metadata_rule) ||
        settle(&h->outbox_slots, cfg->outbox_slots, &slots_rule) ||
        settle(&h->pongs_slots, cfg->pongs_slots, &pongs_rule))
        return -EINVAL;
    h->pongs_bytes = h->pongs_slots * PONG_BYTES_MAX;
    h->meta_at = ENGINE_FIXED_BYTES;
    h->inbox_at = h->meta_at + h->meta_entries * sizeof(struct sluice_meta);
    h->memory_bytes = h->inbox_at + h->inbox_bytes;
    return 0;
}

static void fill_header(struct engine_header *h, const char *name)
{
    const struct sluice_clock *clk = sluice_clock();
    h->magic = ENGINE_MAGIC;
    h->layout = SLUICE_LAYOUT_VERSION;
    h->engine_pid = (uint32_t)getpid();
    h->clock_cycles = clk->cycles;
    h->clock_monotonic_ns = clk->monotonic_ns;
    h->clock_realtime_ns = clk->realtime_ns;
    h->clock_cycles_per_s = clk->cycles_per_s;
    h->clock_is_tsc = clk->is_tsc;
    if (name)
        strncpy(h->name, name, sizeof(h->name) - 1);
}

/* All mappings are made before the seal: after it not even we could map the memory writable. */
static int map_memory(struct sluice_channel *ch, const struct engine_header *h)
{
    char label[SLUICE_NAME_MAX + 16];
    snprintf(label, sizeof(label), "sluice:%s", h->name);
    ch->memory_fd = sluice_memory_create(label, h->memory_bytes);
    if (ch->memory_fd < 0)
        return ch->memory_fd;
    ch->header = sluice_memory_map(ch->memory_fd, 0, ENGINE_FIXED_BYTES, MAP_TO_WRITE);
    if (!ch->header)
        return -errno;
    ch->shared = (struct engine_shared *)((char *)ch->header + ENGINE_SHARED_AT);
    struct sluice_inbox *in = &ch->inbox;
    in->entries = h->meta_entries;
    in->bytes = h->inbox_bytes;
    in->meta = sluice_memory_map_twice(ch->memory_fd, h->meta_at,
                                       in->entries * sizeof(struct sluice_meta), MAP_TO_WRITE);
    if (!in->meta)
        return -errno;
    in->base = sluice_memory_map_twice(ch->memory_fd, h->inbox_at, in->bytes, MAP_TO_WRITE);
    if (!in->base)
        return -errno;
    *ch->header = *h;
    int err = sluice_memory_seal_size(ch->memory_fd);
    return err ? err : sluice_memory_seal_writes(ch->memory_fd);
}

static int open_to_others(struct sluice_channel *ch, const char *name)
{
    if (!name)
        return 0;
    ch->spare_fd = fcntl(ch->memory_fd, F_DUPFD_CLOEXEC, 0);
    return ch->spare_fd < 0 ? -errno : sluice_rendezvous_listen(ch, name);
}

int sluice_channel_create(struct sluice_channel **out, const struct sluice_channel_config *cfg)
{
    *out = NULL;
    struct engine_header h = {0};
    if (cfg->name && !sluice_channel_name_ok(cfg->name))
        return -EINVAL;
    int err = settle_sizes(&h, cfg);
    if (err)
        return err;
    fill_header(&h, cfg->name);
    err = sluice_system_random(&h.epoch, sizeof(h.epoch));
    if (err)
        return err;

    struct sluice_channel *ch = calloc(1, sizeof(*ch));
    if (!ch)
        return -ENOMEM;
    ch->memory_fd = ch->spare_fd = ch->listen_fd = ch->directory_fd = ch->upstream = -1;
    ch->fd_limit = INT_MAX;
    for (int i = 0; i < (int)SLUICE_LINKS_MAX; i++)
        sluice_link_clear(&ch->links[i]);
    err = map_memory(ch, &h);
    if (!err)
        err = open_to_others(ch, cfg->name);
    if (err) {
        sluice_channel_destroy(ch);
        return err;
    }
    sluice_channel_set_connection(ch, 1);
    *out = ch;
    return 0;
}

void sluice_channel_destroy(struct sluice_channel *ch)
{
    if (!ch)
        return;
    sluice_rendezvous_unlisten(ch);
    for (int i = 0; i < (int)SLUICE_LINKS_MAX; i++)
        if (ch->links[i].state != LINK_FREE)
            sluice_link_close(ch, &ch->links[i]);
    for (int i = 0; i < (int)SLUICE_WRITERS_MAX; i++)
        if (ch->writers[i].state != WRITER_FREE)
            sluice_writer_free(ch, &ch->writers[i]);
    if (ch->header) {
        sluice_memory_unmap(ch->inbox.base, 2 * ch->inbox.bytes);
        sluice_memory_unmap(ch->inbox.meta, 2 * ch->inbox.entries * sizeof(struct sluice_meta));
        sluice_memory_unmap(ch->header, ENGINE_FIXED_BYTES);
    }
    if (ch->memory_fd >= 0)
        close(ch->memory_fd);
    if (ch->spare_fd >= 0)
        close(ch->spare_fd);
    free(ch);
}

void sluice_channel_publish_inbox(struct sluice_channel *ch)
{
    struct engine_shared *s = ch->shared;
    const struct sluice_inbox *in = &ch->inbox;
    uint64_t published = sluice_inbox_published(in);
    sluice_count_set(ch, SLUICE_COUNTER_received_entries, in->meta_tail - in->control_events);
    sluice_count_set(ch, SLUICE_COUNTER_received_bytes, published);
    atomic_store_explicit(&s->inbox_tail, published, memory_order_relaxed);
    atomic_store_explicit(&s->meta_head, in->meta_head, memory_order_relaxed);
    atomic_store_explicit(&s->inbox_head, in->head, memory_order_relaxed);
    /* release: pairs with an observer's acquire in client.c */
    atomic_store_explicit(&s->meta_tail, in->meta_tail, memory_order_release);
}

/* Once for each sleep, whoever comes first: the holder of the inbox rings as well. */
void sluice_writer_ring(struct sluice_channel *ch, struct sluice_writer *w, unsigned news)
{
    uint32_t waiting = atomic_load_explicit(&w->shared->waiting, memory_order_relaxed);
    if (!(waiting & news & WAKE_BITS) ||
        atomic_load_explicit(&w->rung, memory_order_relaxed) == waiting ||
        atomic_exchange_explicit(&w->rung, waiting, memory_order_relaxed) == waiting)
        return;
    if (sluice_doorbell_ring(w->bell_fd))
        atomic_fetch_add_explicit(&ch->shared->counters[SLUICE_COUNTER_doorbells], 1,
                                  memory_order_relaxed);
}

void sluice_channel_flush(struct sluice_channel *ch)
{
    if (!ch->inbox.away && sluice_inbox_has_news(&ch->inbox)) {
        ch->inbox.meta_flushed = ch->inbox.meta_tail;
        ch->news |= SLUICE_WAIT_INBOX;
    }
    if (!ch->news)
        return;
    if (!ch->inbox.away)
        sluice_channel_publish_inbox(ch);
    /* Going to sleep, the client's half is in wait.c: it stores waiting, fence, looks at the rings;
     * we published, fence, look at waiting. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t used = ch->writers_used; used; used &= used - 1) {
        struct sluice_writer *w = &ch->writers[__builtin_ctz(used)];
        if (w->state == WRITER_ATTACHED)
            sluice_writer_ring(ch, w, ch->news);
    }
    ch->news = 0;
}

/* The holder of the inbox may sleep too: each sets and clears what is its own. */
void sluice_channel_change_asleep(struct sluice_channel *ch, unsigned mine, unsigned wake_on)
{
    shared_u32 *asleep = &ch->shared->asleep;
    uint32_t word, old = atomic_load_explicit(asleep, memory_order_relaxed);
    do {
        uint32_t armed = (old & ~WAKE_BITS) + (wake_on ? WAKE_BITS + 1 : 0);
        word = armed | (old & WAKE_BITS & ~mine) | wake_on;
    } while (!atomic_compare_exchange_weak_explicit(asleep, &old, word, memory_order_relaxed,
                                                    memory_order_relaxed));
    if (wake_on) /* the client's half is sluice_client_ring() in client.c */
        atomic_thread_fence(memory_order_seq_cst);
}

void sluice_channel_sleep(struct sluice_channel *ch, unsigned wake_on)
{
    SLUICE_CHECK(!(ch->inbox.away && (wake_on & WAKE_ON_INBOX)));
    sluice_channel_change_asleep(ch, ch->inbox.away ? WAKE_ON_OUTBOX : WAKE_BITS, wake_on);
}
