/*
 * A sluice loop inside a libev loop, both on one thread: a timer of each prints in turn. libev
 * sleeps; before it does, sluice says how long it may (ev_prepare), and after it sluice has its
 * turn (ev_check).
 */
#include <sluice/sluice.h>

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nested {
    struct sluice_loop *loop;
    ev_prepare before;
    ev_check after;
    ev_io readable;
    ev_timer due;
};

static void on_wake(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev, (void)io, (void)events; /* libev is awake: that is all, after_wait() follows */
}

static void on_due(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)timer, (void)events;
}

static void before_wait(struct ev_loop *ev, ev_prepare *prepare, int events)
{
    struct nested *n = prepare->data;
    int64_t timeout_ns;
    (void)events;
    ev_timer_stop(ev, &n->due);
    int err = sluice_loop_prepare_wait(n->loop, &timeout_ns);
    if (err) {
        fprintf(stderr, "nest_libev: %s\n", strerror(-err));
        ev_break(ev, EVBREAK_ALL);
    } else if (timeout_ns >= 0) {
        ev_now_update(ev);
        ev_timer_set(&n->due, (double)timeout_ns / 1e9, 0.);
        ev_timer_start(ev, &n->due);
    }
}

static void after_wait(struct ev_loop *ev, ev_check *check, int events)
{
    struct nested *n = check->data;
    (void)events;
    if (sluice_loop_turn(n->loop) < 0)
        ev_break(ev, EVBREAK_ALL);
}

static int nest(struct nested *n, struct ev_loop *ev)
{
    int fd = sluice_loop_fd(n->loop);
    if (fd < 0)
        return fd; /* BACKEND=ev:poll has none */
    ev_prepare_init(&n->before, before_wait);
    ev_check_init(&n->after, after_wait);
    ev_io_init(&n->readable, on_wake, fd, EV_READ);
    ev_timer_init(&n->due, on_due, 0., 0.);
    n->before.data = n->after.data = n;
    ev_prepare_start(ev, &n->before);
    ev_check_start(ev, &n->after);
    ev_io_start(ev, &n->readable);
    return 0;
}

/* ---- something to see ---- */

static int ticks;

static void tick(struct sluice_timer *timer)
{
    printf("sluice %d\n", ++ticks);
    if (ticks == 3) {
        sluice_timer_stop(timer);
        ev_break(timer->user, EVBREAK_ALL);
    }
}

static void tock(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)timer, (void)events;
    puts("libev");
}

int main(void)
{
    struct ev_loop *ev = ev_default_loop(0);
    struct nested n = {0};
    struct sluice_timer ours;
    ev_timer theirs;
    char why[160];
    if (sluice_loop_create(&n.loop, &(struct sluice_loop_config){.backend = getenv("BACKEND")}, why,
                           sizeof(why))) {
        fprintf(stderr, "nest_libev: %s\n", why);
        return EXIT_FAILURE;
    }
    int err = nest(&n, ev);
    if (err) {
        fprintf(stderr, "nest_libev: %s: %s\n", sluice_loop_backend(n.loop), strerror(-err));
        return EXIT_FAILURE;
    }
    sluice_timer_init(&ours, n.loop, tick, ev);
    sluice_timer_start(&ours, 10000000, 20000000);
    ev_now_update(ev); /* its idea of now is from before the loop was made */
    ev_timer_init(&theirs, tock, 0.020, 0.);
    ev_timer_start(ev, &theirs);
    ev_run(ev, 0);
    sluice_loop_destroy(n.loop);
    return ticks == 3 ? EXIT_SUCCESS : EXIT_FAILURE;
}
