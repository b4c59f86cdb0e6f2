/*
 * Calibration of the TSC against CLOCK_MONOTONIC, once per process.
 */
#include "base/clock.h"

#include <pthread.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

uint32_t sluice_cycles_are_tsc;

static struct sluice_clock the_clock;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint64_t read_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * SLUICE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t sluice_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t sluice_realtime_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

/* Intel SDM vol. 3, 18.17.1; AMD APM vol. 3, E.4.5: CPUID 80000007h EDX bit 8. */
static uint32_t tsc_is_invariant(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8)) != 0;
#else
    return 0;
#endif
}

/* Both clocks at one moment: of several tries keep the one that took least time. */
static void read_pair(uint64_t *cycles, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t before = sluice_cycles();
        uint64_t now = sluice_monotonic_ns();
        uint64_t after = sluice_cycles();
        if (after - before >= best)
            continue;
        best = after - before;
        *cycles = before + (after - before) / 2;
        *ns = now;
    }
}

static void calibrate(void)
{
    struct sluice_clock *clk = &the_clock;
    clk->is_tsc = sluice_cycles_are_tsc = tsc_is_invariant();
    clk->cycles_per_s = SLUICE_NS_PER_S;
    if (clk->is_tsc) {
        uint64_t c0, n0, c1, n1;
        read_pair(&c0, &n0);
        nanosleep(&(struct timespec){.tv_nsec = 10 * (long)SLUICE_NS_PER_MS}, NULL);
        read_pair(&c1, &n1);
        clk->cycles_per_s = (uint64_t)((sluice_u128)(c1 - c0) * SLUICE_NS_PER_S / (n1 - n0));
    }
    clk->ns_mult = (uint64_t)(((sluice_u128)SLUICE_NS_PER_S << 32) / clk->cycles_per_s);
    read_pair(&clk->cycles, &clk->monotonic_ns);
    clk->realtime_ns = sluice_realtime_ns();
}

const struct sluice_clock *sluice_clock(void)
{
    pthread_once(&once, calibrate);
    return &the_clock;
}
