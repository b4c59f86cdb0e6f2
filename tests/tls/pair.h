/*
 * Two TLS sessions and the wire between them, in memory. Criterion's assertions inside.
 */
#ifndef SLUICE_TESTS_TLS_PAIR_H
#define SLUICE_TESTS_TLS_PAIR_H

#include "tls/tls.h"

#define PAIR_HOST       "good.example.test"
#define PAIR_RING_BYTES 65536u
#define PAIR_WIRE_BYTES (8u << 20)

struct end {
    struct sluice_tls_session *s;
    const struct sluice_tls_provider *tls;
    uint8_t *ring;
    uint8_t *wire; /* what came from the peer: [head, tail) is not taken yet */
    size_t head, tail;
    size_t step; /* bytes shown at once */
};

struct pair {
    struct end client, server;
};

/** The provider under test: TLS_PROVIDER, or the preferred one. */
const struct sluice_tls_provider *tls_provider(void);

/** Path of a file made by make_certs.py; stays good. */
const char *certs(const char *name);

struct sluice_tls_config client_config(void); /* trusts root.pem */
struct sluice_tls_config server_config(void); /* has good.pem */

struct sluice_tls_context *must_context(const struct sluice_tls_config *cfg);
void end_open(struct end *e, const struct sluice_tls_config *cfg, const char *host);
void end_open_with(struct end *e, struct sluice_tls_context *ctx, const char *host);
void end_close(struct end *e);

void end_arrived(struct end *e, const void *data, size_t bytes);
size_t end_flush(struct end *from, struct end *to); /* bytes moved onto the peer's wire */
int end_handshake(struct end *e);                   /* one call, at most `step` bytes of wire */

/** Up to `bytes`, until the wire is used up: bytes, or what read() said when there were none. */
ssize_t end_read(struct end *e, void *to, size_t bytes);
void end_write(struct end *e, struct end *to, const void *data, size_t bytes); /* and flush */

void pair_open(struct pair *p, const struct sluice_tls_config *client,
               const struct sluice_tls_config *server);
void pair_close(struct pair *p);

/** Both sides in turn until nothing moves any more. True: both are open. */
bool pair_handshake(struct pair *p);

/** Both with the defaults, open. */
void pair_open_default(struct pair *p);

/** Data there and back, exact. */
bool pair_echoes(struct pair *p);

/** Whole TLS records in these bytes. */
unsigned count_records(const uint8_t *data, size_t bytes);

void fill(uint8_t *data, size_t bytes, unsigned seed);

#endif
