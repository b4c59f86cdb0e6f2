/*
 * The loop as the rest of the runtime sees it: ops, timers, posts from other threads, and sources
 * (rings that are looked at every turn). Public face: sluice.h.
 */
#ifndef SLUICE_LOOP_H
#define SLUICE_LOOP_H

#include "sluice.h"
#include "timer.h"
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

/* A call from another thread; its memory is the poster's until it was called. */
struct sluice_post {
    void (*call)(struct sluice_post *post);
    struct sluice_post *next;
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
    struct sluice_timers timers;
    struct sluice_source *sources;
    struct sluice_conns *conns; /* NULL: none are allowed */
    uint32_t active; /* connections and listeners; transports with a connection in any state but
                        closed */

    enum sluice_idle idle;
    bool sleeps_early; /* the last looks after work found nothing: sleep without one */
    uint64_t spin_ns, last_work_ns;
    _Atomic bool stop;

    struct sluice_bell bell;
    struct sluice_op wake_op;
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

/* Before a deadline is counted from now: the last turn may be long ago. */
void sluice_loop_refresh_now(struct sluice_loop *loop);

/* Called at the end of the loop's turn; one that is posted by a post, of the next one. Any thread.
 */
void sluice_loop_post(struct sluice_loop *loop, struct sluice_post *post);

/* Something was stored that a source of that loop looks at: if it sleeps, it takes a turn. Any
 * thread. */
void sluice_loop_nudge(struct sluice_loop *loop);

static inline const struct sluice_socket_ops *sluice_loop_sockets(const struct sluice_loop *loop)
{
    return loop->be->ops->sockets;
}

static inline void sluice_loop_start_timer(struct sluice_loop *loop, struct sluice_timer *timer,
                                           uint64_t in_ns, void (*fire)(struct sluice_timer *))
{
    sluice_timer_start(&loop->timers, timer, loop->now_ns + in_ns, fire);
}

#endif
