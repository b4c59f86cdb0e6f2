/*
 * What the echo servers of the comparison share: echo-NAME BUFFER_BYTES CONNS_MAX says its port on
 * stdout and sends back what it receives until SIGTERM. Each is written as its library's users
 * would; a send that finds no room is kept and finished, and nothing more is read meanwhile.
 */
#ifndef BENCH_ECHO_SERVER_H
#define BENCH_ECHO_SERVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ECHO_EVENTS 256 /* taken at once, where one says how many */

struct echo_args {
    uint32_t buffer_bytes; /* of one receive */
    uint32_t conns_max;    /* at once */
};

/** Arguments, as many descriptors as allowed, and SIGTERM ends the process with 0. */
struct echo_args echo_begin(int argc, char **argv);

/** A listener on loopback that does not block, its port said. TCP_NODELAY is on, and Linux hands
 *  it down to accepted sockets. */
int echo_listen(void);

/** The line on stdout that the client waits for. */
void echo_say_port(uint16_t port);

/** For servers that share one buffer: what is left of it to send, in memory of its own. */
char *echo_keep(const char *bytes, size_t count);

/** Receive buffers for servers that have a pool: a power of two. */
uint32_t echo_pool_bufs(const struct echo_args *args);

/** End the process: this failed. */
#ifdef __cplusplus
[[noreturn]]
#else
_Noreturn
#endif
void echo_fail(const char *what);

#ifdef __cplusplus
}
#endif
#endif
