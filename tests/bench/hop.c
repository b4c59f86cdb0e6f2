/*
 * Figure: one hop through MSG_METADATA, half of a round trip through two channels, against half of
 * a bare round trip of a cache line. Two pinned threads; each side is an engine on one channel and
 * the upstream of the other, and does all that either does: arrived, flush; peek, release.
 */
#include "bench.h"
#include "line.h"
#include "rings/entry.h"

#define ENTRY_BYTES 16u
#define TRIPS_MAX   50000

static struct sluice_channel *there, *back;
static struct sluice_client *at_there, *at_back;
static struct bench_gate gate;
static struct line_pair lines;
static int trips;
static double ns[TRIPS_MAX];

static void put(struct sluice_channel *ch, uint64_t n)
{
    const struct sluice_meta stamps = {.first_nic_frame_poll_cycle = n};
    sluice_inbox_arrived(ch, &stamps, ENTRY_BYTES);
    sluice_channel_flush(ch);
}

static void get(struct sluice_client *c, uint64_t n)
{
    const struct sluice_meta *entry;
    int64_t count;
    while ((count = sluice_inbox_peek(c, &entry, 1)) == 0)
        ;
    BENCH_CHECK(count == 1 && entry->first_nic_frame_poll_cycle == n);
}

static void *answer_entries(void *arg)
{
    (void)arg;
    bench_meet(&gate);
    for (int i = 0; i < trips; i++) {
        get(at_there, (uint64_t)i);
        put(back, (uint64_t)i);
        sluice_inbox_release(at_there, 1);
    }
    return NULL;
}

static void ask_entries(void)
{
    bench_meet(&gate);
    for (int i = 0; i < trips; i++) {
        uint64_t start = sluice_cycles();
        put(there, (uint64_t)i);
        get(at_back, (uint64_t)i);
        ns[i] = (double)(sluice_cycles() - start);
        sluice_inbox_release(at_back, 1);
    }
    for (int i = 0; i < trips; i++)
        ns[i] = bench_ns((uint64_t)ns[i]);
}

static void *answer_lines(void *arg)
{
    (void)arg;
    line_answer(&lines, trips);
    return NULL;
}

/* Half of the round trip's p50. */
static double run(bool ours)
{
    pthread_t peer = bench_start(ours ? answer_entries : answer_lines, NULL);
    if (ours)
        ask_entries();
    else
        line_ask(&lines, trips, ns);
    bench_join(peer);
    return bench_quantile(ns, (size_t)trips, 0.5) / 2;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    trips = bench_quick ? 10000 : TRIPS_MAX;
    const struct sluice_channel_config cfg = {0};
    BENCH_CHECK(sluice_channel_create(&there, &cfg) == 0);
    BENCH_CHECK(sluice_channel_create(&back, &cfg) == 0);
    BENCH_CHECK(sluice_attach_local(&at_there, there, SLUICE_UPSTREAM) == 0);
    BENCH_CHECK(sluice_attach_local(&at_back, back, SLUICE_UPSTREAM) == 0);

    double p50[2][BENCH_ROUNDS];
    run(false);
    run(true);
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        for (int k = 0; k < 2; k++) {
            int ours = bench_order(i, k, 2);
            p50[ours][i] = run(ours);
        }
    }
    bench_say_ratio(&(struct bench_ratio){.name = "hop",
                                          .ours_text = "one hop through the metadata ring, p50",
                                          .reference_text = "half a cache-line round trip, p50",
                                          .unit = "ns",
                                          .ours = p50[1],
                                          .reference = p50[0],
                                          .rounds = BENCH_ROUNDS,
                                          .goal = BENCH_AT_MOST,
                                          .limit = 1.5});
    sluice_detach(at_there);
    sluice_detach(at_back);
    sluice_channel_destroy(there);
    sluice_channel_destroy(back);
    return 0;
}
