/*
 * TLS without sluice, for the measuring programs: a CA and a certificate for this run, contexts that
 * trust it, peers that serve. TLS 1.3 with AES-128-GCM, P-256, both sides verified. Plain sockets,
 * OpenSSL as it comes.
 */
#ifndef BENCH_SECURE_H
#define BENCH_SECURE_H

#include "bench.h"
#include "sluice.h"

#include <openssl/ssl.h>

#define SECURE_CIPHER       "TLS_AES_128_GCM_SHA256"
#define SECURE_RECORD_BYTES (16u << 10)

/** Certificates and contexts; first of all. Its files are gone when the process ends. */
void secure_begin(void);

/** What the engine needs to talk to the peers below. */
extern struct sluice_tls_config secure_config;

/** Calls of OpenSSL's for heap memory so far: counted when secure_begin() was the first of it. */
uint64_t secure_heap_calls(void);

/** Connect, shake hands, verify the peer's address: a blocking socket. */
SSL *secure_connect(uint16_t port);

/** close_notify both ways, then the socket. */
void secure_close(SSL *ssl);

/** Threads' functions; arg: int *, the listening socket; they end when accept fails on it. One
 *  connection after the other: */
void *secure_echo(void *arg);  /* echoes, spinning */
void *secure_greet(void *arg); /* shakes hands and waits for the end */

/** Sends `bytes` in full records; all of it was encrypted before the first one leaves. */
struct secure_blast {
    int listener;
    uint64_t bytes;
};
void *secure_blast(void *arg);

#endif
