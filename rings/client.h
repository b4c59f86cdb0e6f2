/*
 * A client's handle, shared by attach.c, client.c (the rings) and wait.c (sleeping). The engine's
 * side is engine.h.
 */
#ifndef SLUICE_RINGS_CLIENT_H
#define SLUICE_RINGS_CLIENT_H

#include "rings/layout.h"

#include <stdbool.h>

#define CLIENT_MAGIC 0x636c6e74u

/* The producing end of a two-part ring. */
struct producer {
    struct ring_tails *tails;       /* ours */
    const struct ring_heads *heads; /* hostile */
    struct ring_slot *slots;
    uint8_t *base; /* mapped twice */
    uint64_t slot_count, byte_count;
    uint64_t slot_tail, byte_tail; /* private: with what is held back */
    uint64_t slot_head, byte_head; /* last seen, checked */
    size_t limit;                  /* longest message */
    size_t claimed;
    bool claiming;
    bool full; /* the last claim found no room */
};

struct sluice_client {
    uint32_t magic;
    enum sluice_role role;
    int bell_fd;    /* an observer's: the socket of its link */
    bool gone;      /* the engine hung up */
    bool is_inline; /* on the engine's own thread, which looks before it sleeps */

    const struct engine_header *header; /* hostile; sizes were checked and copied below */
    const struct engine_shared *shared;
    const struct sluice_meta *meta; /* mapped twice */
    const uint8_t *inbox;           /* mapped twice */
    uint64_t entries, inbox_bytes;

    /* inbox cursor */
    uint64_t meta_head, inbox_head;
    uint64_t next_offset; /* where the entry at meta_head must start */
    bool offset_known;
    uint32_t peeked;
    uint64_t peeked_end;        /* position behind the last one peeked at */
    struct sluice_meta *copies; /* observer: what was peeked at */
    uint32_t copies_max;

    /* the writer memfd; NULL for an observer */
    void *fixed;
    uint64_t fixed_bytes;
    struct writer_shared *mine;
    uint32_t index;
    uint64_t number; /* of a local one's writer: nobody else's ever */
    struct producer outbox, pongs;
    uint64_t request;

    /* sleeping */
    uint32_t waiting_count;
    uint32_t rung; /* the engine's asleep word last rung for */
    uint64_t state_seen;
};

void sluice_client_ring(struct sluice_client *c, unsigned wake_on);
bool sluice_client_has_entry(const struct sluice_client *c);
bool sluice_producer_has_room(struct producer *p);

#endif
