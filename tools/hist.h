/*
 * A log-linear histogram of durations: 1 ns to 60 s at three significant digits, as HdrHistogram
 * lays it out. Recording is two shifts and an increment; the largest value is kept exactly.
 */
#ifndef SLUICE_TOOLS_HIST_H
#define SLUICE_TOOLS_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_SUB_BITS    11u /* 2048 steps to each power of two: 3 significant digits */
#define HIST_SUB_BUCKETS (1u << HIST_SUB_BITS)
#define HIST_HALF        (HIST_SUB_BUCKETS / 2)
#define HIST_MAX_NS      60000000000ull
#define HIST_BUCKETS     26u /* the first and 25 powers of two above it, up to 2^36 ns > 60 s */
#define HIST_COUNTS      (HIST_SUB_BUCKETS + (HIST_BUCKETS - 1) * HIST_HALF)

/* All zero is empty. */
struct hist {
    uint64_t count, max;
    uint32_t end; /* behind the highest index that counts something */
    uint32_t counts[HIST_COUNTS];
};

/** Values above HIST_MAX_NS count as HIST_MAX_NS, but max keeps them as they are. */
void hist_record(struct hist *h, uint64_t ns);

/** Everything of another one, too. */
void hist_add(struct hist *h, const struct hist *other);

/** Empty it; costs what is in it. */
void hist_clear(struct hist *h);

/** The least value that percent of all are not above; 0 when empty. 100: the largest, exactly. */
uint64_t hist_percentile(const struct hist *h, double percent);

/** Mean, each value taken as the middle of where it counts; 0 when empty. */
double hist_mean(const struct hist *h);

/** HdrHistogram's text: value in microseconds, percentile, count so far, 1 / (1 - percentile). */
void hist_write(const struct hist *h, FILE *out);

#endif
