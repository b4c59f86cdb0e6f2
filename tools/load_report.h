/*
 * What sluice load says: a line or an object per second, a table or an object at the end.
 */
#ifndef SLUICE_TOOLS_LOAD_REPORT_H
#define SLUICE_TOOLS_LOAD_REPORT_H

#include "load.h"
#include "load_weather.h"

/** From and to: ns since what counts began. */
void report_interval(const struct load *load, const struct tally *t, int64_t from_ns,
                     int64_t to_ns);

/** After the last interval. carrier: what carried the bytes, one line. */
void report_summary(const struct load *load, const struct weather *w, const char *carrier);

/** --hgrm: 0, or an exit code after one line on stderr. */
int report_hgrm(const struct load *load);

/** --plot: the same. */
int report_plot(const struct load *load);

/** Whether the name tells what to draw: .svg, .png or .gp. */
bool plot_name_ok(const char *path);

/** --compare: the same. */
int load_compare(const char *path_a, const char *path_b);

#endif
