/*
 * Figures: a million timers (a tenth of that with --quick), against libuv and libevent. Started and
 * cancelled in another order; started, then fired when all are due. Every loop has the same times,
 * in microseconds (libuv: in the milliseconds it has), on timers that stand in one array. The
 * reference of a round is the faster peer's.
 */
#include "bench.h"
#include "sluice.h"
#include "tests/support/random.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#define TIMERS    1000000u
#define SPREAD_US 500000u

struct kind {
    void (*start)(uint32_t i, uint32_t in_us);
    void (*stop)(uint32_t i);
    void (*turn)(void);
};

static uint32_t count, fired;
static uint32_t *in_us, *order;

/* ---- ours ---- */

static struct sluice_loop *loop;
static struct sluice_timer *timers;

static void on_ours(struct sluice_timer *timer)
{
    (void)timer;
    fired++;
}

static void start_ours(uint32_t i, uint32_t us)
{
    sluice_timer_start(&timers[i], us * SLUICE_NS_PER_US, 0);
}

static void stop_ours(uint32_t i)
{
    sluice_timer_stop(&timers[i]);
}

static void turn_ours(void)
{
    BENCH_CHECK(sluice_loop_turn(loop) >= 0);
}

static void open_ours(void)
{
    const struct sluice_loop_config cfg = {.idle = SLUICE_IDLE_BUSY};
    BENCH_CHECK(sluice_loop_create(&loop, &cfg, NULL, 0) == 0);
    timers = calloc(count, sizeof(*timers));
    BENCH_CHECK(timers);
    for (uint32_t i = 0; i < count; i++)
        sluice_timer_init(&timers[i], loop, on_ours, NULL);
}

/* ---- libuv ---- */

static uv_loop_t uv;
static uv_timer_t *uv_timers;

static void on_uv(uv_timer_t *timer)
{
    (void)timer;
    fired++;
}

static void start_uv(uint32_t i, uint32_t us)
{
    uv_timer_start(&uv_timers[i], on_uv, us / 1000, 0);
}

static void stop_uv(uint32_t i)
{
    uv_timer_stop(&uv_timers[i]);
}

static void turn_uv(void)
{
    uv_run(&uv, UV_RUN_NOWAIT);
}

static void open_uv(void)
{
    BENCH_CHECK(uv_loop_init(&uv) == 0);
    uv_timers = calloc(count, sizeof(*uv_timers));
    BENCH_CHECK(uv_timers);
    for (uint32_t i = 0; i < count; i++)
        BENCH_CHECK(uv_timer_init(&uv, &uv_timers[i]) == 0);
}

/* ---- libevent ---- */

static struct event_base *base;
static struct event *events;

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    fired++;
}

static void start_event(uint32_t i, uint32_t us)
{
    const struct timeval in = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    event_add(&events[i], &in);
}

static void stop_event(uint32_t i)
{
    event_del(&events[i]);
}

static void turn_event(void)
{
    BENCH_CHECK(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
}

static void open_event(void)
{
    base = event_base_new();
    events = calloc(count, sizeof(*events));
    BENCH_CHECK(base && events);
    for (uint32_t i = 0; i < count; i++)
        BENCH_CHECK(event_assign(&events[i], base, -1, 0, on_event, NULL) == 0);
}

/* ---- */

static const struct kind kinds[] = {
    {start_ours, stop_ours, turn_ours},
    {start_uv, stop_uv, turn_uv},
    {start_event, stop_event, turn_event},
};

#define KINDS 3

static void start_all(const struct kind *k)
{
    k->turn(); /* its idea of now */
    for (uint32_t i = 0; i < count; i++)
        k->start(i, in_us[i]);
}

static double per_timer(uint64_t cycles)
{
    return bench_ns(cycles) / count;
}

static double cancel(const struct kind *k)
{
    uint64_t began = sluice_cycles();
    start_all(k);
    for (uint32_t i = 0; i < count; i++)
        k->stop(order[i]);
    return per_timer(sluice_cycles() - began);
}

/* Without the time in which they become due. */
static double fire(const struct kind *k)
{
    fired = 0;
    uint64_t began = sluice_cycles();
    start_all(k);
    uint64_t took = sluice_cycles() - began;
    usleep(SPREAD_US + 1000);
    began = sluice_cycles();
    while (fired < count)
        k->turn();
    return per_timer(took + sluice_cycles() - began);
}

static void say(const char *name, const char *text, double values[KINDS][BENCH_ROUNDS])
{
    double best[BENCH_ROUNDS];
    for (int i = 0; i < BENCH_ROUNDS; i++)
        best[i] = values[1][i] < values[2][i] ? values[1][i] : values[2][i];
    bench_say_ratio(&(struct bench_ratio){.name = name,
                                          .ours_text = text,
                                          .reference_text = "the faster of libuv and libevent",
                                          .unit = "ns",
                                          .ours = values[0],
                                          .reference = best,
                                          .rounds = BENCH_ROUNDS,
                                          .goal = BENCH_AT_MOST,
                                          .limit = 1.0});
    bench_say_beside(name, "libuv", "ns", values[1], BENCH_ROUNDS);
    bench_say_beside(name, "libevent", "ns", values[2], BENCH_ROUNDS);
}

static void draw(void)
{
    uint64_t seed = 1;
    in_us = calloc(count, sizeof(*in_us));
    order = calloc(count, sizeof(*order));
    BENCH_CHECK(in_us && order);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t k = (uint32_t)random_below(&seed, i + 1);
        in_us[i] = random_between(&seed, 1000, SPREAD_US);
        order[i] = order[k];
        order[k] = i;
    }
}

int main(int argc, char **argv)
{
    static double cancelled[KINDS][BENCH_ROUNDS], all_fired[KINDS][BENCH_ROUNDS];
    bench_begin(argc, argv);
    count = bench_quick ? TIMERS / 10 : TIMERS;
    draw();
    open_ours();
    open_uv();
    open_event();
    for (int k = 0; k < KINDS; k++)
        cancel(&kinds[k]); /* heaps at their largest */
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        for (int j = 0; j < KINDS; j++) {
            int k = bench_order(i, j, KINDS);
            cancelled[k][i] = cancel(&kinds[k]);
            all_fired[k][i] = fire(&kinds[k]);
        }
    }
    say("timers_cancel", "a timer among very many, started and cancelled", cancelled);
    say("timers_fire", "a timer among very many, started and fired", all_fired);
    return 0;
}
