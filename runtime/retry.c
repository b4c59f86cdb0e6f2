/*
 * How long to wait before the next attempt.
 */
#include "retry.h"

/* Of a nanosecond that nobody chose; the same one in the simulation. (splitmix64) */
static uint64_t scatter(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t sluice_retry_wait_ns(struct sluice_retry *r, uint64_t open_ns, uint64_t now_ns)
{
    if (open_ns >= r->lasted_ns) {
        r->failures = 0;
        return 0;
    }
    uint64_t wait_ns = r->first_ns;
    for (uint32_t i = 0; i < r->failures && wait_ns < r->max_ns; i++)
        wait_ns *= 2;
    if (wait_ns > r->max_ns)
        wait_ns = r->max_ns;
    r->failures++;
    return wait_ns - scatter(now_ns + r->failures) % (wait_ns / 2 + 1);
}
