/*
 * A loop that sleeps, and threads that post to it: each waits until its post was called before it
 * posts again, so one that is slept through ends nothing but its patience.
 */
#include "loop.h"
#include "tests/support/threads.h"

#include <sched.h>
#include <semaphore.h>
#include <string.h>

#define POSTERS 2
#define LOST_NS (3 * SLUICE_NS_PER_S)    /* nothing else wakes the loop */
#define GAP_NS  (300 * SLUICE_NS_PER_MS) /* of silence */

struct poster {
    struct sluice_post post; /* first: called() gets it */
    _Atomic uint64_t calls;
    struct sluice_loop *loop;
    uint64_t seed;
    struct finding finding;
    pthread_t thread;
};

struct runner {
    const struct sluice_backend_ops *ops;
    struct sluice_loop *_Atomic loop;
    int error;
    struct sluice_loop_stats stats;
    sem_t ready, leave;
    pthread_t thread;
};

static uint64_t deadline;

static void called(struct sluice_post *post)
{
    atomic_fetch_add(&((struct poster *)(void *)post)->calls, 1);
}

/* It looks often: the next one is to come while the loop is about to sleep again. */
static void *post(void *arg)
{
    struct poster *p = arg;
    for (uint64_t n = 0; sluice_monotonic_ns() < deadline && !p->finding.text; n++) {
        uint64_t lost_ns = sluice_monotonic_ns() + LOST_NS;
        sluice_loop_post(p->loop, &p->post);
        for (uint64_t looks = 1; atomic_load(&p->calls) == n; looks++) {
            if (looks % 1024)
                sluice_pause();
            else if (found(&p->finding, sluice_monotonic_ns() > lost_ns, "slept through", n))
                break;
            else
                sched_yield();
        }
        dawdle(&p->seed);
    }
    return NULL;
}

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) != 0) {
        /* EINTR */
    }
}

/* A loop of the thread that runs it, as an io_uring has to be. */
static void *run(void *arg)
{
    struct runner *r = arg;
    const struct sluice_loop_config cfg = {.idle = SLUICE_IDLE_SLEEP};
    struct sluice_loop *loop;
    r->error = sluice_loop_create_on(&loop, r->ops, &cfg, 0);
    atomic_store(&r->loop, loop);
    sem_post(&r->ready);
    if (r->error)
        return NULL;
    loop->active = 1;
    must(sluice_loop_run(loop));
    r->stats = loop->stats;
    wait_for(&r->leave); /* whoever stopped it has let go of it */
    sluice_loop_destroy(loop);
    return NULL;
}

static void post_to(struct sluice_loop *loop, const char *name, uint64_t seed)
{
    static struct poster posters[POSTERS];
    deadline = threads_deadline(1000, 10000);
    for (int i = 0; i < POSTERS; i++) {
        struct poster *p = &posters[i];
        *p = (struct poster){.post.call = called, .loop = loop, .seed = seed + (uint64_t)i};
        start_thread(&p->thread, post, p);
    }
    for (int i = 0; i < POSTERS; i++)
        join_thread(posters[i].thread);
    for (int i = 0; i < POSTERS; i++)
        tap_finding(&posters[i].finding, name);
}

static void run_on(const struct sluice_backend_ops *ops, uint64_t seed)
{
    struct runner r = {.ops = ops};
    const struct timespec gap = {.tv_nsec = GAP_NS};
    must(sem_init(&r.ready, 0, 0));
    must(sem_init(&r.leave, 0, 0));
    start_thread(&r.thread, run, &r);
    wait_for(&r.ready);
    if (!r.error) {
        post_to(r.loop, ops->name, seed);
        nanosleep(&gap, NULL);
        sluice_loop_stop(r.loop);
        sem_post(&r.leave);
    }
    join_thread(r.thread);
    if (r.error) {
        tap_skip(ops->name, strerror(-r.error));
        return;
    }
    tap_ok(r.stats.sleeps > 100, "%s: slept %llu times", ops->name,
           (unsigned long long)r.stats.sleeps);
    if (!tap_ok(r.stats.turn_max_ns < GAP_NS / 2, "%s: a sleep is no part of a turn", ops->name))
        tap_note("%llu ns", (unsigned long long)r.stats.turn_max_ns);
}

int main(void)
{
    tap_begin();
    uint64_t seed = threads_seed();
    run_on(&sluice_backend_ev, seed);
    run_on(&sluice_backend_uring, seed);
    return tap_end();
}
