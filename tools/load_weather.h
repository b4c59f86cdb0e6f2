/*
 * What the machine was like while sluice load measured, and whether that spoils the numbers.
 */
#ifndef SLUICE_TOOLS_LOAD_WEATHER_H
#define SLUICE_TOOLS_LOAD_WEATHER_H

#include "json.h"

#include <sched.h>

#define WEATHER_GAP_NS        50000u /* an idle spin that was away for longer */
#define WEATHER_DISTURBED_PPM 30000u /* of the time spent waiting for a core */

struct weather {
    char clock_source[32], governor[32]; /* "": not known */
    cpu_set_t cores;                     /* this process may use */
    uint32_t core_count;
    uint64_t hop_before_ns, hop_after_ns; /* a cache line to another core and back; 0: not known */
    uint64_t gaps_before_per_s, gaps_after_per_s;
    uint64_t gap_max_ns;
    uint64_t wait_ns, since_ns; /* for a core, of this thread; UINT64_MAX: not known */
    uint64_t wait_ppm;
};

/** Look around: before the load is pinned. */
void weather_look(struct weather *w);

/** Spin 100 ms to count gaps, and send a cache line back and forth. */
void weather_begin(struct weather *w);

/** When what counts begins, and when it ended: the time waited for a core in between. */
void weather_mark(struct weather *w);
void weather_marked(struct weather *w);

/** The same again. */
void weather_end(struct weather *w);

void weather_write(const struct weather *w, struct json *j);
void weather_print(const struct weather *w, FILE *out);

#endif
