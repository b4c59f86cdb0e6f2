/*
 * A thread with a loop of its own, beside the one that owns a transport: it runs what is posted to
 * that loop. Which of its paths run there is model.c's.
 */
#ifndef SLUICE_THREAD_H
#define SLUICE_THREAD_H

#include "loop.h"

#include <semaphore.h>

struct sluice_thread {
    struct sluice_loop *home; /* of whoever started it */
    const char *name;
    struct sluice_loop *loop;                   /* its own; NULL: it does not run */
    void (*lost)(struct sluice_thread *thread); /* at home: its loop broke; see error */
    int error;
    bool told; /* home knows that it broke */
    struct sluice_cores cores;

    pthread_t id;
    sem_t ready, leave;
    struct sluice_post lost_post;
};

/* On the home loop's backend where that was asked for by name, else on libev. Everything but home,
 * cores and lost is filled in. 0, or negative errno with one line in why. */
int sluice_thread_start(struct sluice_thread *t, const char *name, char *why, size_t why_bytes);

/* Nothing of anybody's may be in flight there. One that does not run is fine. */
void sluice_thread_stop(struct sluice_thread *t);

#endif
