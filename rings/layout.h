/*
 * What lies in the two kinds of memfd, byte by byte. Nothing here acts; engine.h and client.c do.
 *
 * Engine memfd (one per channel; only the engine can write it):
 *
 *   0                   struct engine_header    fixed at creation
 *   ENGINE_SHARED_AT    struct engine_shared    state, counters, cursors
 *   header.meta_at      MSG_METADATA            entries of 64 bytes, mapped twice
 *   header.inbox_at     MSG_INBOX               bytes, mapped twice
 *
 * Writer memfd (one per attached upstream or producer; only that client can write it):
 *
 *   0                   struct writer_header    written by the engine, checked by both
 *   WRITER_SHARED_AT    struct writer_shared    tails, heads, flags
 *   header.slots_at     slots of the outbox, then of PONGS
 *   header.outbox.at    MSG_OUTBOX bytes, mapped twice
 *   header.pongs.at     PONGS bytes, mapped twice
 *
 * Lines are 128 bytes apart: Intel's prefetcher moves pairs of 64.
 */
#ifndef SLUICE_RINGS_LAYOUT_H
#define SLUICE_RINGS_LAYOUT_H

#include "channel.h"

#include <stdatomic.h>

#define LAYOUT_PAGE      4096u
#define ENGINE_MAGIC     0x3145434955 /* "UICE1" */
#define WRITER_MAGIC     0x3157434955 /* "UICW1" */
#define ENGINE_SHARED_AT LAYOUT_PAGE
#define WRITER_SHARED_AT LAYOUT_PAGE
#define LAYOUT_LINE      _Alignas(128)

/* Slots of MSG_METADATA that DATA may not take: DATA merged before it, EOF and DISCONNECTED of a
 * connection that ends must fit whatever the upstream does. */
#define META_RESERVE 4u

#define PONG_BYTES_MAX 256u

typedef _Atomic uint64_t shared_u64;
typedef _Atomic uint32_t shared_u32;
_Static_assert(sizeof(shared_u64) == 8 && ATOMIC_LLONG_LOCK_FREE == 2, "lock-free 64-bit atomics");

struct engine_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t engine_pid;
    uint64_t epoch;
    uint64_t memory_bytes;
    uint64_t meta_at, meta_entries;
    uint64_t inbox_at, inbox_bytes;
    uint64_t outbox_bytes, outbox_slots;
    uint64_t pongs_bytes, pongs_slots;
    uint64_t clock_cycles, clock_monotonic_ns, clock_realtime_ns;
    uint64_t clock_cycles_per_s, clock_is_tsc;
    char name[SLUICE_NAME_MAX + 8];
};
_Static_assert(sizeof(struct engine_header) <= ENGINE_SHARED_AT, "header fits its page");

/* One two-part ring of one writer, the engine's half. */
struct ring_heads {
    shared_u64 byte_head;
    shared_u64 slot_head;
    shared_u64 run_end;   /* slots up to the end of the newest run that leaves; 0: changing, none */
    shared_u64 run_cycle; /* when it was formed */
};

/* The texts and close records: a private copy in the engine, published whole under a version. */
struct state_text {
    char peer[128];
    char backend[32];
    char backend_reason[160];
    char model[32];
    char model_reason[128];
    char tls[64];
    char tls_reason[256];
    uint64_t close_count;
    struct sluice_close_record closes[SLUICE_CLOSE_RECORDS];
};
#define STATE_TEXT_WORDS (sizeof(struct state_text) / 8)
_Static_assert(sizeof(struct state_text) % 8 == 0, "copied by words");

/* Bits of engine_shared.asleep and writer_shared.waiting; above them a count of the times armed, so
 * that each sleep is rung for once. */
#define WAKE_ON_OUTBOX 0x1u /* engine: a message was published, or a request made */
#define WAKE_ON_INBOX  0x2u /* engine: bytes or entries were released */
#define WAKE_BITS      0xffu

struct engine_shared {
    LAYOUT_LINE shared_u32 conn_state;
    shared_u32 ready;
    shared_u32 connection;
    shared_u32 upstream_pid;
    shared_u32 producers;
    shared_u32 preferred;             /* of the connections of one engine it is served first */
    LAYOUT_LINE shared_u64 meta_tail; /* published; upstreams look at the phase instead */
    shared_u64 inbox_tail;
    shared_u64 meta_head; /* released by the upstream, as the engine last saw it */
    shared_u64 inbox_head;
    LAYOUT_LINE shared_u64 meta_lent; /* observers: older than this less the size may be gone */
    shared_u64 inbox_lent;
    LAYOUT_LINE shared_u32 asleep; /* WAKE_ON_* the engine sleeps for; 0 awake */
    LAYOUT_LINE shared_u64 heartbeat_ns;
    LAYOUT_LINE shared_u64 counters[SLUICE_COUNTERS];
    LAYOUT_LINE struct {
        LAYOUT_LINE struct ring_heads outbox;
        LAYOUT_LINE struct ring_heads pongs;
    } writers[SLUICE_WRITERS_MAX];
    LAYOUT_LINE shared_u64 text_version; /* odd: being written */
    shared_u64 text[STATE_TEXT_WORDS];
};

#define ENGINE_FIXED_BYTES                                                               \
    ((ENGINE_SHARED_AT + sizeof(struct engine_shared) + LAYOUT_PAGE - 1) / LAYOUT_PAGE * \
     LAYOUT_PAGE)

struct ring_part {
    uint64_t at, bytes; /* of the byte ring */
    uint64_t slots_at, slots;
};

struct writer_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t role;
    uint64_t epoch; /* of the channel it belongs to */
    uint64_t memory_bytes;
    uint32_t index; /* in engine_shared.writers */
    uint32_t pad;
    struct ring_part outbox, pongs;
};

/* One slot: a message's length and meaning. Its bytes follow those of the slot before. */
struct ring_slot {
    uint64_t commit_cycle; /* when it was committed */
    uint32_t bytes;
    uint16_t connection; /* low bits of the number it is meant for */
    uint8_t type;        /* enum sluice_message_type */
    uint8_t pad;
};
_Static_assert(sizeof(struct ring_slot) == 16, "four slots to a line");

/* One two-part ring, the writer's half: bytes first, slots last, with release. */
struct ring_tails {
    shared_u64 byte_tail;
    shared_u64 slot_tail;
};

/* writer_shared.request: 16-bit fields, each counts what its bit position says was asked for. Bit 0
 * is the upstream's ready flag, counted above it, so that each word on it is news. */
#define REQUEST_READY      1ull
#define REQUEST_READY_AT   0
#define REQUEST_CLOSE_AT   16
#define REQUEST_CONNECT_AT 32 /* to close, and to connect again */
#define REQUEST_PREFER_AT  48
#define REQUEST_FIELD      0xffffull

struct writer_shared {
    LAYOUT_LINE struct ring_tails outbox;
    shared_u64 request; /* here: the engine looks at this line every turn */
    LAYOUT_LINE struct ring_tails pongs;
    LAYOUT_LINE shared_u64 meta_head;
    shared_u64 inbox_head;
    LAYOUT_LINE shared_u32 waiting; /* SLUICE_WAIT_* the client sleeps for; 0 awake */
};
#define WRITER_FIXED_BYTES (2ull * LAYOUT_PAGE)
_Static_assert(sizeof(struct writer_shared) <= LAYOUT_PAGE, "second page of the writer memfd");

_Static_assert(sizeof(struct sluice_meta) == 64, "one cache line");
_Static_assert(offsetof(struct sluice_meta, decrypted_len) == 56, "the word stored last");
_Static_assert(sizeof(struct sluice_close_record) == 128, "two cache lines");

/* ---- what is said on the rendezvous socket (SOCK_SEQPACKET) ------------------------------------
 */

#define LINK_MAGIC 0x6c73u

/* client -> engine: {HELLO, role}, then, when it has mapped its writer memfd, {MAPPED}. Afterwards
 * a writer and the engine have a doorbell, and the socket is closed. */
enum link_say {
    LINK_HELLO = 1,
    LINK_MAPPED = 2,
    LINK_WELCOME = 3,
    LINK_READY = 4,
    LINK_REFUSED = 5,
};

struct link_message {
    uint16_t magic;
    uint16_t say;
    uint32_t layout;
    uint32_t role;
    int32_t error; /* REFUSED: negative errno. HELLO: the pid, for a system that does not tell */
    uint64_t epoch;
};
/* WELCOME carries descriptors: the engine memfd; for writers also the writer memfd and an end of
 * the doorbell. */
enum { LINK_FD_ENGINE, LINK_FD_WRITER, LINK_FD_BELL, LINK_FDS };

#endif
