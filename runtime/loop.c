/*
 * The turn: completions, timers, sources; sleeping and waking. On which backend is choice.c's, what
 * the ops mean life.c's, rx.c's and tx.c's.
 */
#include "loop.h"
#include "conns.h"
#include "base/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPS_MAX_DEFAULT        256u
#define RECV_BUFS_DEFAULT      1024u
#define RECV_BUF_BYTES_DEFAULT 4096u
#define FILES_MAX              64u
#define SPIN_NS_DEFAULT        (50 * SLUICE_NS_PER_US)
#define FAILURES_MAX           1000 /* of turns, before what should end is given up */
#define SLEPT_NS               (5 * SLUICE_NS_PER_US) /* less, and what woke us was there already */

/* A TSC read serves; the simulation has a clock of its own. */
static uint64_t read_now(const struct sluice_loop *loop, uint64_t cycles)
{
    if (loop->be->ops == &sluice_backend_sim)
        return loop->be->ops->now_ns(loop->be);
    return sluice_cycles_to_monotonic(loop->clock, cycles);
}

void sluice_loop_refresh_now(struct sluice_loop *loop)
{
    loop->now_ns = read_now(loop, sluice_cycles());
}

uint64_t sluice_loop_now_ns(const struct sluice_loop *loop)
{
    return read_now(loop, sluice_cycles());
}

static bool run_posts(struct sluice_loop *loop)
{
    struct sluice_post *in_order = NULL;
    if (!atomic_load_explicit(&loop->posts, memory_order_relaxed))
        return false;
    struct sluice_post *post = atomic_exchange_explicit(&loop->posts, NULL, memory_order_acquire);
    while (post) { /* last in is first in the list */
        struct sluice_post *next = post->next;
        post->next = in_order;
        in_order = post;
        post = next;
    }
    while (in_order) {
        struct sluice_post *next = in_order->next;
        in_order->call(in_order);
        in_order = next;
    }
    return true;
}

/* What it was for is looked at every turn; clearing it can wait until that has left. */
static void on_wake(struct sluice_watch *wake, int32_t result)
{
    (void)result;
    SLUICE_CONTAINER_OF(wake, struct sluice_loop, wake)->rung = true;
}

void sluice_loop_post(struct sluice_loop *loop, struct sluice_post *post)
{
    struct sluice_post *head = atomic_load_explicit(&loop->posts, memory_order_relaxed);
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posts, &head, post, memory_order_release,
                                                    memory_order_relaxed));
    sluice_loop_nudge(loop);
}

static void clear_bell(struct sluice_loop *loop)
{
    loop->rung = false;
    if (!loop->be->edge)
        sluice_bell_clear(&loop->bell);
}

/* What was rung since we said that we sleep was lost with the bell: then there is no sleep. */
static bool is_rung(const struct sluice_loop *loop)
{
    return !sluice_loop_is_asleep(loop) || atomic_load_explicit(&loop->stop, memory_order_relaxed);
}

/* The sleeper's half is sleep_turn(): it says so, then looks at everything once more. */
void sluice_loop_nudge(struct sluice_loop *loop)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (sluice_loop_is_asleep(loop) &&
        atomic_exchange_explicit(&loop->asleep, false, memory_order_relaxed))
        sluice_bell_ring(&loop->bell);
}

/* A connection has a RECV and a SEND at once, a listener an ACCEPT. */
static struct sluice_backend_config backend_config(const struct sluice_loop_config *cfg,
                                                   uint64_t seed)
{
    struct sluice_backend_config out = {.ops_max = cfg->ops_max ? cfg->ops_max : OPS_MAX_DEFAULT,
                                        .files_max = FILES_MAX,
                                        .napi_busy_poll_us = cfg->napi_busy_poll_us,
                                        .sqpoll_idle_ms = cfg->sqpoll_idle_ms,
                                        .seed = seed,
                                        .event = cfg->event};
    if (cfg->conns_max) {
        out.ops_max += 2 * cfg->conns_max + CONNS_LISTENERS;
        out.reads = true; /* files that are sent */
        out.pool_bufs = cfg->recv_bufs ? cfg->recv_bufs : RECV_BUFS_DEFAULT;
        out.pool_buf_bytes = cfg->recv_buf_bytes ? cfg->recv_buf_bytes : RECV_BUF_BYTES_DEFAULT;
    }
    return out;
}

int sluice_loop_create_on(struct sluice_loop **out, const struct sluice_backend_ops *ops,
                          const struct sluice_loop_config *cfg, uint64_t seed)
{
    *out = NULL;
    struct sluice_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    const struct sluice_backend_config be_cfg = backend_config(cfg, seed);
    loop->process = sluice_system_process();
    loop->clock = sluice_clock();
    loop->idle = cfg->idle;
    loop->spin_ns = cfg->spin_us ? cfg->spin_us * SLUICE_NS_PER_US : SPIN_NS_DEFAULT;
    int err = sluice_bell_open(&loop->bell);
    if (!err)
        err = sluice_backend_create(&loop->be, ops, &be_cfg);
    if (!err && loop->bell.fd >= loop->be->fd_limit)
        err = -ERANGE;
    if (!err)
        err = sluice_conns_create(&loop->conns, loop, cfg);
    if (!err)
        err = sluice_watch_start(&loop->wake, loop, loop->bell.fd, SLUICE_OP_MULTI, on_wake);
    if (err) {
        sluice_conns_destroy(loop->conns);
        sluice_backend_destroy(loop->be);
        sluice_bell_close(&loop->bell);
        free(loop);
        return err;
    }
    loop->poll_cycle = sluice_cycles();
    loop->now_ns = read_now(loop, loop->poll_cycle);
    *out = loop;
    return 0;
}

static void tell(struct sluice_loop *loop, int n)
{
    for (int i = 0; i < n; i++) {
        const struct sluice_completion *c = &loop->completions[i];
        if (c->op->flags & SLUICE_OP_POOLED)
            c->op->pooled.buffer = c->buffer;
        c->op->done(c->op, c->result, c->more);
    }
}

/* End the one op that is the loop's own; every other has ended, or its owner has let go of it. */
static void drain_ops(struct sluice_loop *loop)
{
    sluice_watch_stop(&loop->wake, NULL);
    int n = 0;
    for (int tries = 0; loop->be->in_flight && tries < FAILURES_MAX && n >= 0; tries++) {
        n = loop->be->ops->poll(loop->be, (int64_t)SLUICE_NS_PER_MS, loop->completions,
                                LOOP_COMPLETIONS_MAX);
        tell(loop, n);
    }
    if (n < 0 && loop->wake.op.state == SLUICE_OP_IN_FLIGHT)
        sluice_op_end(loop->be, &loop->wake.op); /* a broken backend ends nothing */
}

void sluice_loop_destroy(struct sluice_loop *loop)
{
    if (!loop || sluice_loop_is_forked(loop))
        return;
    struct sluice_conns *conns = loop->conns;
    loop->conns = NULL; /* nothing connects any more: on_close may try, and posts */
    sluice_conns_destroy(conns);
    SLUICE_CHECK(loop->sources == NULL);
    drain_ops(loop);
    while (run_posts(loop)) {
        /* answers that nobody waits for any more */
    }
    sluice_backend_destroy(loop->be);
    sluice_bell_close(&loop->bell);
    free(loop);
}

void sluice_loop_add_source(struct sluice_loop *loop, struct sluice_source *src)
{
    src->next = loop->sources;
    loop->sources = src;
}

void sluice_loop_remove_source(struct sluice_loop *loop, struct sluice_source *src)
{
    for (struct sluice_source **at = &loop->sources; *at; at = &(*at)->next) {
        if (*at == src) {
            *at = src->next;
            return;
        }
    }
}

/* From poll to poll, or to where it went to sleep. */
static void note_turn(struct sluice_loop *loop, uint64_t end_cycle)
{
    if (!loop->worked)
        return;
    uint64_t ns = sluice_cycles_to_ns(loop->clock, end_cycle - loop->poll_cycle);
    if (ns > loop->stats.turn_max_ns)
        loop->stats.turn_max_ns = ns;
    if (ns > SLUICE_NS_PER_MS)
        loop->stats.turns_over_1ms++;
    loop->worked = false;
}

static void settle(struct sluice_loop *loop)
{
    for (struct sluice_source *src = loop->sources; src; src = src->next)
        src->settle(src);
}

static bool work(struct sluice_loop *loop)
{
    bool did = false;
    for (struct sluice_source *src = loop->sources, *next; src; src = next) {
        next = src->next;
        did |= src->work(src);
    }
    return did;
}

/* 1: something was done, 0: nothing, or negative errno. Ops that the last turn's work made leave in
 * poll(): the less stands before it, the earlier. */
static int turn(struct sluice_loop *loop, int64_t timeout_ns)
{
    if (loop->rung) { /* before it is polled again */
        clear_bell(loop);
        timeout_ns = is_rung(loop) ? 0 : timeout_ns;
    }
    int n = loop->be->ops->poll(loop->be, timeout_ns, loop->completions, LOOP_COMPLETIONS_MAX);
    loop->polled = true;
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    if (n < 0)
        return n;
    uint64_t cycle = sluice_cycles();
    note_turn(loop, cycle);
    loop->poll_cycle = cycle;
    loop->now_ns = read_now(loop, loop->poll_cycle);
    settle(loop);
    tell(loop, n);
    bool did = sluice_wheel_run(&loop->wheel, loop->now_ns) || n > 0;
    did |= work(loop);
    did |= run_posts(loop);
    loop->worked = did;
    return did;
}

bool sluice_loop_turn_until(struct sluice_loop *loop, bool (*over)(const void *what),
                            const void *what)
{
    int failures = 0;
    while (!over(what) && failures < FAILURES_MAX)
        failures += sluice_loop_turn(loop) < 0;
    return over(what);
}

static int64_t until_next_timer(struct sluice_loop *loop)
{
    uint64_t next = sluice_wheel_next(&loop->wheel);
    if (next == UINT64_MAX)
        return -1;
    return next > loop->now_ns ? (int64_t)(next - loop->now_ns) : 0;
}

static void unpark(struct sluice_loop *loop)
{
    for (struct sluice_source *src = loop->sources; src; src = src->next)
        src->unpark(src);
}

/* Something came while we were about to sleep. No poll before it is done, but never twice in a row:
 * completions have their turn, too. Posts wait for it: some count polls. */
static int work_at_once(struct sluice_loop *loop)
{
    loop->polled = false;
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    loop->worked |= work(loop);
    unpark(loop);
    return 1;
}

/* Every source says that it sleeps, then each looks once more: what came before it said so would
 * wake nobody. */
static bool park(struct sluice_loop *loop)
{
    atomic_store_explicit(&loop->asleep, true, memory_order_relaxed);
    for (struct sluice_source *src = loop->sources; src; src = src->next)
        src->park(src);
    atomic_thread_fence(memory_order_seq_cst); /* others: sluice_loop_nudge() */
    bool found = false;
    for (struct sluice_source *src = loop->sources; src; src = src->next)
        found |= src->pending(src);
    return found;
}

/* Something else is due at once. */
static bool is_awaited(const struct sluice_loop *loop)
{
    return atomic_load_explicit(&loop->posts, memory_order_relaxed) ||
           atomic_load_explicit(&loop->stop, memory_order_relaxed);
}

static int sleep_turn(struct sluice_loop *loop)
{
    bool found = park(loop);
    if (found && loop->polled)
        return work_at_once(loop);
    int64_t timeout = found || is_awaited(loop) ? 0 : until_next_timer(loop);
    loop->stats.sleeps += timeout != 0;
    uint64_t before = sluice_cycles();
    if (timeout != 0)
        note_turn(loop, before);
    int n = turn(loop, timeout);
    loop->sleeps_early =
        timeout != 0 && sluice_cycles_to_ns(loop->clock, loop->poll_cycle - before) > SLEPT_NS;
    unpark(loop);
    return n;
}

static int claim(struct sluice_loop *loop)
{
    if (sluice_loop_is_forked(loop))
        return -ECHILD;
    pthread_t self = pthread_self();
    if (!loop->has_thread) {
        loop->thread = self;
        loop->has_thread = true;
    }
    return pthread_equal(loop->thread, self) ? 0 : -EPERM;
}

int sluice_loop_turn(struct sluice_loop *loop)
{
    int n = claim(loop);
    if (n < 0)
        return n;
    n = turn(loop, 0);
    if (loop->parked)
        unpark(loop);
    loop->parked = false;
    settle(loop);
    return n;
}

static int pollable(struct sluice_loop *loop, bool *due)
{
    return loop->be->ops->pollable ? loop->be->ops->pollable(loop->be, due) : -ENOTSUP;
}

int sluice_loop_fd(struct sluice_loop *loop)
{
    bool due;
    int err = claim(loop);
    return err ? err : pollable(loop, &due);
}

/* Whoever waits then is not us: sources stay parked until the next turn. */
int sluice_loop_prepare_wait(struct sluice_loop *loop, int64_t *timeout_ns)
{
    *timeout_ns = 0;
    int err = claim(loop);
    if (err)
        return err;
    if (loop->rung) /* nobody rings before we say that we sleep */
        clear_bell(loop);
    bool pending = park(loop) || is_awaited(loop), due = false;
    loop->parked = true;
    int fd = pollable(loop, &due); /* and what parking asked for has left */
    if (fd < 0)
        return fd;
    sluice_loop_refresh_now(loop);
    if (!pending && !due)
        *timeout_ns = until_next_timer(loop);
    return 0;
}

static bool may_sleep(const struct sluice_loop *loop)
{
    return loop->idle == SLUICE_IDLE_SLEEP ||
           (loop->idle == SLUICE_IDLE_SPIN && loop->now_ns - loop->last_work_ns > loop->spin_ns);
}

static bool is_active(const struct sluice_loop *loop)
{
    return loop->active || loop->wheel.refs ||
           atomic_load_explicit(&loop->posts, memory_order_relaxed);
}

static int run(struct sluice_loop *loop, bool once)
{
    int n = claim(loop);
    if (n < 0)
        return n;
    loop->last_work_ns = loop->now_ns;
    while (is_active(loop) && !atomic_load_explicit(&loop->stop, memory_order_relaxed)) {
        bool may = (n == 0 || loop->sleeps_early) && may_sleep(loop);
        n = may ? sleep_turn(loop) : turn(loop, 0);
        loop->sleeps_early |= n == 0;
        if (n < 0)
            return n;
        if (n > 0 && once)
            break;
        if (n > 0)
            loop->last_work_ns = loop->now_ns;
        else
            sluice_pause();
    }
    settle(loop);
    atomic_store_explicit(&loop->stop, false, memory_order_relaxed);
    return n;
}

int sluice_loop_run(struct sluice_loop *loop)
{
    int n = run(loop, false);
    return n < 0 ? n : 0;
}

int sluice_loop_run_once(struct sluice_loop *loop)
{
    return run(loop, true);
}

void sluice_loop_stop(struct sluice_loop *loop)
{
    atomic_store_explicit(&loop->stop, true, memory_order_relaxed);
    sluice_bell_ring(&loop->bell);
}

const char *sluice_loop_backend(const struct sluice_loop *loop)
{
    return loop->be->name;
}

const char *sluice_loop_backend_reason(const struct sluice_loop *loop)
{
    return loop->backend_reason;
}
