/*
 * Other programs as contestants: run to their end, or started as a peer on the second core, and
 * numbers out of what they said.
 */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

#include "bench.h"

#include <stdio.h>
#include <sys/types.h>

/** Path of the sluice of this build. */
const char *command_sluice(void);

/** Run a shell's command to its end: what it printed on stdout, cut at 64 KiB; "" if it failed.
 *  Stays until the next call. */
__attribute__((format(printf, 1, 2))) const char *command_output(const char *format, ...);

/** The number behind key, which stands behind mark. Ends the program where there is none. */
double command_number(const char *text, const char *mark, const char *key);

/** Start a peer pinned to the second core: its stdout. */
pid_t command_start(char *const argv[], FILE **out);

/** Wait for its end; it was told to end, or ends by itself. */
void command_wait(pid_t pid, FILE *out);

/** A port that nobody has, for those that take no 0. */
uint16_t command_free_port(void);

#endif
