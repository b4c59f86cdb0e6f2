/*
 * The loop as its users have it, on every backend: timers. What a turn does for a transport is
 * test_transport.c's.
 */
#include "loop.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static const char *const backends[] = {"sim", "ev:epoll", "ev:poll", "ev:select", "uring"};

#define BACKENDS (sizeof(backends) / sizeof(backends[0]))

static struct sluice_loop *loop;
static const char *on; /* which backend */

/* False: this build or kernel has no such backend, and says so. */
static bool open_loop(const char *backend, enum sluice_idle idle)
{
    const struct sluice_loop_config cfg = {.backend = backend, .idle = idle};
    char why[256] = "";
    on = backend;
    int err = strcmp(backend, "sim") == 0
                  ? sluice_loop_create_on(&loop, &sluice_backend_sim, &cfg, 1)
                  : sluice_loop_create(&loop, &cfg, why, sizeof(why));
    if (err == -ENOSYS || err == -EPERM)
        cr_log_warn("not on %s: %s", backend, why);
    else
        cr_assert_eq(err, 0, "%s: %s", backend, why);
    return err == 0;
}

static void close_loop(void)
{
    sluice_loop_destroy(loop);
    loop = NULL;
}

#define FOR_EACH_BACKEND(idle)                              \
    for (size_t backend = 0; backend < BACKENDS; backend++) \
        if (open_loop(backends[backend], (idle)))           \
            for (; loop; close_loop())

TestSuite(loop, .timeout = 30);

/* ---- timers ---- */

struct ticker {
    struct sluice_timer timer;
    int fired;
    uint64_t at_ns[8];
};

static void tick(struct sluice_timer *timer)
{
    struct ticker *t = timer->user;
    if (t->fired < 8)
        t->at_ns[t->fired] = sluice_loop_now_ns(loop);
    t->fired++;
}

Test(loop, runs_while_a_timer_runs_and_sleeps_once_for_it)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        struct ticker a = {0}, b = {0};
        sluice_timer_init(&a.timer, loop, tick, &a);
        sluice_timer_init(&b.timer, loop, tick, &b);
        uint64_t began = sluice_loop_now_ns(loop);
        sluice_timer_start(&a.timer, 3 * SLUICE_NS_PER_MS, 0);
        sluice_timer_start(&b.timer, 20 * SLUICE_NS_PER_MS + 137, 0);
        cr_expect_eq(sluice_loop_run(loop), 0);
        cr_expect_eq(a.fired, 1, "%s: %d", on, a.fired);
        cr_expect_eq(b.fired, 1, "%s: %d", on, b.fired);
        cr_expect_geq(a.at_ns[0], began + 3 * SLUICE_NS_PER_MS, "%s: too early", on);
        cr_expect_geq(b.at_ns[0], began + 20 * SLUICE_NS_PER_MS + 137, "%s: too early", on);
        cr_expect_geq(loop->stats.sleeps, 2u);
        cr_expect_leq(loop->stats.sleeps, 4u, "%s: %d sleeps for two timers", on,
                      (int)loop->stats.sleeps);
    }
}

static void stop_at_three(struct sluice_timer *timer)
{
    struct ticker *t = timer->user;
    tick(timer);
    if (t->fired == 3)
        sluice_timer_stop(timer);
}

Test(loop, a_timer_that_repeats_keeps_it_running_until_stopped)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SPIN)
    {
        struct ticker a = {0};
        sluice_timer_init(&a.timer, loop, stop_at_three, &a);
        uint64_t began = sluice_loop_now_ns(loop);
        sluice_timer_start(&a.timer, SLUICE_NS_PER_MS, 2 * SLUICE_NS_PER_MS);
        cr_expect_eq(sluice_loop_run(loop), 0);
        cr_expect_eq(a.fired, 3, "%s: %d", on, a.fired);
        cr_expect_geq(a.at_ns[2], began + 5 * SLUICE_NS_PER_MS, "%s: off its grid", on);
    }
}

Test(loop, an_unrefd_timer_keeps_nothing_running)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        struct ticker a = {0}, b = {0};
        sluice_timer_init(&a.timer, loop, tick, &a);
        sluice_timer_init(&b.timer, loop, tick, &b);
        sluice_timer_unref(&a.timer);
        sluice_timer_start(&a.timer, 10 * SLUICE_NS_PER_S, SLUICE_NS_PER_S);
        cr_expect_eq(sluice_loop_run(loop), 0);
        sluice_timer_start(&b.timer, SLUICE_NS_PER_MS, 0);
        cr_expect_eq(sluice_loop_run(loop), 0);
        cr_expect_eq(a.fired, 0);
        cr_expect_eq(b.fired, 1);
    }
}
