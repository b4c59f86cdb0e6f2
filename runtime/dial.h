/*
 * How an outgoing connection comes to its descriptor: what life.c calls resolving and connecting.
 * Needed until the connection is open, and to describe it.
 */
#ifndef SLUICE_DIAL_H
#define SLUICE_DIAL_H

#include "life.h"
#include "resolve.h"
#include "url.h"

struct sluice_dial {
    struct sluice_life *life;
    struct sluice_url url;
    struct sluice_resolve *resolving;
    const struct sluice_cores *cores; /* to look names up on: the owner's, NULL any */
    struct sluice_addresses addresses;
    uint32_t address; /* the one being tried or in use */
    uint32_t turn;    /* which of them is tried first: the owner's, modulo their number */
    struct sluice_op connect_op;
    uint64_t give_up_ns;
    int last_error; /* of the last address tried, negative errno */
};

/* life: idle or closed; it borrows dial until it is open or closed. events->open or events->closed
 * follows from the loop, never from in here. */
int sluice_dial_start(struct sluice_dial *dial, struct sluice_life *life,
                      const struct sluice_url *url);

/* The same, to addresses that are known already: those in dial->addresses. */
void sluice_dial_start_at(struct sluice_dial *dial, struct sluice_life *life);

/* The connection closes. */
void sluice_dial_stop(struct sluice_dial *dial);

/* "[::1]:443" or "192.0.2.1:443" of the address in use. */
void sluice_dial_peer(const struct sluice_dial *dial, char *out, size_t out_bytes);

#endif
