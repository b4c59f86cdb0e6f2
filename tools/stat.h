/*
 * What sluice stat shows, for others that show it.
 */
#ifndef SLUICE_TOOLS_STAT_H
#define SLUICE_TOOLS_STAT_H

#include <sluice/channel.h>
#include <stdio.h>

/** A state block of this process's engine as text. Not by two threads at once. */
void stat_print(FILE *to, const struct sluice_state *state);

#endif
