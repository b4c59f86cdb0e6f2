/*
 * A log-linear histogram of durations. The layout is HdrHistogram's: linear up to 2048, then 1024
 * steps to each power of two; and so is its text.
 */
#include "hist.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define TICKS_PER_HALF 5.0    /* lines of the text to each half of the distance to 100 % */
#define US             1000.0 /* ns */

static uint32_t index_of(uint64_t ns)
{
    if (ns > HIST_MAX_NS)
        ns = HIST_MAX_NS;
    if (ns < HIST_SUB_BUCKETS)
        return (uint32_t)ns;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(ns); /* at least HIST_SUB_BITS */
    uint32_t shift = top - HIST_SUB_BITS + 1;
    return HIST_SUB_BUCKETS + (shift - 1) * HIST_HALF + (uint32_t)(ns >> shift) - HIST_HALF;
}

void hist_record(struct hist *h, uint64_t ns)
{
    uint32_t index = index_of(ns);
    if (ns > h->max)
        h->max = ns;
    if (index >= h->end)
        h->end = index + 1;
    h->count++;
    h->counts[index]++;
}

void hist_add(struct hist *h, const struct hist *other)
{
    for (uint32_t i = 0; i < other->end; i++)
        h->counts[i] += other->counts[i];
    h->count += other->count;
    h->max = other->max > h->max ? other->max : h->max;
    h->end = other->end > h->end ? other->end : h->end;
}

void hist_clear(struct hist *h)
{
    memset(h->counts, 0, h->end * sizeof(h->counts[0]));
    h->count = h->max = h->end = 0;
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

static uint64_t median_at(uint32_t index)
{
    uint32_t shift = index < HIST_SUB_BUCKETS ? 0 : (index - HIST_SUB_BUCKETS) / HIST_HALF + 1;
    return highest_at(index) + 1 - (1ull << shift) + (1ull << shift >> 1);
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
    if (h->count == 0 || percent >= 100)
        return h->max;
    double exact = percent / 100 * (double)h->count;
    uint64_t rank = (uint64_t)exact, seen = 0;
    if (rank == 0 || exact - (double)rank > 1e-6) /* 99.9 is no binary fraction */
        rank++;
    for (uint32_t i = 0; i < h->end; i++) {
        seen += h->counts[i];
        if (seen >= rank)
            return highest_at(i) < h->max ? highest_at(i) : h->max;
    }
    return h->max;
}

double hist_mean(const struct hist *h)
{
    double sum = 0;
    for (uint32_t i = 0; i < h->end; i++)
        sum += (double)median_at(i) * h->counts[i];
    return h->count ? sum / (double)h->count : 0;
}

static double deviation(const struct hist *h, double mean)
{
    double sum = 0;
    for (uint32_t i = 0; i < h->end; i++) {
        double away = (double)median_at(i) - mean;
        sum += away * away * h->counts[i];
    }
    return h->count ? sqrt(sum / (double)h->count) : 0;
}

/* The next level to print behind this one: ticks shrink by half with each half distance to 100. */
static double level_after(double level)
{
    double ticks = TICKS_PER_HALF * exp2(floor(log2(100 / (100 - level))) + 1);
    return level + 100 / ticks;
}

static void write_levels(const struct hist *h, FILE *out)
{
    uint64_t seen = 0;
    double level = 0;
    for (uint32_t i = 0; i < h->end && seen < h->count; i++) {
        if (h->counts[i] == 0)
            continue;
        seen += h->counts[i];
        uint64_t value = highest_at(i) < h->max ? highest_at(i) : h->max;
        while (level < 100 && 100 * (double)seen / (double)h->count >= level) {
            fprintf(out, "%12.3f %2.12f %10" PRIu64 " %14.2f\n", (double)value / US, level / 100,
                    seen, 1 / (1 - level / 100));
            level = level_after(level);
            if (seen == h->count) /* all is said; 100 % has a line of its own */
                break;
        }
    }
    if (h->count)
        fprintf(out, "%12.3f %2.12f %10" PRIu64 "\n", (double)h->max / US, 1.0, h->count);
}

void hist_write(const struct hist *h, FILE *out)
{
    double mean = hist_mean(h);
    fputs("       Value     Percentile TotalCount 1/(1-Percentile)\n\n", out);
    write_levels(h, out);
    fprintf(out, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / US,
            deviation(h, mean) / US);
    fprintf(out, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n", (double)h->max / US,
            h->count);
    fprintf(out, "#[Buckets = %12u, SubBuckets     = %12u]\n", HIST_BUCKETS, HIST_SUB_BUCKETS);
}
