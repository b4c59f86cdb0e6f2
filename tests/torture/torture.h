/*
 * A short session under faults: a peer that echoes (peer.c), the session (session.c), calls that
 * fail in it (inject.c), and the campaign that judges each (torture.c).
 */
#ifndef SLUICE_TESTS_TORTURE_H
#define SLUICE_TESTS_TORTURE_H

#include "inject.h"

#include <stdbool.h>
#include <stdint.h>

struct session {
    const char *backend; /* NULL: what the machine offers */
    bool tls;
    uint16_t port;  /* the peer's */
    const char *ca; /* of the peer's certificate */
};

/* What a session says of itself, and how it was; shared memory. */
struct report {
    struct inject_counts counts;
    bool complete;   /* all messages to and fro on two connections, and an end that was asked for */
    bool silent;     /* somebody waited for what never came */
    char said[2000]; /* errors, in the order in which they were told */
    char chosen[1500]; /* backend, model, TLS, and why */
};

/* From nothing to nothing. */
void session_run(const struct session *s, struct report *r);

/* A process of its own that echoes what comes, one connection after the other; its pid. */
int peer_start(uint16_t *port, bool tls, const char *certs);

#endif
