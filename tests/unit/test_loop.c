/*
 * The loop as its users have it, on every backend: timers, its life, posts, signals, nesting,
 * children of fork. What a turn does for a transport is test_transport.c's.
 */
#include "tests/support/loops.h"
#include "tests/support/memcheck.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOR_EACH_BACKEND(how) FOR_EACH_LOOP(LOOPS_SIM, &(struct sluice_loop_config){.idle = (how)})

TestSuite(loop, .timeout = 30);

Test(loop, every_backend_is_there)
{
    loops_are_all_there();
}

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
        /* both in one sleep on a busy machine */
        cr_expect_geq(loop->stats.sleeps, 1u, "%s: never slept", on);
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

/* ---- life ---- */

Test(loop, runs_once_until_something_is_done)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SPIN)
    {
        struct ticker a = {0};
        cr_expect_eq(sluice_loop_run_once(loop), 0, "%s: nothing is active", on);
        sluice_timer_init(&a.timer, loop, tick, &a);
        sluice_timer_start(&a.timer, SLUICE_NS_PER_MS, SLUICE_NS_PER_MS);
        for (int i = 1; i <= 3; i++) {
            while (a.fired < i)
                cr_assert_eq(sluice_loop_run_once(loop), 1, "%s", on);
            cr_expect_eq(a.fired, i);
        }
        sluice_loop_stop(loop);
        cr_expect_eq(sluice_loop_run_once(loop), 0, "%s: stopped before", on);
        sluice_timer_stop(&a.timer);
    }
}

#define POSTS 2000

struct numbered {
    struct sluice_post post;
    int number;
};

static struct numbered posts[POSTS];
static int posts_called;

static void called(struct sluice_post *post)
{
    const struct numbered *n = (const struct numbered *)(const void *)post;
    cr_expect_eq(n->number, posts_called, "%s: out of order", on);
    posts_called++;
    if (posts_called == POSTS)
        sluice_loop_stop(loop);
}

static void *post_all(void *arg)
{
    uint64_t seed = 1;
    (void)arg;
    for (int i = 0; i < POSTS; i++) {
        posts[i] = (struct numbered){.post.call = called, .number = i};
        sluice_loop_post(loop, &posts[i].post);
        if (random_below(&seed, 16) == 0)
            usleep(200); /* it falls asleep between */
    }
    return NULL;
}

Test(loop, posts_of_another_thread_wake_it_and_keep_their_order)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        struct ticker forever = {0};
        pthread_t thread;
        if (strcmp(on, "sim") == 0)
            continue; /* no other thread reaches into a simulated world */
        sluice_timer_init(&forever.timer, loop, tick, &forever);
        sluice_timer_start(&forever.timer, 20 * SLUICE_NS_PER_S, 0);
        posts_called = 0;
        cr_assert_eq(pthread_create(&thread, NULL, post_all, NULL), 0);
        cr_expect_eq(sluice_loop_run(loop), 0);
        pthread_join(thread, NULL);
        cr_expect_eq(posts_called, POSTS);
        cr_expect_eq(forever.fired, 0, "%s: a post was waited for", on);
        sluice_timer_stop(&forever.timer);
    }
}

static void post_again(struct sluice_post *post)
{
    if (++posts_called < 3)
        sluice_loop_post(loop, post);
}

Test(loop, runs_while_a_post_is_in_flight)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        struct sluice_post post = {.call = post_again};
        posts_called = 0;
        sluice_loop_post(loop, &post);
        cr_expect_eq(sluice_loop_run(loop), 0);
        cr_expect_eq(posts_called, 3, "%s: %d", on, posts_called);
    }
}

/* ---- nesting ---- */

static void *post_late(void *arg)
{
    usleep(20000);
    sluice_loop_post(loop, arg);
    return NULL;
}

static void count_post(struct sluice_post *post)
{
    (void)post;
    posts_called++;
}

/* As another loop does with a descriptor of ours: true, there was something to do, at once or
 * because it became readable. */
static bool wait_outside(int timeout_ms)
{
    int64_t timeout_ns;
    struct pollfd fd = {.fd = sluice_loop_fd(loop), .events = POLLIN};
    cr_assert_eq(sluice_loop_prepare_wait(loop, &timeout_ns), 0);
    if (timeout_ns >= 0 && timeout_ns < timeout_ms * (int64_t)SLUICE_NS_PER_MS)
        timeout_ms = (int)((timeout_ns + 999999) / (int64_t)SLUICE_NS_PER_MS);
    int n = poll(&fd, 1, timeout_ms);
    cr_assert_geq(n, 0);
    cr_assert_geq(sluice_loop_turn(loop), 0);
    return n > 0 || timeout_ns == 0;
}

Test(loop, nests_in_another_loop_by_its_descriptor)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        if (sluice_loop_fd(loop) == -ENOTSUP) {
            int64_t timeout_ns;
            cr_expect_eq(sluice_loop_prepare_wait(loop, &timeout_ns), -ENOTSUP);
            cr_expect(strcmp(on, "uring") && strcmp(on, "ev:epoll"), "%s has one", on);
            continue;
        }
        struct sluice_post post = {.call = count_post};
        struct ticker a = {0};
        pthread_t thread;
        posts_called = 0;
        while (wait_outside(10)) {
            /* what its making left */
        }
        cr_assert_eq(pthread_create(&thread, NULL, post_late, &post), 0);
        uint64_t began = sluice_loop_now_ns(loop);
        cr_expect(wait_outside(10000), "a post makes it readable");
        cr_expect_lt(sluice_loop_now_ns(loop) - began, 5 * SLUICE_NS_PER_S, "and wakes who waits");
        pthread_join(thread, NULL);
        cr_expect_eq(posts_called, 1);
        cr_expect_not(wait_outside(10), "and the turn unreadable");
        sluice_timer_init(&a.timer, loop, tick, &a);
        sluice_timer_start(&a.timer, 5 * SLUICE_NS_PER_MS, 0);
        cr_expect_not(wait_outside(10000), "the timeout is the timer's");
        cr_expect_eq(a.fired, 1);
        sluice_loop_stop(loop);
        cr_expect(wait_outside(10000), "so does stopping");
    }
}

static int echoed, nested_closed;

static void echo_back(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)user;
    cr_assert_eq(sluice_conn_write(c, buf->data, buf->bytes), 0);
}

static void say_ping(struct sluice_conn *c, void *user)
{
    (void)user;
    cr_assert_eq(sluice_conn_write(c, "ping", 4), 0);
}

static void ping_again(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)buf;
    if (++echoed < 200)
        say_ping(c, user);
}

static void note_closed(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    (void)c, (void)reason, (void)os_error, (void)user;
    nested_closed++;
}

/* Bytes on sockets wake who waits for the descriptor, as often as there are some and no more. */
Test(loop, connections_are_served_by_its_descriptor_alone)
{
    static const struct sluice_conn_events echoing = {.on_data = echo_back,
                                                      .on_close = note_closed};
    static const struct sluice_conn_events pinging = {
        .on_open = say_ping, .on_data = ping_again, .on_close = note_closed};
    FOR_EACH_LOOP(LOOPS_KERNEL, (&(struct sluice_loop_config){.conns_max = 4}))
    {
        struct sluice_listener *listener;
        struct sluice_conn *c;
        char url[64];
        const struct sluice_listen_config at = {.url = "tcp://127.0.0.1:0", .events = &echoing};
        if (sluice_loop_fd(loop) == -ENOTSUP)
            continue;
        echoed = nested_closed = 0;
        cr_assert_eq(sluice_listener_open(&listener, loop, &at, NULL, 0), 0);
        snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", sluice_listener_port(listener));
        const struct sluice_connect_config to = {.url = url, .events = &pinging};
        cr_assert_eq(sluice_conn_connect(&c, loop, &to, NULL, 0), 0);
        uint64_t began = sluice_loop_now_ns(loop);
        int waits = 0;
        for (; echoed < 200 && waits < 5000; waits++)
            wait_outside(1000);
        cr_expect_eq(echoed, 200, "%s: %d in %d waits", on, echoed, waits);
        cr_expect_lt(sluice_loop_now_ns(loop) - began, SLUICE_NS_PER_S,
                     "%s: a wait was slept through", on);
        for (waits = 0; waits < 20 && wait_outside(5); waits++) {
            /* what the last trip left */
        }
        cr_expect_lt(waits, 10, "%s: readable, though nothing is there", on);
        sluice_conn_close(c);
        for (waits = 0; nested_closed < 2 && waits < 100; waits++)
            wait_outside(100);
        cr_expect_eq(nested_closed, 2, "%s", on);
    }
}

/* ---- what cannot be had ---- */

Test(loop, polling_of_io_urings_is_refused_by_the_others)
{
    static const struct sluice_loop_config asked[] = {
        {.backend = "ev", .napi_busy_poll_us = 50},
        {.backend = "ev:poll", .sqpoll_idle_ms = 50},
        {.event = "epoll", .sqpoll_idle_ms = 50},
    };
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        struct sluice_loop *none;
        char why[200] = "";
        cr_expect_eq(sluice_loop_create(&none, &asked[i], why, sizeof(why)), -ENOTSUP);
        cr_expect_null(none);
        cr_expect_not_null(strstr(why, "io_uring's: leave them at 0"), "%s", why);
    }
    cr_expect_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &asked[0], 1), -ENOTSUP);
}

/* ---- who may use it ---- */

static void *turn_elsewhere(void *arg)
{
    *(int *)arg = sluice_loop_turn(loop);
    return NULL;
}

Test(loop, another_thread_is_refused)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        pthread_t thread;
        int said = 1;
        cr_expect_geq(sluice_loop_turn(loop), 0);
        cr_assert_eq(pthread_create(&thread, NULL, turn_elsewhere, &said), 0);
        pthread_join(thread, NULL);
        cr_expect_eq(said, -EPERM, "%s: %d", on, said);
        cr_expect_geq(sluice_loop_turn(loop), 0, "%s: its own is not", on);
    }
}

/* An op of the child's would stand in the parent's ring. */
static bool nothing_is_made(void)
{
    static const struct sluice_conn_events events = {0};
    struct sluice_conn *c;
    struct sluice_listener *l;
    struct sluice_signal *s;
    const struct sluice_connect_config to = {.url = "tcp://127.0.0.1:1", .events = &events};
    const struct sluice_listen_config at = {.url = "tcp://127.0.0.1:0", .events = &events};
    return sluice_conn_connect(&c, loop, &to, NULL, 0) == -ECHILD &&
           sluice_listener_open(&l, loop, &at, NULL, 0) == -ECHILD &&
           sluice_signal_create(&s, loop, SIGUSR1, NULL, NULL) == -ECHILD;
}

static int in_child(void)
{
    int64_t timeout_ns;
    bool refused = sluice_loop_turn(loop) == -ECHILD && sluice_loop_run(loop) == -ECHILD &&
                   sluice_loop_run_once(loop) == -ECHILD && sluice_loop_fd(loop) == -ECHILD &&
                   sluice_loop_prepare_wait(loop, &timeout_ns) == -ECHILD && nothing_is_made();
    sluice_loop_destroy(loop);
    if (!refused)
        return 1;
    const struct sluice_loop_config cfg = {0}; /* one of its own works */
    struct sluice_timer timer;
    if (sluice_loop_create(&loop, &cfg, NULL, 0))
        return 2;
    struct ticker a = {0};
    sluice_timer_init(&timer, loop, tick, &a);
    sluice_timer_start(&timer, 1000, 0);
    return sluice_loop_run(loop) == 0 && a.fired == 1 ? 0 : 3;
}

Test(loop, a_child_of_fork_is_refused)
{
    not_under_valgrind("minds that the child has the parent's loop and may not free it");
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        int status = -1;
        cr_expect_geq(sluice_loop_turn(loop), 0);
        pid_t child = fork();
        if (child == 0)
            _exit(in_child());
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_expect_eq(status, 0, "%s: exit code %d", on, WEXITSTATUS(status));
        cr_expect_geq(sluice_loop_turn(loop), 0, "%s: the parent's goes on", on);
    }
}

/* ---- signals ---- */

static int told[2];

static void on_signal(struct sluice_signal *s, void *user)
{
    int *count = user;
    (void)s;
    ++*count;
}

static void on_last_signal(struct sluice_signal *s, void *user)
{
    on_signal(s, user);
    sluice_signal_destroy(s); /* inside its own callback */
}

static int before;

static void handler_before(int number)
{
    before += number == SIGUSR1;
}

static void turns(struct sluice_loop *of)
{
    for (int i = 0; i < 4; i++)
        cr_assert_geq(sluice_loop_turn(of), 0);
}

Test(loop, a_signal_is_told_to_every_loop_and_then_to_whom_it_was_before)
{
    cr_assert_neq(signal(SIGUSR1, handler_before), SIG_ERR);
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        if (strcmp(on, "sim") == 0)
            continue; /* no signals in a simulated world */
        const struct sluice_loop_config cfg = {.backend = on};
        struct sluice_loop *other;
        struct sluice_signal *one, *two;
        told[0] = told[1] = before = 0;
        cr_assert_eq(sluice_loop_create(&other, &cfg, NULL, 0), 0);
        cr_assert_eq(sluice_signal_create(&one, loop, SIGUSR1, on_signal, &told[0]), 0);
        cr_assert_eq(sluice_signal_create(&two, other, SIGUSR1, on_last_signal, &told[1]), 0);
        turns(loop), turns(other);
        raise(SIGUSR1);
        turns(loop), turns(other);
        cr_expect_eq(told[0], 1, "%s: %d", on, told[0]);
        cr_expect_eq(told[1], 1, "%s: %d", on, told[1]);
        raise(SIGUSR1);
        turns(loop), turns(other);
        cr_expect_eq(told[0], 2, "%s: %d", on, told[0]);
        cr_expect_eq(told[1], 1, "%s: that one was destroyed", on);
        cr_expect_eq(before, 0);
        sluice_signal_destroy(one);
        raise(SIGUSR1);
        cr_expect_eq(before, 1, "%s: not as before", on);
        turns(loop);
        cr_expect_eq(told[0], 2);
        sluice_loop_destroy(other);
    }
}

Test(loop, a_signal_wakes_a_loop_that_sleeps_but_does_not_keep_it)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        if (strcmp(on, "sim") == 0)
            continue;
        struct sluice_signal *s;
        struct ticker a = {0};
        told[0] = 0;
        cr_assert_eq(sluice_signal_create(&s, loop, SIGALRM, on_signal, &told[0]), 0);
        cr_expect_eq(sluice_loop_run(loop), 0);
        sluice_timer_init(&a.timer, loop, tick, &a);
        sluice_timer_start(&a.timer, 5 * SLUICE_NS_PER_S, 0);
        ualarm(5000, 0);
        while (told[0] == 0 && a.fired == 0)
            cr_assert_geq(sluice_loop_run_once(loop), 0);
        cr_expect_eq(a.fired, 0, "%s: slept through it", on);
        sluice_timer_stop(&a.timer);
        sluice_signal_destroy(s); /* its memory goes with the loop */
    }
}

Test(loop, signals_nobody_can_handle_are_refused)
{
    FOR_EACH_BACKEND(SLUICE_IDLE_SLEEP)
    {
        struct sluice_signal *s;
        cr_expect_eq(sluice_signal_create(&s, loop, SIGKILL, on_signal, NULL), -EINVAL);
        cr_expect_eq(sluice_signal_create(&s, loop, 0, on_signal, NULL), -EINVAL);
        cr_expect_eq(sluice_signal_create(&s, loop, 12345, on_signal, NULL), -EINVAL);
        cr_expect_null(s);
        sluice_signal_destroy(NULL);
    }
}

Test(loop, more_signals_than_there_is_room_for_are_refused)
{
    struct sluice_signal *all[64], *more;
    cr_assert(loops_open("sim", &(struct sluice_loop_config){0}));
    for (int i = 0; i < 64; i++)
        cr_assert_eq(sluice_signal_create(&all[i], loop, SIGUSR1, on_signal, NULL), 0);
    cr_expect_eq(sluice_signal_create(&more, loop, SIGUSR1, on_signal, NULL), -ENOBUFS);
    sluice_signal_destroy(all[0]);
    cr_expect_eq(sluice_signal_create(&all[0], loop, SIGUSR1, on_signal, NULL), 0);
    for (int i = 0; i < 64; i++)
        sluice_signal_destroy(all[i]);
    loops_close();
}

Test(loop, limits_that_cannot_be_are_told)
{
    static const struct {
        struct sluice_loop_config cfg;
        const char *named;
    } rows[] = {
        {{.ops_max = 63}, "ops_max: 64 at least"},
        {{.conns_max = 1, .recv_bufs = 32769}, "recv_bufs: 32768 at most"},
        {{.conns_max = 1, .send_queue_bytes = UINT32_MAX}, "send_queue_bytes"},
        {{.backend = "kqueue"}, "no such backend"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char why[200];
        struct sluice_loop *none;
        cr_expect_eq(sluice_loop_create(&none, &rows[i].cfg, why, sizeof(why)), -EINVAL);
        cr_expect_null(none);
        cr_expect(strstr(why, rows[i].named) != NULL, "%s", why);
    }
}
