/*
 * The machine, as far as it explains the figures: cores, clock, and what one cache line costs to go
 * to the other core and back. tools/bench runs it before and after everything else.
 */
#include "bench.h"
#include "line.h"

#include <stdio.h>
#include <unistd.h>

#define TRIPS 20000

static struct line_pair lines;
static double trips[TRIPS];

static void *answer(void *arg)
{
    (void)arg;
    line_answer(&lines, TRIPS);
    return NULL;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    double p50[BENCH_ROUNDS];
    pthread_t peer;
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        peer = bench_start(answer, NULL);
        line_ask(&lines, TRIPS, trips);
        bench_join(peer);
        p50[i] = bench_quantile(trips, TRIPS, 0.5);
    }
    const struct sluice_clock *clock = sluice_clock();
    printf("{\"kind\": \"machine\", \"cores\": %ld, \"pinned\": [%d, %d], \"cycles_per_s\": %llu, "
           "\"is_tsc\": %s}\n",
           sysconf(_SC_NPROCESSORS_ONLN), bench_cores[0], bench_cores[1],
           (unsigned long long)clock->cycles_per_s, clock->is_tsc ? "true" : "false");
    bench_say_beside("line_round_trip", "cache line to the other core and back, p50", "ns", p50,
                     BENCH_ROUNDS);
    return 0;
}
