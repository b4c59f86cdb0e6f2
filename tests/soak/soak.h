/*
 * Bytes end to end for a long time: a peer (peer.c), an engine (soak.c) and an upstream (reader.c),
 * each on a thread, that pause, die and come back as their seeds say. Every byte is checked by what
 * stream it is of and where in it.
 */
#ifndef SLUICE_TESTS_SOAK_H
#define SLUICE_TESTS_SOAK_H

#include "base/clock.h"
#include "tests/support/random.h"

#include <sluice/sluice.h>

#include <stdatomic.h>
#include <stdbool.h>

/* A stream begins with its key, 8 bytes; then stand bytes that follow from it. */
#define KEY_BYTES  8u
#define KEYS       4096u                  /* a peer's totals are remembered for so many */
#define SOAK_LIMIT (10 * SLUICE_NS_PER_S) /* what takes longer hangs */

struct soak {
    uint64_t seed;
    atomic_bool over;              /* no new connection, no new engine */
    _Atomic uint64_t engine;       /* the number of the one to attach to, 0: none */
    atomic_bool is_attached;       /* the upstream still holds memory of the last engine */
    atomic_bool has_connection;    /* the peer still holds its end */
    _Atomic uint64_t totals[KEYS]; /* by key: what an orderly peer sent, 0 if it reset */
    _Atomic uint64_t received_bytes, sent_bytes, attached, resets, orderly;
    uint16_t port;
    int listener;
};

struct stream {
    uint64_t key, at;
    uint8_t begin[KEY_BYTES]; /* as much of the key as came */
};

/* So many bytes of the stream, written there. */
void stream_write(struct stream *s, uint8_t *to, size_t bytes);

/* Aborts when they are not the next bytes. */
void stream_check(struct stream *s, const uint8_t *bytes, size_t count, const char *who);

void soak_fail(const char *who, const char *what, uint64_t number);

/* Now and then for a while, mostly not. */
void soak_pause(uint64_t *random);

void *peer_run(void *soak);
void *reader_run(void *soak);

#endif
