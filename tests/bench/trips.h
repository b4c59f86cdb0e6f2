/*
 * Round trips through the whole engine, in line with its upstream in one busy thread.
 */
#ifndef BENCH_TRIPS_H
#define BENCH_TRIPS_H

#include "whole.h"

/** Send `bytes`, wait until they are back, `trips` times; ns receives the duration of each. The
 *  configuration's attach and events are set here. */
void trips_in_line(const struct engine_config *cfg, uint32_t bytes, int trips, double *ns);

#endif
