/*
 * Names to addresses, off the loop: getaddrinfo in a thread of its own, the answer posted back.
 */
#ifndef SLUICE_RESOLVE_H
#define SLUICE_RESOLVE_H

#include "loop.h"
#include "base/system.h"

#include <sys/socket.h>

#define RESOLVE_ADDRESSES_MAX 16

struct sluice_addresses {
    uint32_t count;
    struct {
        struct sockaddr_storage addr;
        socklen_t bytes;
    } at[RESOLVE_ADDRESSES_MAX];
};

struct sluice_resolve; /* one request */

/* "unix:PATH": 0 and out is filled, or -EINVAL: it is no such URL, or too long. */
int sluice_resolve_path(struct sluice_addresses *out, const char *url);

/* Literal addresses need no thread: 0 and out is filled, or -EINVAL. */
int sluice_resolve_literal(struct sluice_addresses *out, const char *host, const char *port);

/* done is called on the loop, once: error 0 or a getaddrinfo code (EAI_*). cores: for the thread
 * that looks it up; NULL: the caller's. */
int sluice_resolve_start(struct sluice_resolve **out, struct sluice_loop *loop, const char *host,
                         const char *port, const struct sluice_cores *cores,
                         void (*done)(void *user, int error, const struct sluice_addresses *found),
                         void *user);

/* done is not called any more; the thread ends by itself. NULL is fine. */
void sluice_resolve_abandon(struct sluice_resolve *r);

#endif
