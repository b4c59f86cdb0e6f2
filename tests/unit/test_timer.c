/*
 * The wheel of timers: order, stopping and starting within a call, and by seed against a sorted
 * list. The loop's use of it is tests/unit/test_loop.c's.
 */
#include "wheel.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

struct named {
    struct sluice_timer timer; /* first: fire() gets it */
    char name;
    struct sluice_timer *stops, *starts; /* within its call */
    uint64_t starts_at;
};

static struct sluice_wheel wheel;
static struct named a, b, c, d;
static char fired[256];

static void fire(struct sluice_timer *timer)
{
    struct named *n = (struct named *)(void *)timer;
    size_t end = strlen(fired);
    cr_assert_lt(end, sizeof(fired) - 1);
    cr_assert_eq(timer->runs, timer->repeat_ns > 0, "it does not run any more when it fires");
    fired[end] = n->name;
    if (n->stops)
        sluice_timer_stop(n->stops);
    if (n->starts)
        sluice_wheel_start(&wheel, n->starts, n->starts_at);
}

static void set_up(void)
{
    memset(&wheel, 0, sizeof(wheel));
    memset(fired, 0, sizeof(fired));
    a = (struct named){.timer.fire = fire, .name = 'a'};
    b = (struct named){.timer.fire = fire, .name = 'b'};
    c = (struct named){.timer.fire = fire, .name = 'c'};
    d = (struct named){.timer.fire = fire, .name = 'd'};
}

TestSuite(timer, .init = set_up, .timeout = 10);

static void start(struct named *n, uint64_t due_ns)
{
    sluice_wheel_start(&wheel, &n->timer, due_ns);
}

Test(timer, none_is_never_due)
{
    cr_expect_eq(sluice_wheel_next(&wheel), UINT64_MAX);
    cr_expect_not(sluice_wheel_run(&wheel, UINT64_MAX));
}

Test(timer, fires_once_at_its_time_and_not_before)
{
    start(&a, 100);
    cr_expect_eq(sluice_wheel_next(&wheel), 100u);
    cr_expect_not(sluice_wheel_run(&wheel, 99));
    cr_expect(sluice_wheel_run(&wheel, 100));
    cr_expect_not(sluice_wheel_run(&wheel, 1000));
    cr_expect_str_eq(fired, "a");
    cr_expect_eq(sluice_wheel_next(&wheel), UINT64_MAX);
}

Test(timer, start_never_fires)
{
    start(&a, 0);
    cr_expect_str_eq(fired, "");
    cr_expect(sluice_wheel_run(&wheel, 0));
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
        cr_expect_eq(sluice_wheel_next(&wheel), 10u);
        cr_expect(sluice_wheel_run(&wheel, 39));
        cr_expect_str_eq(fired, "abc", "order %d", order);
        cr_expect_eq(sluice_wheel_next(&wheel), 40u);
    }
}

Test(timer, equal_times_in_the_order_of_starting)
{
    start(&b, 5);
    start(&a, 5);
    start(&c, 5);
    cr_expect(sluice_wheel_run(&wheel, 5));
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
    cr_expect(sluice_wheel_run(&wheel, 10));
    cr_expect_str_eq(fired, "ac");
    sluice_timer_stop(&a.timer); /* fired already is fine */
    start(&a, 11);
    sluice_timer_stop(&a.timer); /* the only one */
    cr_expect_eq(sluice_wheel_next(&wheel), UINT64_MAX);
    cr_expect_not(sluice_wheel_run(&wheel, 20));
}

Test(timer, starting_again_moves_it)
{
    start(&a, 10);
    start(&b, 20);
    start(&a, 30);
    cr_expect_eq(sluice_wheel_next(&wheel), 20u);
    cr_expect(sluice_wheel_run(&wheel, 25));
    cr_expect_str_eq(fired, "b");
    start(&a, 26);
    cr_expect(sluice_wheel_run(&wheel, 30));
    cr_expect_str_eq(fired, "ba");
}

Test(timer, one_that_fires_may_stop_the_next)
{
    start(&a, 1);
    start(&b, 1);
    start(&c, 1);
    a.stops = &b.timer;
    cr_expect(sluice_wheel_run(&wheel, 1));
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
    cr_expect(sluice_wheel_run(&wheel, 5));
    cr_expect_str_eq(fired, "abc");
    cr_expect_eq(sluice_wheel_next(&wheel), 10u);
    a.starts = NULL;
    cr_expect(sluice_wheel_run(&wheel, 10));
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
    cr_expect(sluice_wheel_run(&wheel, 2));
    cr_expect_not_null(strchr(fired, 'b'));
    cr_expect_not_null(strchr(fired, 'c'));
    cr_expect_lt(strlen(fired), 100u);
    cr_expect_eq(sluice_wheel_next(&wheel), 2u); /* on with it in the next turn */
}

/* ---- by seed, against a list in the order of due time, then of starting ---- */

#define MANY 500u

struct one {
    struct sluice_timer timer; /* first */
    uint64_t due_ns, order;
    bool runs;
};

struct trial {
    uint64_t seed, now_ns, orders;
    uint32_t fired;
    struct one all[MANY];
};

static struct trial trial;

static struct one *first_of_list(void)
{
    struct one *first = NULL;
    for (uint32_t i = 0; i < MANY; i++) {
        struct one *o = &trial.all[i];
        if (o->runs && (!first || o->due_ns < first->due_ns ||
                        (o->due_ns == first->due_ns && o->order < first->order)))
            first = o;
    }
    return first;
}

/* All distances: mostly few enough different ones that many are due together. */
static uint64_t some_time(void)
{
    uint32_t bits = random_between(&trial.seed, 0, random_below(&trial.seed, 8) ? 34 : 62);
    uint64_t in_ns = random_next(&trial.seed) >> (63 - bits);
    return random_below(&trial.seed, 2) ? in_ns : in_ns >> (bits / 2) << (bits / 2);
}

static void start_one(struct one *o)
{
    o->due_ns = trial.now_ns + some_time();
    o->order = trial.orders++;
    o->runs = true;
    sluice_wheel_start(&wheel, &o->timer, o->due_ns);
}

static void stop_one(struct one *o)
{
    o->runs = false;
    sluice_timer_stop(&o->timer);
}

static void step(void)
{
    struct one *o = &trial.all[random_below(&trial.seed, MANY)];
    if (random_below(&trial.seed, 3))
        start_one(o);
    else
        stop_one(o);
}

static void fire_one(struct sluice_timer *timer)
{
    struct one *o = (struct one *)(void *)timer;
    const struct one *expected = first_of_list();
    cr_assert_eq(o, expected, "fired the one due at %" PRIu64 ", not at %" PRIu64, o->due_ns,
                 expected ? expected->due_ns : 0);
    cr_assert_leq(o->due_ns, trial.now_ns);
    cr_assert_eq(timer->due_ns, o->due_ns);
    o->runs = false;
    trial.fired++;
    if (random_below(&trial.seed, 4) == 0)
        step();
}

/* Before, and exact where the slot is as small as it is here most of the time. */
static void look_at_next(uint32_t *exact, uint32_t *looks)
{
    const struct one *first = first_of_list();
    uint64_t next = sluice_wheel_next(&wheel);
    if (!first) {
        cr_assert_eq(next, UINT64_MAX);
        return;
    }
    cr_assert_leq(next, first->due_ns);
    *looks += 1;
    *exact += next == first->due_ns;
}

static void try_seed(uint64_t seed, uint32_t *exact, uint32_t *looks)
{
    memset(&wheel, 0, sizeof(wheel));
    memset(&trial, 0, sizeof(trial));
    trial.seed = seed;
    trial.now_ns = random_next(&trial.seed) >> random_between(&trial.seed, 2, 40);
    for (uint32_t i = 0; i < MANY; i++)
        trial.all[i].timer.fire = fire_one;
    for (int turn = 0; turn < 300; turn++) {
        for (uint64_t steps = random_below(&trial.seed, 20); steps > 0; steps--)
            step();
        look_at_next(exact, looks);
        const struct one *first = first_of_list();
        trial.now_ns = first && random_below(&trial.seed, 2) && first->due_ns > trial.now_ns
                           ? first->due_ns
                           : trial.now_ns + some_time() / 4;
        trial.fired = 0;
        sluice_wheel_run(&wheel, trial.now_ns);
        first = first_of_list();
        cr_assert_leq(trial.fired, 64u);
        cr_assert(!first || first->due_ns > trial.now_ns || trial.fired == 64,
                  "seed %" PRIu64 ": one that is due did not fire", seed);
    }
}

Test(timer, by_seed_as_a_sorted_list, .timeout = 60)
{
    uint32_t exact = 0, looks = 0;
    for (uint64_t seed = 1; seed <= 100; seed++)
        try_seed(seed, &exact, &looks);
    cr_expect_gt(looks, 10000u);
    cr_expect_gt(exact, looks - looks / 50, "%u of %u were exact", exact, looks);
}

/* However far away, one that is alone is known to the nanosecond, and nothing is due on the way. */
Test(timer, far_ones_are_exact)
{
    for (uint32_t bits = 0; bits < 63; bits++) {
        uint64_t due_ns = (1ull << bits) + 12345;
        set_up();
        start(&a, due_ns);
        start(&b, due_ns);
        cr_expect_eq(sluice_wheel_next(&wheel), due_ns);
        cr_expect_not(sluice_wheel_run(&wheel, due_ns - 1));
        cr_expect_eq(sluice_wheel_next(&wheel), due_ns);
        cr_expect(sluice_wheel_run(&wheel, due_ns));
        cr_expect_str_eq(fired, "ab");
    }
}

Test(timer, repeats_on_its_grid_and_makes_up_for_nothing)
{
    a.timer.repeat_ns = 10;
    start(&a, 5);
    cr_expect(sluice_wheel_run(&wheel, 5));
    cr_expect_eq(sluice_wheel_next(&wheel), 15u);
    cr_expect(sluice_wheel_run(&wheel, 48)); /* 15, 25, 35 and 45: once */
    cr_expect_str_eq(fired, "aa");
    cr_expect_eq(sluice_wheel_next(&wheel), 55u);
    a.stops = &a.timer;
    cr_expect(sluice_wheel_run(&wheel, 55));
    cr_expect_str_eq(fired, "aaa");
    cr_expect_eq(sluice_wheel_next(&wheel), UINT64_MAX);
    a.timer.repeat_ns = UINT64_MAX; /* never, not at once */
    start(&a, 60);
    a.stops = NULL;
    cr_expect(sluice_wheel_run(&wheel, 60));
    cr_expect_not(sluice_wheel_run(&wheel, 1ull << 62));
}

Test(timer, refs_are_of_those_that_run)
{
    b.timer.unref = true;
    start(&a, 1);
    start(&b, 1);
    start(&a, 2); /* moved, not counted twice */
    cr_expect_eq(wheel.refs, 1u);
    sluice_timer_unref(&a.timer);
    sluice_timer_unref(&a.timer);
    cr_expect_eq(wheel.refs, 0u);
    sluice_timer_ref(&a.timer);
    sluice_timer_ref(&b.timer);
    sluice_timer_ref(&d.timer); /* does not run */
    cr_expect_eq(wheel.refs, 2u);
    cr_expect(sluice_wheel_run(&wheel, 1));
    sluice_timer_stop(&a.timer);
    cr_expect_eq(wheel.refs, 0u);
}
