/*
 * What wakes the other end of a channel: a pipe each way. It is one that hears and one that rings,
 * each with flags of its own, so nobody blocks the other, and it hears when whoever rang is gone.
 * An eventfd is faster by a third, but its O_NONBLOCK belongs to all who hold it.
 */
#ifndef SLUICE_RINGS_DOORBELL_H
#define SLUICE_RINGS_DOORBELL_H

#include <stdbool.h>

struct sluice_doorbell {
    int hear_fd, ring_fd; /* -1: given away, or closed */
};

/* 0 or negative errno; then -1, -1. What ringing takes is there from now on: a pipe keeps the page
 * that it was written to. */
int sluice_doorbell_open(struct sluice_doorbell *bell);
void sluice_doorbell_close(struct sluice_doorbell *bell);

/* Its hear_fd must be open in this process, or there is a SIGPIPE. False: it is full, and heard all
 * the same. */
bool sluice_doorbell_ring(int ring_fd);

/* Whoever hears may be gone: three system calls instead of one before Linux 6.18. 0, -EAGAIN (full,
 * and heard all the same), -EPIPE or another negative errno. */
int sluice_doorbell_ring_anyone(int ring_fd);

/* Takes what was rung: > 0, 0 when nobody is left who could ring, or negative errno (-EAGAIN). */
int sluice_doorbell_hear(int hear_fd);

/* The same; waits for it, up to ms (-1: without a limit). -EAGAIN: nothing came. In poll(2), for no
 * signal handler restarts that one: -EINTR. */
int sluice_doorbell_wait(int hear_fd, int ms);

#endif
