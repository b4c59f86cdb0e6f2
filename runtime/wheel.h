/*
 * Timers in the order of their due times, to the nanosecond: a wheel of eleven levels of 64 slots.
 * A timer stands on the level of the highest digit (to the base 64) in which its due time differs
 * from the wheel's base, so all that a level holds is due before all of the level above. What a
 * timer is: timer.h.
 */
#ifndef SLUICE_WHEEL_H
#define SLUICE_WHEEL_H

#include "timer.h"

#define WHEEL_LEVELS 11u /* of 6 bits: any 64-bit time */
#define WHEEL_SLOTS  64u

struct sluice_wheel_slot {
    struct sluice_timer *first, *last; /* in the order of starting */
    uint64_t least_ns;                 /* none of them is due before */
};

/* Zeroed, it is empty. */
struct sluice_wheel {
    uint64_t next_ns;            /* nothing is due before; meaningless when it is empty */
    uint64_t now_ns;             /* of the last run */
    uint64_t base_ns;            /* no timer is due before */
    uint32_t refs;               /* timers that keep the loop running */
    uint32_t levels;             /* a bit for each that is not empty */
    uint64_t used[WHEEL_LEVELS]; /* a bit for each slot that is not empty */
    struct sluice_wheel_slot slots[WHEEL_LEVELS * WHEEL_SLOTS];
};

/* A time that never comes, rather than one that has passed. */
static inline uint64_t sluice_wheel_add(uint64_t from_ns, uint64_t in_ns)
{
    return in_ns < UINT64_MAX - from_ns ? from_ns + in_ns : UINT64_MAX;
}

/* One that runs is moved. What is due before the base is due at once. */
void sluice_wheel_start(struct sluice_wheel *wheel, struct sluice_timer *timer, uint64_t due_ns);

/* Fire what is due, 64 at most: true if any was. */
bool sluice_wheel_run(struct sluice_wheel *wheel, uint64_t now_ns);

/* When the first one is due, or earlier where one was stopped before more than 64 others in its
 * slot: then waking up then makes it exact. UINT64_MAX: none. */
uint64_t sluice_wheel_next(struct sluice_wheel *wheel);

#endif
