/*
 * Round trips without sluice: the references of rtt.c. Each sends BARE_BYTES on a connection and
 * reads them back, trips times; ns receives the duration of each.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include "bench.h"

#define BARE_BYTES 64u

void bare_uring_one_shot(int fd, int trips, double *ns);
void bare_uring_multishot(int fd, int trips, double *ns);
void bare_uring_sleeping(int fd, int trips, double *ns); /* multishot */
void bare_recv_spin(int fd, int trips, double *ns);
void bare_epoll_spin(int fd, int trips, double *ns);
void bare_epoll_sleeping(int fd, int trips, double *ns);
void bare_recv_blocking(int fd, int trips, double *ns);

#endif
