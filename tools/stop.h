/*
 * SIGINT and SIGTERM, as a number and a descriptor to poll. SIGPIPE is ignored: writes tell. What
 * to do about a signal is the command's.
 */
#ifndef SLUICE_TOOLS_STOP_H
#define SLUICE_TOOLS_STOP_H

#include <sluice/sluice.h>

/** Install the handlers: 0, or an exit code after one line on stderr. System calls return EINTR. */
int stop_install(void);

/** Signals so far. First: end in order. Second: at once. */
unsigned stop_count(void);

/** Readable after each signal, until stop_clear(). */
int stop_fd(void);
void stop_clear(void);

/** From now on a signal also stops this loop (NULL: none); one that came before, at once. */
void stop_loop(struct sluice_loop *loop);

#endif
