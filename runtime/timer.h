/*
 * Timers: public (installs as sluice/timer.h). A timer is memory of yours, embedded where it
 * belongs; starting and stopping allocate nothing and cost the same with one timer as with a
 * million.
 */
#ifndef SLUICE_TIMER_H
#define SLUICE_TIMER_H

#include "channel.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_loop;

/** 64 bytes. All but `user` is the loop's: see sluice_timer_init(). */
struct sluice_timer {
    void *user; /* yours */
    void (*fire)(struct sluice_timer *timer);
    uint64_t due_ns; /* CLOCK_MONOTONIC; meaningless when it does not run */
    uint64_t repeat_ns;
    struct sluice_wheel *wheel;
    struct sluice_timer *next, *prev;
    uint16_t slot;
    bool runs, unref;
    uint32_t reserved;
};

/**
 * Set up a timer. It does not run yet.
 *
 * @param timer  yours, for as long as it runs; neither copied nor freed meanwhile.
 * @param loop   whose thread alone uses the timer from now on; borrowed.
 * @param fire   called by the loop when it is due; may start or stop any timer, and free this one
 *               if it is not running (again).
 */
SLUICE_API void sluice_timer_init(struct sluice_timer *timer, struct sluice_loop *loop,
                                  void (*fire)(struct sluice_timer *timer), void *user);

/**
 * Start it, or start it again with another time. Never fires inside this call. Timers fire in the
 * order of their due times, those of one time in the order of starting, at most 64 of them a turn.
 *
 * @param in_ns      from now, not from the beginning of the turn.
 * @param repeat_ns  0: once. Else on and on: first in in_ns, then every repeat_ns counted from
 *                   there; a loop that is late fires once, not once for each that was missed.
 */
SLUICE_API void sluice_timer_start(struct sluice_timer *timer, uint64_t in_ns, uint64_t repeat_ns);

/** Stop it: it does not fire. One that does not run, or is all zeros, is fine. */
SLUICE_API void sluice_timer_stop(struct sluice_timer *timer);

/** Whether a loop goes on running for this timer alone: it does unless sluice_timer_unref(). */
SLUICE_API void sluice_timer_unref(struct sluice_timer *timer);
SLUICE_API void sluice_timer_ref(struct sluice_timer *timer);

#ifdef __cplusplus
}
#endif
#endif
