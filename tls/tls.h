/*
 * TLS without I/O: ciphertext in, plaintext out, and the other way round. Who moves the bytes, on
 * which thread and with which deadline is the caller's. One suite, tests/unit/test_tls_*.c, runs on
 * every provider.
 *
 * A context is the configuration, read and checked once; any number of sessions share it. A session
 * is one connection, touched by one thread at a time. Calls never block and never call back.
 *
 *  1. Ciphertext comes as a window into the caller's memory, borrowed for the call; each call moves
 *     its beginning past what it took. What a session took it never wants again.
 *  2. A window may end anywhere; a session takes no more than one record ahead of what it hands
 * out, and exactly to the end of a record when the window ends there.
 *  3. Plaintext goes straight to the caller's buffer, and only when its record was authenticated.
 *  4. Ciphertext to send goes to the output ring: look at sluice_tls_output() after *every* call
 *     (answers to KeyUpdate, alerts of a failure), and call sluice_tls_sent() when it left.
 *  5. A chunk is encrypted whole or not at all; one of up to SLUICE_TLS_RECORD_MAX bytes is one
 *     record.
 *  6. After open nothing is allocated by us; what the library allocates is its own.
 */
#ifndef SLUICE_TLS_H
#define SLUICE_TLS_H

#include "base/reason.h"
#include "tls/tls_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SLUICE_TLS_RECORD_MAX 16384u /* bytes of plaintext in one record: RFC 8446 5.1 */

#define SLUICE_TLS_HEADER_BYTES 5u /* of a record */

/* A record's ciphertext at most, header included: RFC 5246 6.2.3 (RFC 8446 5.2 allows less). The
 * caller's ring of ciphertext must hold one. */
#define SLUICE_TLS_WIRE_MAX (5u + SLUICE_TLS_RECORD_MAX + 2048u)

/* The output ring at least: one record and, behind it, room that write() leaves to alerts. */
#define SLUICE_TLS_OUTPUT_MIN 32768u

/* Records without application data (tickets, KeyUpdates, requests to renegotiate) in a row. */
#define SLUICE_TLS_CONTROL_RUN_MAX 64u

struct sluice_tls_context;
struct sluice_tls_provider;

/** Why something failed. Fixed size: no allocation on the way down. */
struct sluice_tls_error {
    enum sluice_reason reason; /* NONE: nothing failed */
    int alert;                 /* RFC 8446 6, or -1; which way it went says the text */
    int verify_code;           /* X509_V_ERR_*, or 0 */
    char text[256];            /* one line of printable ASCII, for people */
};

enum sluice_tls_state {
    SLUICE_TLS_HANDSHAKE,
    SLUICE_TLS_OPEN,  /* the peer's close_notify and ours are in `closed` */
    SLUICE_TLS_FAILED /* see error; output may hold the alert that tells the peer */
};

#define SLUICE_TLS_CLOSED_BY_PEER 0x1u /* its close_notify came: nothing will be read any more */
#define SLUICE_TLS_CLOSED_BY_US   0x2u /* ours is in the output: nothing can be written any more */

/** Ciphertext from the peer, borrowed for one call, which moves it on. */
struct sluice_tls_input {
    const uint8_t *data;
    size_t bytes;
};

#define SLUICE_TLS_1_2 0x0303u
#define SLUICE_TLS_1_3 0x0304u

enum sluice_tls_direction { SLUICE_TLS_TX, SLUICE_TLS_RX };

enum sluice_tls_aead {
    SLUICE_TLS_AES_128_GCM,
    SLUICE_TLS_AES_256_GCM,
    SLUICE_TLS_CHACHA20_POLY1305
};

/** What encrypts one direction from its next record on. Secret: wipe it. */
struct sluice_tls_keys {
    uint16_t version;
    uint8_t aead; /* enum sluice_tls_aead */
    uint8_t key_bytes;
    uint8_t key[32];
    uint8_t iv[12];   /* RFC 8446 5.3; TLS 1.2 with GCM: the first 4, the salt */
    uint8_t nonce[8]; /* TLS 1.2 with GCM, TX: explicit part of the next record */
    uint64_t sequence;
};

/** The kernel's share: a message between records (control.c). */
struct sluice_tls_partial {
    uint8_t head[5]; /* type, length, and a KeyUpdate's only byte */
    uint8_t have;
    uint32_t left;
};

#define SLUICE_TLS_MAGIC 0x746c7373u

/** First member of every provider's session. To be read by the caller; written where it says so. */
struct sluice_tls_session {
    uint32_t magic;
    enum sluice_tls_state state;
    uint16_t version; /* SLUICE_TLS_1_*, once open */
    bool wants_keys;  /* the caller's, before the first handshake(): keys() will be asked */
    const struct sluice_tls_provider *provider;
    unsigned closed;      /* SLUICE_TLS_CLOSED_* */
    uint32_t control_run; /* without data between; the caller zeroes it every 100 ms or so, which
                             makes SLUICE_TLS_CONTROL_RUN_MAX a rate */
    uint64_t control_records;
    uint64_t records_out; /* under the keys of now */
    size_t pending; /* decrypted bytes of a record that did not fit: read() them before waiting */
    uint8_t *out_base;
    size_t out_bytes;
    uint64_t out_head, out_tail;
    struct sluice_tls_partial partial;
    struct sluice_tls_error error;
};

/** What was agreed; texts live as long as the session. */
struct sluice_tls_info {
    const char *version;  /* "TLSv1.3" */
    const char *cipher;   /* "TLS_AES_128_GCM_SHA256" */
    const char *alpn;     /* "" without */
    const char *verified; /* "chain", "chain+pin", "pin", "none" */
    char peer[128];       /* subject of the peer's certificate, printable; "" without one */
    char doubt[128];      /* no_verify: what would have been refused; "" if nothing */
    bool resumed;         /* an earlier session goes on: what it verified was not shown again */
    bool ticket;          /* resume: one is there for the next session */
};

struct sluice_tls_provider {
    const char *name;
    const char *(*version)(void); /* of the library that runs, not the one compiled against */

    /**
     * Read the files, check everything that can be checked without a peer.
     *
     * @return 0; -EINVAL, -ENOTSUP (this provider has no such option), -ENOMEM, with *err filled in
     *         and *out NULL.
     */
    int (*context_create)(struct sluice_tls_context **out, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err);
    void (*context_destroy)(
        struct sluice_tls_context *ctx); /* NULL is fine; sessions may live on */

    /**
     * @param host      client: the peer's name or address as the user gave it, copied; else NULL.
     * @param out_base  output ring, mapped twice back to back; borrowed until destroy.
     * @param out_bytes its size once: a power of two, at least SLUICE_TLS_OUTPUT_MIN.
     * @return 0; -EINVAL, -ENOMEM, with *err filled in and *out NULL.
     */
    int (*session_create)(struct sluice_tls_session **out, struct sluice_tls_context *ctx,
                          const char *host, uint8_t *out_base, size_t out_bytes,
                          struct sluice_tls_error *err);
    void (*session_destroy)(struct sluice_tls_session *s); /* NULL is fine */

    /**
     * One step; a client's first one needs no input.
     *
     * @return 0        done: state is OPEN, what is left of the window is application data;
     *         -EAGAIN  more input is needed;
     *         -ENOBUFS the output ring is full: let it drain, then again;
     *         -EPROTO  failed: see error, send what is in the output.
     */
    int (*handshake)(struct sluice_tls_session *s, struct sluice_tls_input *in);

    /**
     * Bytes of at most one record. Room for a whole record (SLUICE_TLS_RECORD_MAX) leaves nothing
     * pending. State must be OPEN; our own close does not end reading.
     *
     * @return > 0      bytes; `pending` says how many of the same record are left;
     *         0        close_notify: the clean end, again at each call;
     *         -EAGAIN  more input is needed, the window is used up;
     *         -ENOBUFS no room in the output ring for an answer: let it drain, then again;
     *         -EPROTO  failed: see error, send what is in the output. Nothing of the record that
     *                  failed was handed out.
     */
    ssize_t (*read)(struct sluice_tls_session *s, struct sluice_tls_input *in, void *buf,
                    size_t buf_bytes);

    /**
     * Encrypt the first SLUICE_TLS_RECORD_MAX of these bytes, or all if they are fewer, as one
     * record. State must be OPEN.
     *
     * @param data  copied by encrypting it; not touched after the call.
     * @return > 0         bytes taken;
     *         -EAGAIN     no room in the output ring: nothing taken, let it drain;
     *         -EINPROGRESS the peer stopped inside a control message: nothing taken, read() first;
     *         -EPIPE      closed by us;
     *         -EPROTO     failed: see error.
     */
    ssize_t (*write)(struct sluice_tls_session *s, const void *data, size_t bytes);

    /**
     * Our close_notify goes to the output, once; reading goes on. During a handshake there is
     * nothing to say: it cannot be finished after that.
     *
     * @return 0, -ENOBUFS (no room: again later), or -EPROTO.
     */
    int (*close)(struct sluice_tls_session *s);

    /**
     * New keys for what we send (TLS 1.3 KeyUpdate), with the next write(); ask: the peer shall do
     * the same. write() does it by itself before a cipher's limit.
     *
     * @return 0, or -ENOTSUP (TLS 1.2, or the provider cannot).
     */
    int (*rekey)(struct sluice_tls_session *s, bool ask);

    /**
     * What the kernel needs to do it instead. Asked right after the handshake, its output sent and
     * nothing read behind it; then neither read(), write() nor close() any more, for no record may
     * be encrypted twice under one number.
     *
     * @return 0, or -ENOTSUP: cipher or provider cannot. Also NULL: the provider cannot.
     */
    int (*keys)(struct sluice_tls_session *s, enum sluice_tls_direction d,
                struct sluice_tls_keys *out);

    /** Those after a KeyUpdate, each call one further: 0 or -ENOTSUP. */
    int (*next_keys)(struct sluice_tls_session *s, enum sluice_tls_direction d,
                     struct sluice_tls_keys *out);

    /** State must be OPEN. */
    void (*info)(const struct sluice_tls_session *s, struct sluice_tls_info *out);
};

/** Name of an alert as RFC 8446 6 has it ("close_notify"), or "unknown". */
const char *sluice_tls_alert_name(int alert);

/**
 * The socket reached its end, and the whole window was read.
 *
 * @return 0 when close_notify came before; else -EPROTO, with reason TLS_TRUNCATED: the bytes
 * handed out are genuine, but there may have been more.
 */
int sluice_tls_eof(struct sluice_tls_session *s);

/** Ciphertext to send: *data, and how many bytes; 0: nothing. Stays in place until sent. */
static inline size_t sluice_tls_output(const struct sluice_tls_session *s, const uint8_t **data)
{
    *data = s->out_base + (s->out_head & (s->out_bytes - 1));
    return (size_t)(s->out_tail - s->out_head);
}

#define SLUICE_TLS_TYPE_ALERT     21u
#define SLUICE_TLS_TYPE_HANDSHAKE 22u
#define SLUICE_TLS_TYPE_DATA      23u

#define SLUICE_TLS_NEW_KEYS    1 /* the peer's next record is under its next keys */
#define SLUICE_TLS_ANSWER_DUE  2 /* the same, and it wants ours to change too */
#define SLUICE_TLS_REFUSAL_DUE 3 /* TLS 1.2: it wants to renegotiate; a warning says no */

/**
 * A record without data, or a part of one, that the kernel decrypted after keys() was asked: what
 * read() does with it inside.
 *
 * @return 0 (see `closed`), SLUICE_TLS_NEW_KEYS, _ANSWER_DUE, _REFUSAL_DUE, or -EPROTO: see error,
 *         whose alert is to be sent unless the reason is TLS_ALERT.
 */
int sluice_tls_control(struct sluice_tls_session *s, unsigned type, const uint8_t *data,
                       size_t bytes);

/** RFC 8446 5.5: AES-GCM is good for 2^24.5 full records under one key. Tests have a smaller one.
 */
extern uint64_t sluice_tls_records_per_key;

/** So many more left under the keys of now: whether it is time for others. */
bool sluice_tls_count_records(struct sluice_tls_session *s, uint64_t records);

/** The kernel refused a record: -EBADMSG, -EMSGSIZE, ... Returns -EPROTO: see error. */
int sluice_tls_bad_record(struct sluice_tls_session *s, int os_error);

/** These left; at most what sluice_tls_output() said. */
void sluice_tls_sent(struct sluice_tls_session *s, size_t bytes);

/** Bytes of one message on the wire at most, so: whether write() has room for it. */
static inline bool sluice_tls_has_room(const struct sluice_tls_session *s, size_t bytes)
{
    size_t chunk = bytes < SLUICE_TLS_RECORD_MAX ? bytes : SLUICE_TLS_RECORD_MAX;
    /* Fragments of 512 bytes (RFC 6066 4) with the longest MAC and padding cost less than a
     * quarter; alerts and KeyUpdates have the last 512 bytes. */
    return s->out_bytes - (size_t)(s->out_tail - s->out_head) >= chunk + chunk / 4 + 1024;
}

/** Those of this build, the preferred one first, `none` last; ends with NULL. */
extern const struct sluice_tls_provider *const sluice_tls_providers[];

/** Find by name; NULL or "auto": the preferred one (`none` if there is no other). NULL: unknown. */
const struct sluice_tls_provider *sluice_tls_find(const char *name);

#endif
