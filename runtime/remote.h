/*
 * SENDs of one connection on the loop of another thread: handed over, and their ends handed back,
 * one at a time. For tx.c they are the ops that they are on the connection's own loop.
 */
#ifndef SLUICE_REMOTE_H
#define SLUICE_REMOTE_H

#include "conn.h"

struct sluice_thread;

struct sluice_remote {
    struct sluice_conn *conn;
    struct sluice_thread *thread; /* NULL: none, SENDs run on the connection's loop */
    struct sluice_op *asked;      /* in flight, for whoever asked */
    bool open, stopping;          /* the thread knows the descriptor; is to forget it */
    struct sluice_post send, end, stop, gone;
    int32_t result;
    /* there */
    struct sluice_op op;
    int fd, file;
    bool cancelled, polled;
};

void sluice_remote_init(struct sluice_remote *r, struct sluice_conn *conn);

/* A SEND, as sluice_conn_begin() would start it: 0 or -EAGAIN. */
int sluice_remote_send(struct sluice_remote *r, struct sluice_op *asked);

/* The connection closes: what is in flight is cancelled, then the thread lets go of the descriptor.
 * Fine when it never had it. */
void sluice_remote_stop(struct sluice_remote *r);

/* Its thread's loop broke: what was in flight ends with that error. */
void sluice_remote_lost(struct sluice_remote *r, int error);

#endif
