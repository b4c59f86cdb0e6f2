/*
 * The state block: how the engine writes it and anybody reads it. Texts stand under a version that
 * is odd while they change.
 */
#include "rings/engine.h"
#include "base/clock.h"

#include <sched.h>
#include <string.h>

#define STUCK_NS (200 * SLUICE_NS_PER_MS) /* writing a text takes 1 us */

void sluice_channel_set_conn_state(struct sluice_channel *ch, enum sluice_conn_state s)
{
    atomic_store_explicit(&ch->shared->conn_state, (uint32_t)s, memory_order_release);
    ch->news |= SLUICE_WAIT_STATE;
}

void sluice_channel_set_ready(struct sluice_channel *ch, uint32_t set, uint32_t clear)
{
    uint32_t old = atomic_load_explicit(&ch->shared->ready, memory_order_relaxed);
    uint32_t now = (old | set) & ~clear;
    if (now == old)
        return;
    atomic_store_explicit(&ch->shared->ready, now, memory_order_release);
    ch->news |= SLUICE_WAIT_STATE;
}

void sluice_channel_set_preferred(struct sluice_channel *ch, bool preferred)
{
    atomic_store_explicit(&ch->shared->preferred, preferred, memory_order_release);
    ch->news |= SLUICE_WAIT_STATE;
}

void sluice_channel_set_connection(struct sluice_channel *ch, uint32_t connection)
{
    atomic_store_explicit(&ch->shared->connection, connection, memory_order_release);
}

void sluice_channel_publish_text(struct sluice_channel *ch)
{
    struct engine_shared *s = ch->shared;
    uint64_t words[STATE_TEXT_WORDS];
    memcpy(words, &ch->text, sizeof(words));
    uint64_t version = atomic_load_explicit(&s->text_version, memory_order_relaxed);
    atomic_store_explicit(&s->text_version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* readers see odd before any new word */
    for (size_t i = 0; i < STATE_TEXT_WORDS; i++)
        atomic_store_explicit(&s->text[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&s->text_version, version + 2, memory_order_release);
    ch->news |= SLUICE_WAIT_STATE;
}

void sluice_channel_add_close(struct sluice_channel *ch, const struct sluice_close_record *r)
{
    ch->text.closes[ch->text.close_count % SLUICE_CLOSE_RECORDS] = *r;
    ch->text.close_count++;
    sluice_channel_publish_text(ch);
}

/* A stuck engine may have stopped half way: after a while take what is there. */
static void read_text(const struct engine_shared *s, struct state_text *out)
{
    uint64_t words[STATE_TEXT_WORDS];
    uint64_t give_up_ns = sluice_monotonic_ns() + STUCK_NS;
    do {
        uint64_t before = atomic_load_explicit(&s->text_version, memory_order_acquire);
        for (size_t i = 0; i < STATE_TEXT_WORDS; i++)
            words[i] = atomic_load_explicit(&s->text[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        uint64_t after = atomic_load_explicit(&s->text_version, memory_order_relaxed);
        if (before == after && (before & 1) == 0)
            break;
        sched_yield(); /* the writer may wait for this core */
    } while (sluice_monotonic_ns() < give_up_ns);
    memcpy(out, words, sizeof(*out));
}

/* Text from another process: end it where its field ends. */
#define COPY_TEXT(to, from)                 \
    do {                                    \
        memcpy((to), (from), sizeof(from)); \
        (to)[sizeof(from) - 1] = 0;         \
    } while (0)

static void copy_text(struct sluice_state *out, const struct state_text *text)
{
    COPY_TEXT(out->peer, text->peer);
    COPY_TEXT(out->backend, text->backend);
    COPY_TEXT(out->backend_reason, text->backend_reason);
    COPY_TEXT(out->model, text->model);
    COPY_TEXT(out->model_reason, text->model_reason);
    COPY_TEXT(out->tls, text->tls);
    COPY_TEXT(out->tls_reason, text->tls_reason);
    out->close_count = text->close_count;
    memcpy(out->closes, text->closes, sizeof(out->closes));
}

void sluice_state_read(const struct engine_header *h, const struct engine_shared *s,
                       struct sluice_state *out)
{
    struct state_text text;
    memset(out, 0, sizeof(*out));
    out->epoch = h->epoch;
    out->engine_pid = h->engine_pid;
    out->layout = h->layout;
    out->clock.cycles = h->clock_cycles;
    out->clock.monotonic_ns = h->clock_monotonic_ns;
    out->clock.realtime_ns = h->clock_realtime_ns;
    out->clock.cycles_per_s = h->clock_cycles_per_s;
    out->clock.is_tsc = h->clock_is_tsc;
    out->inbox_bytes = h->inbox_bytes;
    out->metadata_entries = h->meta_entries;
    out->outbox_bytes = h->outbox_bytes;
    out->outbox_slots = h->outbox_slots;
    out->pongs_bytes = h->pongs_bytes;
    out->pongs_slots = h->pongs_slots;
    COPY_TEXT(out->name, h->name);

    out->conn_state = atomic_load_explicit(&s->conn_state, memory_order_acquire);
    out->ready = atomic_load_explicit(&s->ready, memory_order_acquire);
    out->connection = atomic_load_explicit(&s->connection, memory_order_relaxed);
    out->upstream_pid = atomic_load_explicit(&s->upstream_pid, memory_order_relaxed);
    out->producers = atomic_load_explicit(&s->producers, memory_order_relaxed);
    out->preferred = atomic_load_explicit(&s->preferred, memory_order_relaxed);
    out->asleep = (atomic_load_explicit(&s->asleep, memory_order_relaxed) & WAKE_BITS) != 0;
    out->heartbeat_ns = atomic_load_explicit(&s->heartbeat_ns, memory_order_relaxed);
    out->metadata_tail = atomic_load_explicit(&s->meta_tail, memory_order_acquire);
    out->inbox_tail = atomic_load_explicit(&s->inbox_tail, memory_order_acquire);
    out->metadata_head = atomic_load_explicit(&s->meta_head, memory_order_relaxed);
    out->inbox_head = atomic_load_explicit(&s->inbox_head, memory_order_relaxed);
    for (size_t i = 0; i < SLUICE_COUNTERS; i++)
        out->counters[i] = atomic_load_explicit(&s->counters[i], memory_order_relaxed);
    read_text(s, &text);
    copy_text(out, &text);
}

void sluice_channel_state(const struct sluice_channel *ch, struct sluice_state *out)
{
    sluice_state_read(ch->header, ch->shared, out);
}
