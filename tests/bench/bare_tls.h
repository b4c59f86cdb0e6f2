/*
 * TLS without sluice, for the measuring programs: a CA and a certificate for this run, contexts
 * that trust it, peers that serve. TLS 1.3 with AES-128-GCM, P-256, both sides verified. Plain
 * sockets, OpenSSL as it comes.
 */
#ifndef BENCH_BARE_TLS_H
#define BENCH_BARE_TLS_H

#include "bench.h"
#include "sluice.h"

#include <openssl/ssl.h>

#define BARE_TLS_CIPHER       "TLS_AES_128_GCM_SHA256"
#define BARE_TLS_RECORD_BYTES (16u << 10)

/** Certificates and contexts; first of all. Its files are gone when the process ends. */
void bare_tls_begin(void);

/** What the engine needs to talk to the peers below. */
extern struct sluice_tls_config bare_tls_config;

/** Calls of OpenSSL's for heap memory so far: counted when bare_tls_begin() was the first of it. */
uint64_t bare_tls_heap_calls(void);

/** Connect, shake hands, verify the peer's address: a blocking socket. */
SSL *bare_tls_connect(uint16_t port);

/** close_notify both ways, then the socket. */
void bare_tls_close(SSL *ssl);

/** A server's side: accept and shake hands, a blocking socket (NULL: no more will come); end. */
SSL *bare_tls_accept(int listener);
void bare_tls_end(SSL *ssl);

/** Threads' functions; arg: int *, the listening socket; they end when accept fails on it. One
 *  connection after the other: */
void *bare_tls_echo(void *arg);  /* echoes, spinning */
void *bare_tls_greet(void *arg); /* shakes hands and waits for the end */

/** Sends `bytes` in full records; all of it was encrypted before the first one leaves. */
struct bare_tls_blast {
    int listener;
    uint64_t bytes;
};
void *bare_tls_blast(void *arg);

#endif
