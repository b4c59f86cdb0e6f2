/*
 * A TLS peer that does what ours never would: bare OpenSSL in memory, at any security level, and
 * records encrypted by hand behind its handshake.
 */
#ifndef SLUICE_TESTS_TLS_RAW_H
#define SLUICE_TESTS_TLS_RAW_H

#include "tests/tls/pair.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>

struct raw {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
    uint8_t secret[32]; /* SERVER_TRAFFIC_SECRET_0, SHA-256 suites */
    bool has_secret;
    char sni[256];   /* what the client asked for; "" nothing */
    uint64_t sealed; /* records by raw_seal() */
};

/** cert: NAME of NAME.pem and NAME.key, served at security level 0; versions as OpenSSL has them.
 */
void raw_open(struct raw *r, const char *cert, int min_version, int max_version);
void raw_open_client(struct raw *r, int min_version, int max_version);
void raw_close(struct raw *r);

void raw_move(struct raw *r, struct end *e); /* both ways */

/** Until nothing moves any more. True: both are done. */
bool raw_handshake(struct raw *r, struct end *e);

/**
 * One more record of this server's (TLS 1.3, TLS_AES_128_GCM_SHA256, no tickets sent, its own
 * SSL_write() not used): content, type, padding. Goes onto the client's wire.
 */
void raw_seal(struct raw *r, struct end *client, uint8_t type, const void *data, size_t bytes,
              size_t padding);

#endif
