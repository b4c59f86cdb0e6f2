/*
 * The connections that sluice run is to have: its arguments, or the sections of its config file.
 */
#ifndef SLUICE_TOOLS_FEEDS_H
#define SLUICE_TOOLS_FEEDS_H

#include "engine.h"

#define FEEDS_MAX OPTION_ARGS_MAX

/**
 * Fill in name, URL and options of each.
 *
 * @return 0, or an exit code after one line on stderr.
 */
int feeds_read(const struct options *o, struct engine_feed feeds[FEEDS_MAX], uint32_t *count);

#endif
