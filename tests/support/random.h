/*
 * Numbers by seed, the same on every machine (splitmix64).
 */
#ifndef SLUICE_TESTS_RANDOM_H
#define SLUICE_TESTS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
    return random_next(state) % limit;
}

/* Between the two, both included. */
static inline uint32_t random_between(uint64_t *state, uint32_t least, uint32_t most)
{
    return least + (uint32_t)random_below(state, (uint64_t)most - least + 1);
}

/* What one lies with: near what is true, near the ends of the range, or anything. */
static inline uint64_t random_lie(uint64_t *state, uint64_t truth, uint64_t capacity)
{
    switch (random_below(state, 8)) {
    case 0:
        return truth;
    case 1:
        return truth + random_below(state, 3);
    case 2:
        return truth - 1 - random_below(state, 3);
    case 3:
        return truth + capacity;
    case 4:
        return truth + capacity + 1;
    case 5:
        return truth + random_below(state, capacity);
    case 6:
        return UINT64_MAX - random_below(state, 3);
    default:
        return random_next(state);
    }
}

static inline void random_fill(uint64_t *state, void *to, size_t bytes)
{
    uint8_t *at = to;
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)random_next(state);
}

#endif
