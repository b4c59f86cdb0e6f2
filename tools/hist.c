/*
 * A log-linear histogram of durations. The layout is HdrHistogram's: linear up to 2048, then 1024
 * steps to each power of two.
 */
#include "hist.h"

static uint32_t index_of(uint64_t ns)
{
    if (ns < HIST_SUB_BUCKETS)
        return (uint32_t)ns;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(ns); /* at least HIST_SUB_BITS */
    uint32_t shift = top - HIST_SUB_BITS + 1;
    return HIST_SUB_BUCKETS + (shift - 1) * HIST_HALF + (uint32_t)(ns >> shift) - HIST_HALF;
}

/* The largest value that counts at this index. */
static uint64_t highest_at(uint32_t index)
{
    if (index < HIST_SUB_BUCKETS)
        return index;
    uint32_t shift = (index - HIST_SUB_BUCKETS) / HIST_HALF + 1;
    uint64_t step = (index - HIST_SUB_BUCKETS) % HIST_HALF + HIST_HALF;
    return ((step + 1) << shift) - 1;
}

void hist_record(struct hist *h, uint64_t ns)
{
    if (ns > h->max)
        h->max = ns;
    h->count++;
    h->counts[index_of(ns < HIST_MAX_NS ? ns : HIST_MAX_NS)]++;
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
    if (h->count == 0 || percent >= 100)
        return h->max;
    double exact = percent / 100 * (double)h->count;
    uint64_t rank = (uint64_t)exact, seen = 0;
    if (rank == 0 || exact - (double)rank > 1e-6) /* 99.9 is no binary fraction */
        rank++;
    for (uint32_t i = 0; i < HIST_COUNTS; i++) {
        seen += h->counts[i];
        if (seen >= rank)
            return highest_at(i) < h->max ? highest_at(i) : h->max;
    }
    return h->max;
}
