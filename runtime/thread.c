/*
 * A thread with a loop of its own. The loop is made on it (an io_uring belongs to who made it) and
 * ends there, unless it broke: then home has the pieces.
 */
#include "thread.h"
#include "base/check.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int make_loop(struct sluice_thread *t)
{
    const struct sluice_loop *home = t->home;
    const char *event = strchr(home->be->name, ':');
    const struct sluice_loop_config cfg = {
        .event = home->asked_for && event ? event + 1 : NULL,
        .idle = home->idle,
        .spin_us = (uint32_t)(home->spin_ns / SLUICE_NS_PER_US),
    };
    return sluice_loop_create_on(&t->loop, home->asked_for ? home->be->ops : &sluice_backend_ev,
                                 &cfg, 0);
}

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) != 0) {
        /* EINTR */
    }
}

static void told_lost(struct sluice_post *post)
{
    struct sluice_thread *t = SLUICE_CONTAINER_OF(post, struct sluice_thread, lost_post);
    t->told = true;
    if (t->loop)
        t->lost(t);
}

static void *thread_main(void *arg)
{
    struct sluice_thread *t = arg;
    sluice_system_name_thread(t->name);
    t->error = make_loop(t);
    struct sluice_loop *loop = t->loop;
    sem_post(&t->ready);
    if (!loop)
        return NULL;
    loop->active = 1; /* until it is stopped */
    t->error = sluice_loop_run(loop);
    if (t->error) {
        t->lost_post.call = told_lost;
        sluice_loop_post(t->home, &t->lost_post);
        return NULL;
    }
    wait_for(&t->leave); /* whoever stopped it has let go of the loop */
    sluice_loop_destroy(loop);
    return NULL;
}

/* Signals are for the thread that started it. */
static int spawn(struct sluice_thread *t)
{
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* its own: a guard of memory may handle it */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&t->id, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

int sluice_thread_start(struct sluice_thread *t, const char *name, char *why, size_t why_bytes)
{
    struct sluice_cores before;
    t->name = name;
    t->loop = NULL;
    t->error = 0;
    t->told = false;
    sem_init(&t->ready, 0, 0);
    sem_init(&t->leave, 0, 0);
    /* It inherits the cores, and with them where its memory is. */
    bool has_cores = sluice_system_cores(&before) == 0;
    int err = has_cores ? sluice_system_set_cores(&t->cores) : 0;
    if (!err)
        err = spawn(t);
    if (has_cores)
        sluice_system_set_cores(&before);
    if (!err) {
        wait_for(&t->ready);
        if (!t->loop)
            pthread_join(t->id, NULL);
        err = t->loop ? 0 : t->error;
    }
    if (err)
        snprintf(why, why_bytes, "the %s thread could not start: %s", name, strerror(-err));
    return err;
}

void sluice_thread_stop(struct sluice_thread *t)
{
    if (!t->loop)
        return;
    struct sluice_loop *loop = t->loop;
    sluice_loop_stop(loop);
    sem_post(&t->leave);
    pthread_join(t->id, NULL);
    t->loop = NULL;
    if (!t->error)
        return;
    if (!t->told)
        sluice_loop_turn(t->home); /* t may end, and it is still to be told */
    sluice_loop_destroy(loop);
}
