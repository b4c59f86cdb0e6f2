/*
 * Plain sockets on loopback for the measuring programs: a listener, a connection, an echo peer that
 * spins. No io_uring here.
 */
#ifndef BENCH_TCP_H
#define BENCH_TCP_H

#include "bench.h"

/** A listening socket on an ephemeral port of 127.0.0.1. */
int tcp_listen(uint16_t *port);

/** A blocking connection with TCP_NODELAY. */
int tcp_connect(uint16_t port);

void tcp_set_nodelay(int fd);

/** Blocking: all of it. */
void tcp_send_all(int fd, const void *bytes, size_t count);

/** Echo one connection after the other, spinning on each. A thread's function; arg: int *, the
 *  listening socket; ends when accept fails on it. */
void *tcp_echo(void *arg);

#endif
