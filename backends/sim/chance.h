/*
 * The simulation's dice: a seed, and the same throws every time.
 */
#ifndef SLUICE_SIM_CHANCE_H
#define SLUICE_SIM_CHANCE_H

#include <stdint.h>

/* xorshift64* (Vigna 2016, doi:10.1145/2845077); *state is never 0. */
static inline uint64_t sim_random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

static inline uint64_t sim_random_below(uint64_t *state, uint64_t limit)
{
    return (sim_random_next(state) >> 11) % limit;
}

#endif
