/*
 * The channel: the shared memory of one connection, seen by its two sides. The engine creates it,
 * clients (upstream, producers, observers) attach to it. No sockets of the connection, no TLS and
 * no threads live here. Public (installs as sluice/channel.h).
 *
 *   MSG_INBOX     engine -> upstream   the byte stream of the connection, gap-free
 *   MSG_METADATA  engine -> upstream   one struct sluice_meta per arrival, control events in order
 *   MSG_OUTBOX    client -> engine     whole messages, back to back; a slot ring holds the lengths
 *   PONGS         upstream -> engine   the same two parts, for framed PONGs
 *   state block   engine -> everybody  struct sluice_state, counters, close records
 *
 * All positions are free-running 64-bit counts. A client handle belongs to one thread at a time.
 * Functions return 0 or a count, or a negative errno: see each.
 */
#ifndef SLUICE_CHANNEL_H
#define SLUICE_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#ifndef SLUICE_API
#define SLUICE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_LAYOUT_VERSION 2
#define SLUICE_CACHE_LINE     64u
#define SLUICE_WRITERS_MAX    8u  /* one upstream and up to seven producers */
#define SLUICE_NAME_MAX       48u /* bytes of a channel's name, [A-Za-z0-9._-] */
#define SLUICE_CLOSE_RECORDS  8u  /* the last ones, kept in the state block */

/* ---- what lies in shared memory and clients may read ------------------------------------------
 */

enum sluice_event {
    SLUICE_EVENT_DATA = 0,         /* decrypted_len bytes at msg_inbox_offset */
    SLUICE_EVENT_CONNECTED = 1,    /* a connection is open; reset the parser */
    SLUICE_EVENT_EOF = 2,          /* the peer sends no more; we still may */
    SLUICE_EVENT_DISCONNECTED = 3, /* it ended; nothing of it follows */
};

#define SLUICE_META_PHASE      0x01u /* flips every lap, as in an NVMe completion queue */
#define SLUICE_META_RECORD_END 0x02u /* a TLS record ends with these bytes */
#define SLUICE_META_STAMP_SW   0x04u /* nic timestamps were given by the kernel */
#define SLUICE_META_STAMP_HW   0x08u /* nic timestamps were given by the NIC */

/**
 * One entry of MSG_METADATA: 64 bytes, one cache line. Zero means "not known". Timestamps are
 * CLOCK_REALTIME ns; cycles are those of sluice_state.clock. The last eight bytes are stored last,
 * as one word, with release: a reader that sees the phase of its lap sees the whole entry.
 */
struct sluice_meta {
    __extension__ union {
        __extension__ struct {
            uint64_t first_nic_timestamp_ns;     /* given by the first receive merged in here */
            uint64_t first_nic_frame_poll_cycle; /* the engine saw the completion, oldest */
            uint64_t latest_nic_timestamp_ns;    /* given by the last receive merged in here */
            uint64_t latest_nic_frame_poll_cycle;
            uint64_t latest_raw_frame_poll_cycle; /* just before the bytes were read or decrypted */
            uint64_t ssl_read_cycle;              /* the plaintext was in the inbox */
        };
        __extension__ struct {   /* control events: what happened (the full record: struct
                                    sluice_close_record) */
            uint32_t connection; /* number of the connection, from 1 */
            uint32_t reason;     /* enum sluice_reason */
            int32_t os_error;    /* errno, 0 if none */
            uint32_t tls_alert;  /* number + 1, 0 if none */
            uint64_t messages_sent;
            uint64_t half_sent_bytes;
            uint64_t messages_left;
            uint64_t event_cycle; /* when the engine wrote this entry */
        };
    };
    uint64_t msg_inbox_offset; /* position of the first byte in MSG_INBOX */
    uint32_t decrypted_len;    /* bytes; 0 for a control event */
    uint8_t event;             /* enum sluice_event */
    uint8_t flags;             /* SLUICE_META_* */
    uint16_t nic_packet_ct;    /* packets that contributed, 0 if not known */
};

/** How one connection ended. All counts are of this connection. */
struct sluice_close_record {
    uint32_t connection;
    uint32_t reason;          /* enum sluice_reason */
    int32_t os_error;         /* errno, 0 if none */
    uint32_t tls_alert;       /* number + 1, 0 if none */
    uint64_t opened_ns;       /* CLOCK_REALTIME; 0: never open */
    uint64_t closed_ns;       /* CLOCK_REALTIME */
    uint64_t received_bytes;  /* published in MSG_INBOX */
    uint64_t messages_sent;   /* whole, handed to the kernel (not: delivered) */
    uint64_t sent_bytes;      /* handed to the kernel */
    uint64_t half_sent_bytes; /* of a message that was not sent whole */
    uint64_t messages_left;   /* never begun */
    uint64_t acked_bytes;     /* acknowledged by the peer's TCP; UINT64_MAX: not known */
    uint64_t inbox_end;       /* position behind its last byte in MSG_INBOX */
    uint64_t reserved[5];
};

enum sluice_conn_state {
    SLUICE_CONN_IDLE,
    SLUICE_CONN_RESOLVING,
    SLUICE_CONN_CONNECTING,
    SLUICE_CONN_HANDSHAKING,
    SLUICE_CONN_OPEN,
    SLUICE_CONN_DRAINING, /* our side sends no more; the peer still may */
    SLUICE_CONN_CLOSING,
    SLUICE_CONN_CLOSED,
    SLUICE_CONN_WAITING, /* for the next attempt */
    SLUICE_CONN_STATES
};

#define SLUICE_READY_TCP      0x1u /* the TCP connection stands */
#define SLUICE_READY_TLS      0x2u /* the stream can carry plaintext (at once on plain TCP) */
#define SLUICE_READY_UPSTREAM 0x4u /* the upstream said so: sluice_client_set_ready() */

/** X(name, what it counts). All are running totals of the engine, of all its connections. */
#define SLUICE_COUNTER_MAP(X)                                                              \
    X(received_bytes, "bytes published in MSG_INBOX")                                      \
    X(received_entries, "DATA entries published in MSG_METADATA")                          \
    X(merged_receives, "receives merged into an unpublished entry, MSG_METADATA was full") \
    X(sent_bytes, "bytes handed to the kernel")                                            \
    X(sent_messages, "whole messages handed to the kernel, PONGs included")                \
    X(sent_pongs, "PONGs among them")                                                      \
    X(sends, "send operations")                                                            \
    X(short_sends, "sends that took fewer bytes than given")                               \
    X(stale_messages, "messages dropped: meant for an earlier connection")                 \
    X(empty_messages, "messages of no bytes, skipped")                                     \
    X(inbox_full_stalls, "times no receive was armed because MSG_INBOX was full")          \
    X(metadata_full_stalls, "times MSG_METADATA was found full")                           \
    X(buffer_starvations, "receives ended because no buffer was left")                     \
    X(doorbells, "times a sleeping client was woken")                                      \
    X(sleeps, "times the loop went to sleep")                                              \
    X(turns_over_1ms, "turns of the loop that took longer than 1 ms")                      \
    X(turn_max_ns, "longest turn of the loop, ns")                                         \
    X(inbox_high_water_bytes, "most unread bytes in MSG_INBOX")                            \
    X(outbox_high_water_bytes, "most unsent bytes in one MSG_OUTBOX")                      \
    X(connections, "connections opened")                                                   \
    X(connect_failures, "attempts that did not open")                                      \
    X(clients_attached, "clients that attached")                                           \
    X(clients_corrupt, "clients thrown out because they wrote nonsense")                   \
    X(discarded_bytes, "bytes given up because no upstream was attached to read them")

enum sluice_counter {
#define SLUICE_COUNTER_ENUM(name, text) SLUICE_COUNTER_##name,
    SLUICE_COUNTER_MAP(SLUICE_COUNTER_ENUM)
#undef SLUICE_COUNTER_ENUM
        SLUICE_COUNTERS
};

/** A copy of the state block, taken by sluice_channel_state() or sluice_client_state(). */
struct sluice_state {
    uint64_t epoch; /* of the channel; random, new each time one is created */
    uint32_t engine_pid;
    uint32_t layout;       /* SLUICE_LAYOUT_VERSION of the engine */
    uint32_t conn_state;   /* enum sluice_conn_state */
    uint32_t ready;        /* SLUICE_READY_* */
    uint32_t connection;   /* number of the connection that is open, or of the next one */
    uint32_t upstream_pid; /* 0: none attached */
    uint32_t producers;    /* attached */
    uint32_t asleep;       /* 1: the engine sleeps; its heartbeat rests with it */
    uint32_t preferred;    /* 1: of the connections of its engine it is served first */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of a turn not long ago, when not asleep */
    struct {
        uint64_t cycles, monotonic_ns, realtime_ns; /* read at one moment */
        uint64_t cycles_per_s;
        uint64_t is_tsc; /* 0: cycles are CLOCK_MONOTONIC ns */
    } clock;
    uint64_t inbox_bytes, metadata_entries, outbox_bytes, outbox_slots, pongs_bytes, pongs_slots;
    uint64_t inbox_tail, inbox_head; /* produced, released by the upstream */
    uint64_t metadata_tail, metadata_head;
    uint64_t counters[SLUICE_COUNTERS];
    char name[SLUICE_NAME_MAX + 8];
    char peer[128];   /* URL and address */
    char backend[32]; /* what runs, and why, each one line of text */
    char backend_reason[160];
    char model[32];
    char model_reason[128];
    char tls[64];
    char tls_reason[256];
    uint64_t close_count; /* close records written since the start; the last ones follow */
    struct sluice_close_record
        closes[SLUICE_CLOSE_RECORDS]; /* record n at n % SLUICE_CLOSE_RECORDS */
};

/* ---- engine's side ----------------------------------------------------------------------------
 */

struct sluice_channel;

/** Sizes: bytes are rounded up to pages and a power of two, counts to a power of two; 0: default.
 */
struct sluice_channel_config {
    const char *name;          /* NULL: private, only sluice_attach_local() can attach */
    uint64_t inbox_bytes;      /* default 1 MiB; 64 KiB to 1 GiB */
    uint64_t outbox_bytes;     /* default 1 MiB, each client; 64 KiB to 1 GiB */
    uint32_t metadata_entries; /* default 4096; 64 to 1 Mi */
    uint32_t outbox_slots;     /* default 4096; 64 to 1 Mi */
    uint32_t pongs_slots;      /* default 64; 16 to 64 Ki (256 bytes of PONG each) */
};

/**
 * Create a channel and, when it has a name, listen for clients on the socket NAME.sock in the
 * rendezvous directory. The socket of a dead engine is replaced.
 *
 * @param out  receives the channel, NULL on failure; destroy it with sluice_channel_destroy().
 * @param cfg  borrowed for this call.
 * @return 0, or
 *         -EINVAL      a size out of range, or a name with other characters than [A-Za-z0-9._-];
 *         -EADDRINUSE  a live engine has the name: sluice_channel_owner() tells its pid;
 *         -EACCES, -EPERM  the directory is not ours;
 *         -ENOENT      no rendezvous directory: set XDG_RUNTIME_DIR;
 *         -ENOMEM, -EMFILE, other negated errno values of memfd_create, mmap and bind.
 * Thread: any; the channel belongs to one thread at a time.
 */
SLUICE_API int sluice_channel_create(struct sluice_channel **out,
                                     const struct sluice_channel_config *cfg);

/** Stop listening, remove the socket file, close clients' sockets, free. NULL is fine. */
SLUICE_API void sluice_channel_destroy(struct sluice_channel *ch);

/** Copy the state block. Thread: the channel's. */
SLUICE_API void sluice_channel_state(const struct sluice_channel *ch, struct sluice_state *out);

/** Pid of the live engine that has this name (INT_MAX where the system does not tell), or 0 when
 *  there is none, or negative errno. */
SLUICE_API int sluice_channel_owner(const char *name);

/** Directory in which names live ($XDG_RUNTIME_DIR/sluice or /run/sluice): 0 or negative errno. */
SLUICE_API int sluice_channel_directory(char *out, size_t out_bytes);

/* ---- clients' side ----------------------------------------------------------------------------
 */

enum sluice_role {
    SLUICE_UPSTREAM = 1, /* the inbox's cursor, PONGS, an outbox; one at a time */
    SLUICE_PRODUCER = 2, /* an outbox */
    SLUICE_OBSERVER = 3, /* reads, never gates, may be lapped (-ESTALE) */
};

struct sluice_client;

/**
 * Attach to the channel of that name.
 *
 * An upstream continues exactly after what the one before it released; an observer starts behind
 * the newest entry, at what comes next.
 *
 * @param out   receives the handle, NULL on failure; give it back with sluice_detach().
 * @return 0, or
 *         -ENOENT     no engine has this name (the socket file of a dead one is removed);
 *         -EBUSY      another upstream is attached, or as many clients as there are places for;
 *         -EACCES     the socket or the engine refuses this user;
 *         -EPROTO     layout version or sizes do not match;
 *         -ERANGE     the engine waits in select, and its descriptor of us is too high for that;
 *         -EMFILE     here or at the engine no descriptor is left;
 *         -ETIMEDOUT  the engine did not answer within timeout_ns (observers then read the memory
 * of the stuck engine through /proc, if they may); other negated errno values of mmap and the
 * socket calls.
 */
SLUICE_API int sluice_attach(struct sluice_client **out, const char *name, enum sluice_role role,
                             int64_t timeout_ns);

/** Attach within the engine's process. Call before the loop runs, or on its thread. */
SLUICE_API int sluice_attach_local(struct sluice_client **out, struct sluice_channel *ch,
                                   enum sluice_role role);

/** Detach: unreleased entries stay for the next upstream. NULL is fine. */
SLUICE_API void sluice_detach(struct sluice_client *c);

#define SLUICE_WAIT_INBOX  0x1u /* an entry to peek at */
#define SLUICE_WAIT_OUTBOX 0x2u /* room came back in an outbox that was full */
#define SLUICE_WAIT_STATE  0x4u /* the connection state or a ready flag changed */

/**
 * Sleep until one of the things in what happens. An entry already there returns at once; for room
 * and state, "since the last wait for it".
 *
 * @param timeout_ns  0 looks and returns, -1 has no limit.
 * @return what happened (bits of what), 0 after timeout_ns, or
 *         -EPIPE   the engine is gone and nothing is left to read, or one of the two had no memory
 *                  to wake the other: then attaching again may work;
 *         -EINTR   a signal came.
 * Observers poll every millisecond.
 */
SLUICE_API int sluice_client_wait(struct sluice_client *c, unsigned what, int64_t timeout_ns);

/** Sleep until all the ready flags stand: 0, -ETIMEDOUT, -EPIPE, -EINTR, or -ECONNABORTED when the
 *  connection ended before they did (its record: sluice_client_state()). */
SLUICE_API int sluice_client_wait_ready(struct sluice_client *c, unsigned ready,
                                        int64_t timeout_ns);

/**
 * For a poll loop of one's own: a descriptor that becomes readable when something in what happens,
 * or the engine is gone. Never read it. Arm before each poll: it returns the bits that are there
 * already (do not sleep then), else 0. Disarm after each poll: 0, or -EPIPE the engine is gone
 * (what it left can still be read). An observer is told of nothing but the engine's end.
 */
SLUICE_API int sluice_client_fd(const struct sluice_client *c);
SLUICE_API int sluice_client_arm(struct sluice_client *c, unsigned what);
SLUICE_API int sluice_client_disarm(struct sluice_client *c);

/** Copy the state block; also while the engine is stuck. */
SLUICE_API void sluice_client_state(const struct sluice_client *c, struct sluice_state *out);

/** Ask the engine to end the connection in order, as sluice_transport_close() does (upstream only):
 *  0 or -EPERM. */
SLUICE_API int sluice_client_request_close(struct sluice_client *c);

/** Ask the engine to end the connection at once, whatever its state, and to connect again, as
 *  sluice_transport_reconnect() does (upstream only): 0 or -EPERM. */
SLUICE_API int sluice_client_request_reconnect(struct sluice_client *c);

/** Ask the engine to serve this connection before its others: state.preferred moves here (upstream
 *  only): 0 or -EPERM. */
SLUICE_API int sluice_client_request_preference(struct sluice_client *c);

/** Say that the upstream's own handshake is done, or not any more (upstream only). */
SLUICE_API int sluice_client_set_ready(struct sluice_client *c, int ready);

/* ---- MSG_METADATA and MSG_INBOX (upstream, observer) ------------------------------------------
 */

/**
 * Entries that are there and not released yet, oldest first; never blocks.
 *
 * @param entries   receives an array of the returned length. Upstream: it and the bytes it speaks
 * of are leased until released. Observer: a copy, valid until the next peek.
 * @param max       most entries wanted, at least 1.
 * @return entries (0: nothing new), or
 *         -ESTALE    an observer was lapped: what was read since the last release may be
 * overwritten already, throw it away. Reading goes on behind the newest entry; -EBADMSG   the
 * engine wrote nonsense (the handle is of no use any more); -EPERM     a producer has no inbox.
 */
SLUICE_API int64_t sluice_inbox_peek(struct sluice_client *c, const struct sluice_meta **entries,
                                     uint32_t max);

/** The bytes at a position; contiguous up to the inbox's size whatever the position is. */
SLUICE_API const uint8_t *sluice_inbox_at(const struct sluice_client *c, uint64_t position);

/**
 * Release the first entries peeked at, with all their bytes.
 *
 * @return 0, or -EINVAL more than were peeked at; for an observer also
 *         -ESTALE  lapped, as above.
 */
SLUICE_API int sluice_inbox_release(struct sluice_client *c, uint32_t entries);

/**
 * Release entries but only the bytes below keep_from: a message that is not complete yet stays
 * contiguous, and stays there for the next upstream should this one die. At most the inbox less one
 * slice (64 KiB by default) can be kept while more bytes are waited for. Upstream only.
 */
SLUICE_API int sluice_inbox_release_to(struct sluice_client *c, uint32_t entries,
                                       uint64_t keep_from);

/** The first byte not released yet. Bytes from here to the first entry's were kept. */
SLUICE_API uint64_t sluice_inbox_position(const struct sluice_client *c);

/* ---- MSG_OUTBOX and PONGS (upstream, producer) ------------------------------------------------
 */

enum sluice_message_type {
    SLUICE_MESSAGE_DATA = 0,
    SLUICE_MESSAGE_WS_CLOSE = 1, /* after these bytes (may be none) our side sends no more: FIN */
};

/**
 * Claim room for one whole message, write it there, then commit or abort. One claim at a time.
 *
 * @param bytes  1 to half the outbox (sluice_outbox_limit()); 0 only for WS_CLOSE.
 * @param room   receives the place to write to; leased until commit or abort.
 * @return 0, or
 *         -EAGAIN    full: nothing taken; wait for SLUICE_WAIT_OUTBOX;
 *         -EMSGSIZE  longer than the limit;
 *         -EPERM     the role has no such ring;
 *         -EBADMSG   the engine wrote nonsense.
 */
SLUICE_API int sluice_outbox_claim(struct sluice_client *c, size_t bytes, void **room);

/**
 * Publish the claimed message and every one held back before it.
 *
 * @param connection  the connection it is meant for (from the CONNECTED event), or 0 for the
 *                    current one. The engine drops it when its turn comes on another.
 * @param type        enum sluice_message_type.
 */
SLUICE_API void sluice_outbox_commit(struct sluice_client *c, uint32_t connection, unsigned type);

/** Like commit, but the message is seen by the engine only with the next commit: for batches. */
SLUICE_API void sluice_outbox_hold(struct sluice_client *c, uint32_t connection, unsigned type);

/** Give the claimed room back. */
SLUICE_API void sluice_outbox_abort(struct sluice_client *c);

/** Longest message, bytes. */
SLUICE_API size_t sluice_outbox_limit(const struct sluice_client *c);

/** Messages and bytes not yet taken by the kernel. */
SLUICE_API void sluice_outbox_depth(const struct sluice_client *c, uint64_t *messages,
                                    uint64_t *bytes);

/** The newest message that the engine took up, to encrypt and send it. Cycles as in
 *  sluice_state.clock. */
struct sluice_outbox_stamp {
    uint64_t messages;     /* of this client's that it has taken up so far, this one included */
    uint64_t commit_cycle; /* when this one was committed, or held */
    uint64_t taken_cycle;
};

/** @return 0, -EAGAIN none yet, or one is being taken up just now, or -EPERM an observer has none.
 */
SLUICE_API int sluice_outbox_stamped(const struct sluice_client *c,
                                     struct sluice_outbox_stamp *out);

/** The same for a framed PONG (upstream only), at most sluice_pong_limit() bytes (at least 131). */
SLUICE_API int sluice_pong_claim(struct sluice_client *c, size_t bytes, void **room);
SLUICE_API void sluice_pong_commit(struct sluice_client *c, uint32_t connection);
SLUICE_API void sluice_pong_abort(struct sluice_client *c);
SLUICE_API size_t sluice_pong_limit(const struct sluice_client *c);

#ifdef __cplusplus
}
#endif
#endif
