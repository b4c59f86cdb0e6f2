/*
 * Timers of one loop: a list sorted by due time. A loop of one engine has a handful of them.
 */
#ifndef SLUICE_TIMER_H
#define SLUICE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct sluice_timer {
    uint64_t due_ns; /* the loop's clock; meaningless when not running */
    void (*fire)(struct sluice_timer *timer);
    struct sluice_timer *next, **link; /* link: NULL when not running */
};

struct sluice_timers {
    struct sluice_timer *first;
};

/* (Re)start; fires once, never inside this call. */
void sluice_timer_start(struct sluice_timers *timers, struct sluice_timer *timer, uint64_t due_ns,
                        void (*fire)(struct sluice_timer *timer));
void sluice_timer_stop(struct sluice_timer *timer); /* not running is fine */

/* Run those that are due: true if any was. */
bool sluice_timers_run(struct sluice_timers *timers, uint64_t now_ns);

/* UINT64_MAX: none. */
uint64_t sluice_timers_next(const struct sluice_timers *timers);

#endif
