/*
 * Time: nanoseconds of CLOCK_MONOTONIC, and cycles (invariant TSC, or those nanoseconds where there
 * is none). Calibration happens once, at the first sluice_clock(). No timers here.
 */
#ifndef SLUICE_BASE_CLOCK_H
#define SLUICE_BASE_CLOCK_H

#include <stdint.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define SLUICE_NS_PER_S  1000000000ull
#define SLUICE_NS_PER_MS 1000000ull
#define SLUICE_NS_PER_US 1000ull

__extension__ typedef unsigned __int128 sluice_u128;

/* One reading of all three clocks taken together, and the rate that joins them. */
struct sluice_clock {
    uint64_t cycles;       /* TSC, or equal to monotonic_ns */
    uint64_t monotonic_ns; /* CLOCK_MONOTONIC at that moment */
    uint64_t realtime_ns;  /* CLOCK_REALTIME at that moment */
    uint64_t cycles_per_s; /* 1e9 when cycles are nanoseconds */
    uint64_t ns_mult;      /* ns = cycles * ns_mult >> 32 */
    uint32_t is_tsc;       /* 1: cycles are an invariant TSC */
    uint32_t pad;
};

/** The process's calibration; made at the first call (about 10 ms). Any thread. */
const struct sluice_clock *sluice_clock(void);

uint64_t sluice_monotonic_ns(void);
uint64_t sluice_realtime_ns(void);

extern uint32_t sluice_cycles_are_tsc; /* set by sluice_clock(); 0 before */

/** Cycles now. Call sluice_clock() once before. */
static inline uint64_t sluice_cycles(void)
{
#if defined(__x86_64__)
    if (__builtin_expect(sluice_cycles_are_tsc, 1))
        return __rdtsc();
#endif
    return sluice_monotonic_ns();
}

/** A difference in cycles as nanoseconds. */
static inline uint64_t sluice_cycles_to_ns(const struct sluice_clock *clk, uint64_t cycles)
{
    return (uint64_t)(((sluice_u128)cycles * clk->ns_mult) >> 32);
}

/** A reading of sluice_cycles() as CLOCK_MONOTONIC nanoseconds. */
static inline uint64_t sluice_cycles_to_monotonic(const struct sluice_clock *clk, uint64_t cycles)
{
    if (cycles >= clk->cycles)
        return clk->monotonic_ns + sluice_cycles_to_ns(clk, cycles - clk->cycles);
    return clk->monotonic_ns - sluice_cycles_to_ns(clk, clk->cycles - cycles);
}

/** Tell the core that this is a spin loop. */
static inline void sluice_pause(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
