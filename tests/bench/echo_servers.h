/*
 * The echo servers of the comparison as processes, each on the first core; and what is the best of
 * several.
 */
#ifndef BENCH_ECHO_SERVERS_H
#define BENCH_ECHO_SERVERS_H

#include "bench.h"

#include <sys/types.h>

/* Ours first, then the libraries that are its peers, then what has no library under it. */
enum { ECHO_SLUICE, ECHO_LIBUV, ECHO_LIBEVENT, ECHO_ASIO, ECHO_EPOLL, ECHO_URING, ECHO_SERVERS };
#define ECHO_FIRST_PEER ECHO_LIBUV
#define ECHO_FIRST_BARE ECHO_EPOLL

extern const char *const echo_texts[ECHO_SERVERS];

struct echo_server {
    pid_t pid;
    uint16_t port;
};

/** Start one for messages of this size; it ends with this process, or at echo_stop(). */
struct echo_server echo_start(int which, uint32_t message_bytes, uint32_t conns_max);
void echo_stop(const struct echo_server *server);

/** Replace this process by one, its port going to out: for tests/vm/ruler. */
_Noreturn void echo_become(const char *name, uint32_t message_bytes, uint32_t conns_max, int out);

/** What it ran so far, in ns of its core. */
double echo_core_ns(const struct echo_server *server);

/** Resident memory of it, in bytes. */
double echo_resident_bytes(const struct echo_server *server);

/** One value for each server and round. */
struct echo_values {
    double of[ECHO_SERVERS][BENCH_ROUNDS];
};

/** Ours to the best peer, a figure if there is a goal; ours to the best bare loop; and all of them.
 */
void echo_say(const char *name, const char *text, const char *unit,
              const struct echo_values *values, enum bench_goal goal, double limit,
              bool more_is_better);

/** All of them, each for itself. */
void echo_say_field(const char *name, const char *text, const char *unit,
                    const struct echo_values *values);

#endif
