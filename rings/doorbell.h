/*
 * What wakes the other end of a channel: a pair of sockets, an end for the engine and one for its
 * client. Nothing that one does with its own end blocks the other, and whoever is left hears that
 * the other is gone. (Faster, and no: of a pipe, splice(2) at one end holds the lock that read(2)
 * at the other waits for; of an eventfd, O_NONBLOCK belongs to all who hold it.)
 */
#ifndef SLUICE_RINGS_DOORBELL_H
#define SLUICE_RINGS_DOORBELL_H

#include <stdbool.h>

/* The engine's end and the client's: 0, or negative errno; then -1, -1. */
int sluice_doorbell_open(int ends[2]);

/* False: it is full, and heard all the same; or gone; or there is no memory for it, and both ends
 * hear that it hung up. */
bool sluice_doorbell_ring(int fd);

/* Takes what was rung: > 0, 0 when the other end is gone, or negative errno (-EAGAIN). */
int sluice_doorbell_hear(int fd);

/* The same at the client's end; waits for it, up to ms (-1: without a limit). -EAGAIN: nothing
 * came. No signal handler restarts it: -EINTR. */
int sluice_doorbell_wait(int fd, int ms);

#endif
