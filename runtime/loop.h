/*
 * The loop as the rest of the runtime sees it: ops, timers, posts from other threads, and sources
 * (rings that are looked at every turn). Public face: sluice.h.
 */
#ifndef SLUICE_LOOP_H
#define SLUICE_LOOP_H

#include "sluice.h"
#include "watch.h"
#include "wheel.h"
#include "backends/backend.h"
#include "base/clock.h"
#include "base/system.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOOP_COMPLETIONS_MAX 256

struct sluice_conns;

/* Something that is looked at every turn, because no descriptor speaks for it while we spin. */
struct sluice_source {
    bool (*work)(struct sluice_source *src);   /* true: did something */
    void (*settle)(struct sluice_source *src); /* what can wait until work's ops have left */
    void (*park)(struct sluice_source *src); /* we sleep next: ask to be woken, then check again */
    bool (*pending)(struct sluice_source *src);
    void (*unpark)(struct sluice_source *src);
    struct sluice_source *next;
};

struct sluice_loop_stats {
    uint64_t sleeps, turns_over_1ms, turn_max_ns;
};

struct sluice_loop {
    struct sluice_backend *be;
    const struct sluice_clock *clock;
    uint64_t now_ns;     /* of this turn */
    uint64_t poll_cycle; /* when this turn's completions were taken */
    bool worked;         /* the last turn did something */
    bool asked_for;      /* its backend was named: threads beside it run on the same */
    struct sluice_wheel wheel;
    struct sluice_source *sources;   /* served in this order */
    struct sluice_source *preferred; /* the first one, if one was told to be */
    struct sluice_conns *conns;      /* NULL: none are allowed */
    uint32_t active; /* connections and listeners; transports with a connection in any state but
                        closed */

    enum sluice_idle idle;
    bool sleeps_early; /* the last looks after work found nothing: sleep without one */
    bool polled;       /* since something that came was done at once, without a poll */
    uint64_t spin_ns, last_work_ns;
    _Atomic bool stop;
    uint64_t process; /* that made it: sluice_system_process() */
    pthread_t thread; /* that turns it, from the first turn on */
    bool has_thread;
    bool parked; /* by sluice_loop_prepare_wait() */

    struct sluice_bell bell;
    struct sluice_watch wake;
    bool rung;           /* the bell, and it is not cleared yet */
    _Atomic bool asleep; /* or just about to be: the bell wakes it */
    _Atomic(struct sluice_post *) posts;

    struct sluice_loop_stats stats;
    char backend_reason[160];
    struct sluice_completion completions[LOOP_COMPLETIONS_MAX];
};

/* On a given backend, its event taken from cfg; sluice_loop_create() picks one: choice.c. */
int sluice_loop_create_on(struct sluice_loop **out, const struct sluice_backend_ops *ops,
                          const struct sluice_loop_config *cfg, uint64_t seed);

void sluice_loop_add_source(struct sluice_loop *loop, struct sluice_source *src);
void sluice_loop_remove_source(struct sluice_loop *loop, struct sluice_source *src);

/* Turns it until that is over, also past errors that pass. False: they do not, and it is not. */
bool sluice_loop_turn_until(struct sluice_loop *loop, bool (*over)(const void *what),
                            const void *what);

/* Before a deadline is counted from now: the last turn may be long ago. */
void sluice_loop_refresh_now(struct sluice_loop *loop);

/* Something was stored that a source of that loop looks at: if it sleeps, it takes a turn. Any
 * thread. */
void sluice_loop_nudge(struct sluice_loop *loop);

/* Or just about to be. Any thread: by the time that it is read it may be so no more. */
static inline bool sluice_loop_is_asleep(const struct sluice_loop *loop)
{
    return atomic_load_explicit(&loop->asleep, memory_order_relaxed);
}

/* The rings behind an io_uring are shared with a child of fork: it must not touch them. */
static inline bool sluice_loop_is_forked(const struct sluice_loop *loop)
{
    return loop->process != sluice_system_process();
}

static inline const struct sluice_socket_ops *sluice_loop_sockets(const struct sluice_loop *loop)
{
    return loop->be->ops->sockets;
}

/* Of our own: the loop does not go on for it alone, and it counts from the turn. */
static inline void sluice_loop_start_timer(struct sluice_loop *loop, struct sluice_timer *timer,
                                           uint64_t in_ns, void (*fire)(struct sluice_timer *))
{
    sluice_timer_stop(timer);
    timer->fire = fire;
    timer->unref = true;
    sluice_wheel_start(&loop->wheel, timer, sluice_wheel_add(loop->now_ns, in_ns));
}

#endif
