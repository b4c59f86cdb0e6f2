/*
 * Relays without sluice: the shape of its threaded models, with an eventfd for each hand-off and
 * nothing beside. For the measuring programs.
 */
#ifndef BENCH_RELAY_H
#define BENCH_RELAY_H

#include "bench.h"

#include <openssl/ssl.h>

#define RELAY_BYTES 64u

/** Round trips through two threads, one that receives and one that sends. Closes fd. */
void relay_two(int fd, int trips, double *ns);

/** The same with a third between them, which alone has the session. Frees it. */
void relay_three(SSL *ssl, int trips, double *ns);

#endif
