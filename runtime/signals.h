/*
 * Signals as callbacks of a loop: public (installs as sluice/signals.h).
 */
#ifndef SLUICE_SIGNALS_H
#define SLUICE_SIGNALS_H

#include "channel.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_loop;
struct sluice_signal;

/**
 * Have a signal of this process told by a loop. Any number of loops may ask for the same one: each
 * is told. What was to be done about it before is done again when the last of them is gone. It does
 * not keep the loop running.
 *
 * @param out        receives the watch, NULL on failure.
 * @param on_signal  called by the loop; once for several that came close together.
 * @return 0, or -EINVAL no such signal, or not one to be handled; -ENOBUFS 64 are watched already;
 *         -EAGAIN the loop has no room for one more operation; -ECHILD in a child of fork;
 *         -ENOMEM, -EMFILE.
 */
SLUICE_API int sluice_signal_create(struct sluice_signal **out, struct sluice_loop *loop,
                                    int number,
                                    void (*on_signal)(struct sluice_signal *s, void *user),
                                    void *user);

/** It is told no more. Also from inside a callback. NULL is fine. Thread: the loop's. */
SLUICE_API void sluice_signal_destroy(struct sluice_signal *s);

#ifdef __cplusplus
}
#endif
#endif
