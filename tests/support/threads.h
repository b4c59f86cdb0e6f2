/*
 * What the thread tests have in common: how long they run, their seed, findings of a thread.
 */
#ifndef SLUICE_TESTS_THREADS_H
#define SLUICE_TESTS_THREADS_H

#include "base/check.h"
#include "base/clock.h"
#include "tests/support/long.h"
#include "tests/support/random.h"
#include "tests/support/tap.h"

#include <pthread.h>
#include <stdatomic.h>

/* Of its own each time, and printed: SLUICE_SEED=N in the environment runs that one. The threads
 * take turns as they like, so the same seed need not fail again. */
static inline uint64_t threads_seed(void)
{
    const char *given = getenv("SLUICE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : sluice_realtime_ns() % 1000000;
    tap_note("SLUICE_SEED=%llu", (unsigned long long)seed);
    return seed;
}

/* For how long one part runs: normally, and under --long. */
static inline uint64_t threads_deadline(uint64_t ms, uint64_t long_ms)
{
    return sluice_monotonic_ns() + (is_long() ? long_ms : ms) * SLUICE_NS_PER_MS;
}

/* The first thing that a thread found wrong. The text is a literal. */
struct finding {
    const char *text;
    uint64_t at;
};

static inline bool found(struct finding *f, bool wrong, const char *text, uint64_t at)
{
    if (wrong && !f->text)
        *f = (struct finding){.text = text, .at = at};
    return wrong;
}

static inline void tap_finding(const struct finding *f, const char *what)
{
    if (!tap_ok(!f->text, "%s", what))
        tap_note("%s, at %llu", f->text, (unsigned long long)f->at);
}

static inline void must(int err)
{
    SLUICE_CHECK(err == 0);
}

static inline void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    must(pthread_create(thread, NULL, run, arg));
}

static inline void join_thread(pthread_t thread)
{
    must(pthread_join(thread, NULL));
}

/* Nothing, a pause, or giving up the core: whatever brings the threads into another order. */
static inline void dawdle(uint64_t *seed)
{
    uint64_t what = random_below(seed, 64);
    if (what == 0)
        sched_yield();
    else if (what < 8)
        for (uint64_t i = random_below(seed, 200); i > 0; i--)
            sluice_pause();
}

#endif
