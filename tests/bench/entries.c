/*
 * Figure: entries through MSG_METADATA against a textbook single-producer single-consumer queue of
 * items of the same 64 bytes, with one publish per item. Two pinned threads, the reader adds up
 * every word it is given.
 *
 * Ours: the engine calls sluice_inbox_arrived() for each entry and sluice_channel_flush() at the
 * end of its turn; the upstream peeks, adds, releases. Batch 1: one entry a turn, one release for
 * each. Batch 16: 16 entries a turn, the reader takes what is there and releases it once.
 *
 * The reference has the same duty: whoever publishes or releases then looks whether the other side
 * sleeps, which takes a full fence (as do plain C11 atomics, sequentially consistent). Shown as
 * well, without a goal: a queue whose two sides may never sleep, with release and acquire only.
 */
#include "bench.h"
#include "rings/entry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_BYTES 16u /* of DATA each speaks of: so few that MSG_INBOX never gates */
#define QUEUE_ITEMS 4096u
#define PEEK_MAX    256u

/* Cached indices: the other side's is read again only when the queue seems full or empty. */
struct queue {
    _Alignas(128) _Atomic uint64_t tail;
    uint64_t head_seen;
    _Alignas(128) _Atomic uint64_t head;
    uint64_t tail_seen;
    _Alignas(128) struct {
        uint64_t words[8];
    } items[QUEUE_ITEMS];
};

static struct queue queue;
static bool queue_may_sleep;
static _Atomic uint32_t queue_sleeper; /* never set: nobody sleeps here */
static struct sluice_channel *channel;
static struct sluice_client *client;
static uint64_t entries_so_far, items_so_far;

static struct bench_gate gate;
static uint64_t per_round;

/* What the reader must have added up for items first .. first + count. */
static uint64_t expected(uint64_t first, uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t n = first; n < first + count; n++)
        sum += 6 * n + 15 + n * ENTRY_BYTES + ENTRY_BYTES;
    return sum;
}

static uint64_t add_up(const void *item)
{
    uint64_t words[8];
    memcpy(words, item, sizeof(words));
    return words[0] + words[1] + words[2] + words[3] + words[4] + words[5] + words[6] +
           (uint32_t)words[7]; /* above the length: event, flags */
}

/* ---- reference ---- */

static void wake_sleeper(void)
{
    if (!queue_may_sleep)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    BENCH_CHECK(atomic_load_explicit(&queue_sleeper, memory_order_relaxed) == 0);
}

static void queue_put(uint64_t n)
{
    uint64_t tail = atomic_load_explicit(&queue.tail, memory_order_relaxed);
    while (tail - queue.head_seen == QUEUE_ITEMS)
        queue.head_seen = atomic_load_explicit(&queue.head, memory_order_acquire);
    uint64_t *words = queue.items[tail % QUEUE_ITEMS].words;
    for (uint64_t j = 0; j < 6; j++)
        words[j] = n + j;
    words[6] = n * ENTRY_BYTES;
    words[7] = ENTRY_BYTES;
    atomic_store_explicit(&queue.tail, tail + 1, memory_order_release);
    wake_sleeper();
}

static void *read_queue(void *arg)
{
    uint64_t sum = 0, head = atomic_load_explicit(&queue.head, memory_order_relaxed);
    bench_meet(&gate);
    for (uint64_t i = 0; i < per_round; i++, head++) {
        while (head == queue.tail_seen)
            queue.tail_seen = atomic_load_explicit(&queue.tail, memory_order_acquire);
        sum += add_up(&queue.items[head % QUEUE_ITEMS]);
        atomic_store_explicit(&queue.head, head + 1, memory_order_release);
        wake_sleeper();
    }
    *(uint64_t *)arg = sum;
    return NULL;
}

static void write_queue(void)
{
    for (uint64_t i = 0; i < per_round; i++)
        queue_put(items_so_far + i);
}

/* ---- ours ---- */

static void wait_for_room(void)
{
    struct sluice_inbox *in = &channel->inbox;
    while (in->meta_tail - in->meta_head + META_RESERVE >= in->entries)
        BENCH_CHECK(sluice_inbox_refresh(channel));
}

static void arrive(uint64_t n)
{
    const struct sluice_meta stamps = {.first_nic_timestamp_ns = n,
                                       .first_nic_frame_poll_cycle = n + 1,
                                       .latest_nic_timestamp_ns = n + 2,
                                       .latest_nic_frame_poll_cycle = n + 3,
                                       .latest_raw_frame_poll_cycle = n + 4,
                                       .ssl_read_cycle = n + 5};
    sluice_inbox_arrived(channel, &stamps, ENTRY_BYTES);
}

static void write_entries(uint64_t batch)
{
    for (uint64_t i = 0; i < per_round; i += batch) {
        for (uint64_t k = 0; k < batch; k++) {
            wait_for_room();
            arrive(entries_so_far + i + k);
        }
        sluice_channel_flush(channel);
    }
}

static uint64_t read_entries(uint32_t peek_max)
{
    uint64_t sum = 0;
    bench_meet(&gate);
    for (uint64_t i = 0; i < per_round;) {
        const struct sluice_meta *entries;
        int64_t count = sluice_inbox_peek(client, &entries, peek_max);
        if (count == 0)
            continue;
        BENCH_CHECK(count > 0);
        for (int64_t k = 0; k < count; k++)
            sum += add_up(&entries[k]);
        BENCH_CHECK(sluice_inbox_release(client, (uint32_t)count) == 0);
        i += (uint64_t)count;
    }
    return sum;
}

static void *read_entries_singly(void *arg)
{
    *(uint64_t *)arg = read_entries(1);
    return NULL;
}

static void *read_entries_many(void *arg)
{
    *(uint64_t *)arg = read_entries(PEEK_MAX);
    return NULL;
}

/* ---- rounds ---- */

enum variant { QUEUE, QUEUE_NO_SLEEP, BATCH_1, BATCH_16, VARIANTS };

/* Million items a second. */
static double run(enum variant v)
{
    static void *(*const readers[])(void *) = {read_queue, read_queue, read_entries_singly,
                                               read_entries_many};
    bool is_queue = v == QUEUE || v == QUEUE_NO_SLEEP;
    uint64_t *so_far = is_queue ? &items_so_far : &entries_so_far;
    queue_may_sleep = v == QUEUE;
    uint64_t sum = 0;
    pthread_t reader = bench_start(readers[v], &sum);
    bench_meet(&gate);
    uint64_t start = sluice_cycles();
    if (is_queue)
        write_queue();
    else
        write_entries(v == BATCH_1 ? 1 : 16);
    bench_join(reader);
    double ns = bench_ns(sluice_cycles() - start);
    if (sum != expected(*so_far, per_round))
        bench_fail("the reader's sum is not the writer's (variant %d)", v);
    *so_far += per_round;
    return (double)per_round * 1e3 / ns;
}

static void compare(const char *name, const char *text, const double *ours,
                    const double *queue_rate, const double *no_sleep_rate, double limit)
{
    struct bench_ratio ratio = {.name = name,
                                .ours_text = text,
                                .reference_text = "cached-index SPSC queue that may sleep",
                                .unit = "M/s",
                                .ours = ours,
                                .reference = queue_rate,
                                .rounds = BENCH_ROUNDS,
                                .goal = BENCH_AT_LEAST,
                                .limit = limit};
    bench_say_ratio(&ratio);
    ratio.reference_text = "the same queue, never sleeping";
    ratio.reference = no_sleep_rate;
    ratio.goal = BENCH_NO_GOAL;
    bench_say_ratio(&ratio);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    per_round = bench_quick ? 400000 : 2000000;
    const struct sluice_channel_config cfg = {.metadata_entries = QUEUE_ITEMS};
    BENCH_CHECK(sluice_channel_create(&channel, &cfg) == 0);
    BENCH_CHECK(sluice_attach_local(&client, channel, SLUICE_UPSTREAM) == 0);

    double rate[VARIANTS][BENCH_ROUNDS];
    for (int v = 0; v < VARIANTS; v++)
        run((enum variant)v); /* warm */
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            rate[v][i] = run((enum variant)v);
        }
    }
    compare("entries_batch_1", "metadata ring, 1 entry a turn, 1 release each", rate[BATCH_1],
            rate[QUEUE], rate[QUEUE_NO_SLEEP], 1.0);
    compare("entries_batch_16", "metadata ring, 16 entries a turn", rate[BATCH_16], rate[QUEUE],
            rate[QUEUE_NO_SLEEP], 2.5);
    sluice_detach(client);
    sluice_channel_destroy(channel);
    return 0;
}
