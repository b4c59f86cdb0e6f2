/*
 * The peer of the differential test: one connection, accepted and served by blocking calls on a
 * thread of its own, plain or TLS. What it sends and what it takes is checked byte by byte.
 */
#ifndef MODELS_PEER_H
#define MODELS_PEER_H

#include "models.h"

#include <openssl/ssl.h>

struct peer {
    int listener, fd;
    uint16_t port;
    SSL_CTX *tls; /* NULL: plain */
    SSL *ssl;
    const struct script *script;
    pthread_t thread;
    uint64_t seed;
    uint64_t sent_bytes, taken_bytes;
    /* of the message being taken */
    struct message_header header;
    uint32_t message_bytes;
    uint32_t messages, pongs;
    bool ended; /* the engine said its end */
    struct finding finding;
};

/* Listens, and serves one connection by the script. */
void peer_start(struct peer *p, const struct script *script, SSL_CTX *tls);
void peer_join(struct peer *p);

/* ---- steps, for scripts */
void peer_send(struct peer *p, uint64_t bytes);    /* the next ones of the stream */
void peer_dribble(struct peer *p, uint64_t bytes); /* one by one */
void peer_take(struct peer *p, uint32_t messages); /* until so many, PONGs aside, are here */
void peer_take_pongs(struct peer *p, uint32_t pongs);
void peer_take_slowly(struct peer *p, uint32_t messages);
void peer_take_to_end(struct peer *p);
void peer_half_close(struct peer *p);
void peer_reset(struct peer *p);
void peer_nap(struct peer *p, uint32_t up_to_us);

#endif
