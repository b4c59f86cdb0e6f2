/*
 * The clients of an echo server: many connections, one message in flight on each, driven from one
 * thread that spins on io_uring, so that the server is what is measured. Every byte that comes back
 * is compared.
 */
#ifndef BENCH_ECHO_CLIENTS_H
#define BENCH_ECHO_CLIENTS_H

#include "bench.h"

struct clients;

/** What one window showed. */
struct clients_seen {
    uint64_t answered; /* messages, those that came back behind the window's end included */
    double per_s;      /* within the window */
    double p50_us, p99_us;
};

/** Connect count of them, all open when it returns. */
struct clients *clients_open(uint16_t port, uint32_t count, uint32_t bytes);

/** As fast as answers come, for that long. */
struct clients_seen clients_run(struct clients *c, uint64_t duration_ns);

/** So many messages each second, taking turns; latency counts from when a message was due. */
struct clients_seen clients_run_paced(struct clients *c, uint64_t duration_ns, uint32_t per_s);

/** Close them, and all that was allocated. */
void clients_close(struct clients *c);

/** So many connections that say nothing, accepted when it returns: the last one was answered. */
struct clients_idle {
    int *fds;
    uint32_t count;
};
struct clients_idle clients_hold_idle(uint16_t port, uint32_t count);
void clients_end_idle(struct clients_idle *idle);

/** Open so many connections, have each answered once, reset them all. */
void clients_come_and_go(uint16_t port, uint32_t count);

/** As many descriptors as allowed; bench_fail() if fewer than wanted. */
void clients_want_files(uint32_t wanted);

#endif
