/*
 * Timers of one loop: order, stopping and starting within a call. The loop's use of them is seen in
 * tests/sim and tests/conformance.
 */
#include "timer.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <string.h>

struct named {
    struct sluice_timer timer; /* first: fire() gets it */
    char name;
    struct sluice_timer *stops, *starts; /* within its call */
    uint64_t starts_at;
};

static struct sluice_timers timers;
static struct named a, b, c, d;
static char fired[256];

static void fire(struct sluice_timer *timer)
{
    struct named *n = (struct named *)(void *)timer;
    size_t end = strlen(fired);
    cr_assert_lt(end, sizeof(fired) - 1);
    cr_assert_null(timer->link, "it does not run any more when it fires");
    fired[end] = n->name;
    if (n->stops)
        sluice_timer_stop(n->stops);
    if (n->starts)
        sluice_timer_start(&timers, n->starts, n->starts_at, fire);
}

static void set_up(void)
{
    memset(&timers, 0, sizeof(timers));
    memset(fired, 0, sizeof(fired));
    a = (struct named){.name = 'a'};
    b = (struct named){.name = 'b'};
    c = (struct named){.name = 'c'};
    d = (struct named){.name = 'd'};
}

TestSuite(timer, .init = set_up, .timeout = 10);

static void start(struct named *n, uint64_t due_ns)
{
    sluice_timer_start(&timers, &n->timer, due_ns, fire);
}

Test(timer, none_is_never_due)
{
    cr_expect_eq(sluice_timers_next(&timers), UINT64_MAX);
    cr_expect_not(sluice_timers_run(&timers, UINT64_MAX));
}

Test(timer, fires_once_at_its_time_and_not_before)
{
    start(&a, 100);
    cr_expect_eq(sluice_timers_next(&timers), 100u);
    cr_expect_not(sluice_timers_run(&timers, 99));
    cr_expect(sluice_timers_run(&timers, 100));
    cr_expect_not(sluice_timers_run(&timers, 1000));
    cr_expect_str_eq(fired, "a");
    cr_expect_eq(sluice_timers_next(&timers), UINT64_MAX);
}

Test(timer, start_never_fires)
{
    start(&a, 0);
    cr_expect_str_eq(fired, "");
    cr_expect(sluice_timers_run(&timers, 0));
    cr_expect_str_eq(fired, "a");
}

Test(timer, the_earliest_first_whatever_the_order_of_starting)
{
    struct named *all[] = {&a, &b, &c, &d};
    for (int order = 0; order < 24; order++) {
        set_up();
        int left = order;
        bool started[4] = {false};
        for (int i = 4; i > 0; i--) { /* the permutation of that number */
            int skip = left % i;
            left /= i;
            int k = 0;
            while (started[k] || skip-- > 0)
                k++;
            started[k] = true;
            start(all[k], 10 * ((uint64_t)k + 1));
        }
        cr_expect_eq(sluice_timers_next(&timers), 10u);
        cr_expect(sluice_timers_run(&timers, 39));
        cr_expect_str_eq(fired, "abc", "order %d", order);
        cr_expect_eq(sluice_timers_next(&timers), 40u);
    }
}

Test(timer, equal_times_in_the_order_of_starting)
{
    start(&b, 5);
    start(&a, 5);
    start(&c, 5);
    cr_expect(sluice_timers_run(&timers, 5));
    cr_expect_str_eq(fired, "bac");
}

Test(timer, stopped_ones_do_not_fire)
{
    start(&a, 1);
    start(&b, 2);
    start(&c, 3);
    sluice_timer_stop(&b.timer); /* in the middle */
    sluice_timer_stop(&b.timer); /* again is fine */
    sluice_timer_stop(&d.timer); /* never started is fine */
    cr_expect(sluice_timers_run(&timers, 10));
    cr_expect_str_eq(fired, "ac");
    sluice_timer_stop(&a.timer); /* fired already is fine */
    start(&a, 11);
    sluice_timer_stop(&a.timer); /* the only one */
    cr_expect_eq(sluice_timers_next(&timers), UINT64_MAX);
    cr_expect_not(sluice_timers_run(&timers, 20));
}

Test(timer, starting_again_moves_it)
{
    start(&a, 10);
    start(&b, 20);
    start(&a, 30);
    cr_expect_eq(sluice_timers_next(&timers), 20u);
    cr_expect(sluice_timers_run(&timers, 25));
    cr_expect_str_eq(fired, "b");
    start(&a, 26);
    cr_expect(sluice_timers_run(&timers, 30));
    cr_expect_str_eq(fired, "ba");
}

Test(timer, one_that_fires_may_stop_the_next)
{
    start(&a, 1);
    start(&b, 1);
    start(&c, 1);
    a.stops = &b.timer;
    cr_expect(sluice_timers_run(&timers, 1));
    cr_expect_str_eq(fired, "ac");
}

Test(timer, one_that_fires_may_start_itself_and_others)
{
    start(&a, 1);
    start(&b, 2);
    a.starts = &a.timer;
    a.starts_at = 10;
    b.starts = &c.timer;
    b.starts_at = 2; /* due already */
    cr_expect(sluice_timers_run(&timers, 5));
    cr_expect_str_eq(fired, "abc");
    cr_expect_eq(sluice_timers_next(&timers), 10u);
    a.starts = NULL;
    cr_expect(sluice_timers_run(&timers, 10));
    cr_expect_str_eq(fired, "abca");
}

/* Each turn is bounded, and those that are due have their turn beside it. */
Test(timer, one_that_is_always_due_starves_nobody)
{
    start(&a, 1);
    start(&b, 1);
    start(&c, 2);
    a.starts = &a.timer;
    a.starts_at = 2;
    cr_expect(sluice_timers_run(&timers, 2));
    cr_expect_not_null(strchr(fired, 'b'));
    cr_expect_not_null(strchr(fired, 'c'));
    cr_expect_lt(strlen(fired), 100u);
    cr_expect_eq(sluice_timers_next(&timers), 2u); /* on with it in the next turn */
}
