/*
 * Figure: messages of 1 KiB through a byte ring (MSG_OUTBOX: client claims, writes, holds or
 * commits; engine refreshes, reads slots and bytes, consumes) against two threads that hand over
 * the same bytes with bare memcpy and one flag per 64 KiB.
 *
 * Both write from the same source into 1 MiB of ring, both readers add up every word, and both
 * publish once per 64 KiB: the reference by its flag (16 blocks of 64 KiB, one flag each), ours by
 * committing the last of 64 messages. Beside it: every message committed by itself.
 */
#include "bench.h"
#include "rings/engine.h"

#include <errno.h>
#include <string.h>

#define RING_BYTES    (1u << 20)
#define BLOCK_BYTES   (64u << 10)
#define BLOCKS        (RING_BYTES / BLOCK_BYTES)
#define MESSAGE_BYTES 1024u
#define PER_BLOCK     (BLOCK_BYTES / MESSAGE_BYTES)

/* full[i] counts the times block i was filled and emptied: odd while it is full. */
static struct {
    struct {
        _Alignas(128) _Atomic uint64_t changes;
    } full[BLOCKS];
    _Alignas(4096) uint8_t bytes[RING_BYTES];
} blocks;
static uint64_t blocks_so_far;

static _Alignas(4096) uint8_t source[RING_BYTES];
static struct sluice_channel *channel;
static struct sluice_client *client;

static struct bench_gate gate;
static uint64_t bytes_per_round;

static uint64_t add_up(const uint8_t *bytes, uint64_t count)
{
    uint64_t sum = 0, word;
    for (uint64_t i = 0; i < count; i += sizeof(word)) {
        memcpy(&word, bytes + i, sizeof(word));
        sum += word;
    }
    return sum;
}

/* ---- reference ---- */

static void write_blocks(void)
{
    for (uint64_t at = 0; at < bytes_per_round; at += BLOCK_BYTES) {
        uint64_t n = blocks_so_far + at / BLOCK_BYTES;
        uint64_t i = n % BLOCKS;
        while (atomic_load_explicit(&blocks.full[i].changes, memory_order_acquire) !=
               n / BLOCKS * 2)
            ;
        for (uint64_t k = 0; k < BLOCK_BYTES; k += MESSAGE_BYTES)
            memcpy(blocks.bytes + i * BLOCK_BYTES + k, source + (at + k) % RING_BYTES,
                   MESSAGE_BYTES);
        atomic_store_explicit(&blocks.full[i].changes, n / BLOCKS * 2 + 1, memory_order_release);
    }
}

static uint64_t read_blocks(void)
{
    uint64_t sum = 0;
    for (uint64_t at = 0; at < bytes_per_round; at += BLOCK_BYTES) {
        uint64_t n = blocks_so_far + at / BLOCK_BYTES;
        uint64_t i = n % BLOCKS;
        while (atomic_load_explicit(&blocks.full[i].changes, memory_order_acquire) !=
               n / BLOCKS * 2 + 1)
            ;
        for (uint64_t k = 0; k < BLOCK_BYTES; k += MESSAGE_BYTES)
            sum += add_up(blocks.bytes + i * BLOCK_BYTES + k, MESSAGE_BYTES);
        atomic_store_explicit(&blocks.full[i].changes, n / BLOCKS * 2 + 2, memory_order_release);
    }
    return sum;
}

/* ---- ours ---- */

static void write_messages(uint64_t per_commit)
{
    for (uint64_t at = 0, held = 0; at < bytes_per_round; at += MESSAGE_BYTES) {
        void *room;
        int err;
        while ((err = sluice_outbox_claim(client, MESSAGE_BYTES, &room)) == -EAGAIN)
            ;
        BENCH_CHECK(err == 0);
        memcpy(room, source + at % RING_BYTES, MESSAGE_BYTES);
        if (++held < per_commit) {
            sluice_outbox_hold(client, 1, SLUICE_MESSAGE_DATA);
        } else {
            sluice_outbox_commit(client, 1, SLUICE_MESSAGE_DATA);
            held = 0;
        }
    }
}

/* As tx.c does: a run of whole messages up to 64 KiB, then give it back. */
static uint64_t read_run(struct sluice_outbox *box, uint64_t *sum)
{
    uint64_t bytes = 0, messages = 0;
    int64_t unread = sluice_outbox_refresh(box);
    BENCH_CHECK(unread >= 0);
    for (; messages < (uint64_t)unread && bytes < BLOCK_BYTES; messages++) {
        struct sluice_message m;
        BENCH_CHECK(sluice_outbox_slot(box, messages, bytes, &m) == 0);
        uint64_t at = (box->byte_head + bytes) & (box->byte_count - 1);
        *sum += add_up(box->base + at, m.bytes);
        bytes += m.bytes;
    }
    if (messages)
        sluice_outbox_consume(box, bytes, messages);
    return bytes;
}

static uint64_t read_messages(void)
{
    struct sluice_outbox *box = &channel->writers[channel->upstream].outbox;
    uint64_t sum = 0;
    for (uint64_t at = 0; at < bytes_per_round;)
        at += read_run(box, &sum);
    return sum;
}

/* ---- rounds ---- */

enum variant { REFERENCE, COMMIT_64, COMMIT_1, VARIANTS };

static void *write_all(void *arg)
{
    enum variant v = *(enum variant *)arg;
    bench_meet(&gate);
    if (v == REFERENCE)
        write_blocks();
    else
        write_messages(v == COMMIT_64 ? PER_BLOCK : 1);
    return NULL;
}

/* GB/s. */
static double run(enum variant v, uint64_t expected)
{
    pthread_t writer = bench_start(write_all, &v);
    bench_meet(&gate);
    uint64_t start = sluice_cycles();
    uint64_t sum = v == REFERENCE ? read_blocks() : read_messages();
    double ns = bench_ns(sluice_cycles() - start);
    bench_join(writer);
    if (sum != expected)
        bench_fail("the reader's sum is not the writer's (variant %d)", v);
    if (v == REFERENCE)
        blocks_so_far += bytes_per_round / BLOCK_BYTES;
    return (double)bytes_per_round / ns;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bytes_per_round = bench_quick ? 64u << 20 : 512u << 20;
    const struct sluice_channel_config cfg = {.outbox_bytes = RING_BYTES};
    BENCH_CHECK(sluice_channel_create(&channel, &cfg) == 0);
    BENCH_CHECK(sluice_attach_local(&client, channel, SLUICE_UPSTREAM) == 0);
    for (size_t i = 0; i < sizeof(source); i++)
        source[i] = (uint8_t)(i * 2654435761u >> 11);
    uint64_t expected = add_up(source, sizeof(source)) * (bytes_per_round / RING_BYTES);

    double rate[VARIANTS][BENCH_ROUNDS];
    for (int v = 0; v < VARIANTS; v++)
        run((enum variant)v, expected); /* warm */
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            rate[v][i] = run((enum variant)v, expected);
        }
    }
    bench_say_ratio(
        &(struct bench_ratio){.name = "messages_1k",
                              .ours_text = "byte ring, 1 KiB messages, commit per 64 KiB",
                              .reference_text = "bare memcpy, one flag per 64 KiB",
                              .unit = "GB/s",
                              .ours = rate[COMMIT_64],
                              .reference = rate[REFERENCE],
                              .rounds = BENCH_ROUNDS,
                              .goal = BENCH_AT_LEAST,
                              .limit = 0.8});
    bench_say_beside("messages_1k_each", "byte ring, 1 KiB messages, each committed by itself",
                     "GB/s", rate[COMMIT_1], BENCH_ROUNDS);
    sluice_detach(client);
    sluice_channel_destroy(channel);
    return 0;
}
