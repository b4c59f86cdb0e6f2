/*
 * A whole world on one thread and a virtual clock: a transport on the simulated network, its peer,
 * an upstream, a producer and an observer. world.c moves it by seed, rules.c looks at what each of
 * them sees after every step.
 */
#ifndef SLUICE_TESTS_SIM_WORLD_H
#define SLUICE_TESTS_SIM_WORLD_H

#include "loop.h"
#include "tests/support/sim_net.h"

#define MESSAGE_HEADER 12u /* source u32, sequence u32, bytes behind the header u32 */

enum source { FROM_UPSTREAM, FROM_PRODUCER, FROM_PONGS, SOURCES };

/* What one source committed and what of it came out at the peer. */
struct source_log {
    uint32_t next;      /* sequence of the next message it commits */
    uint32_t first;     /* of those meant for the connection that is open */
    uint32_t seen;      /* next one the peer must see */
    uint32_t committed; /* messages meant for this connection */
};

struct world {
    uint64_t seed, rng;
    bool loud;       /* print every step */
    bool reconnects; /* the transport does, by itself */

    struct sluice_loop *loop;
    struct neighbour *neighbour; /* another connection on it, or NULL */
    struct sluice_channel *ch;
    struct sluice_transport *transport;
    struct sluice_client *upstream, *producer, *observer;
    int listener, peer; /* -1: none */

    /* of this connection */
    uint32_t connection;
    bool open, closed;
    bool lazy;               /* its upstream hardly reads: MSG_METADATA fills */
    bool upstream_knows;     /* it read CONNECTED */
    bool eof_seen, end_seen; /* in the metadata */
    bool peer_fin, peer_rst, fin_wanted;
    uint64_t peer_sent;     /* bytes the peer's TCP took from it */
    uint64_t peer_got;      /* bytes the peer read */
    uint64_t base;          /* inbox position of this connection's first byte */
    uint64_t next_position; /* what the upstream must see next */
    uint64_t released;      /* what it released last */
    uint64_t next_observed;
    bool observer_synced;
    struct source_log sources[SOURCES];
    struct sluice_close_record record;
    uint64_t wait_ns; /* until the transport's next attempt; 0: it makes none */

    /* the message the peer is in the middle of */
    uint8_t header[MESSAGE_HEADER];
    uint32_t header_have;
    uint32_t body_left, body_at, body_source, body_sequence;
};

/* rules.c: each aborts the run with the seed when it is broken. */
void rule_failed(const struct world *w, const char *what, const char *file, int line);
#define RULE(w, cond)                                    \
    do {                                                 \
        if (!(cond))                                     \
            rule_failed((w), #cond, __FILE__, __LINE__); \
    } while (0)

uint8_t pattern_rx(uint32_t connection, uint64_t position);
uint8_t pattern_tx(uint32_t source, uint32_t sequence, uint32_t at);
void check_entry(struct world *w, const struct sluice_meta *m);
void check_kept(struct world *w);
void check_observed(struct world *w, const struct sluice_meta *m);
void check_peer_bytes(struct world *w, const uint8_t *bytes, size_t n);
void check_positions(struct world *w);
void check_asleep(struct world *w);
void check_end(struct world *w);

/* neighbour.c */
struct neighbour *neighbour_open(struct world *w);
void neighbour_step(struct world *w, struct neighbour *n); /* every turn */
void neighbour_close(struct world *w, struct neighbour *n);

/* world.c */
void world_run(uint64_t seed, bool loud);
uint32_t world_random(struct world *w, uint32_t below);

#endif
