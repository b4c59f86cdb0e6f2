/*
 * SENDs of one connection on the loop of another thread: handed over, and their ends handed back,
 * one at a time. For tx.c they are the ops that they are on the connection's own loop.
 */
#ifndef SLUICE_REMOTE_H
#define SLUICE_REMOTE_H

#include "life.h"

struct sluice_thread;

struct sluice_remote {
    struct sluice_life *life;
    struct sluice_thread *thread; /* NULL: none, SENDs run on the connection's loop */
    struct sluice_op *asked;      /* in flight, for whoever asked */
    bool open, stopping;          /* the thread knows the descriptor; is to forget it */
    struct sluice_post send, end, stop, gone;
    /* between the two */
    _Atomic bool done;   /* result is there */
    _Atomic bool wanted; /* home sleeps and has to be woken for it */
    _Atomic bool told;   /* end is posted */
    int32_t result;
    /* there */
    struct sluice_op op;
    struct sluice_timer late; /* home did not look by itself */
    int fd, file;
    bool cancelled, polled;
};

void sluice_remote_init(struct sluice_remote *r, struct sluice_life *life);

/* A SEND, as sluice_life_begin() would start it: 0 or -EAGAIN. */
int sluice_remote_send(struct sluice_remote *r, struct sluice_op *asked);

/* Every turn: did it end? True: its done() was called. */
bool sluice_remote_look(struct sluice_remote *r);

/* About to sleep (then look once more), or awake again: whether the end of a SEND has to wake us at
 * once. Else it is told within 100 ms, or when we look. */
void sluice_remote_want(struct sluice_remote *r, bool wanted);

/* The connection closes: what is in flight is cancelled, then the thread lets go of the descriptor.
 * Fine when it never had it. */
void sluice_remote_stop(struct sluice_remote *r);

/* Its thread's loop broke: what was in flight ends with that error. */
void sluice_remote_lost(struct sluice_remote *r, int error);

#endif
