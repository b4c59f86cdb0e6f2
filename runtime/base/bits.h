/*
 * Powers of two.
 */
#ifndef SLUICE_BASE_BITS_H
#define SLUICE_BASE_BITS_H

#include <stdint.h>

/* The least power of two that is not below n; n at most 2^31. */
static inline uint32_t sluice_round_up_power(uint64_t n)
{
    uint32_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

#endif
