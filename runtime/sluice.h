/*
 * sluice, the runtime: an event loop, and a transport that moves bytes between one TCP connection
 * and a channel (sluice/channel.h). Public (installs as sluice/sluice.h).
 *
 * A loop and all that was made from it belong to the thread that runs it; the exceptions say so.
 * Callbacks are called by the loop between operations, never inside a call of yours, and never
 * nested. Functions return 0 or a count, or a negative errno.
 */
#ifndef SLUICE_SLUICE_H
#define SLUICE_SLUICE_H

#include "channel.h"
#include "conn.h"
#include "reason.h"
#include "signals.h"
#include "timer.h"
#include "tls_config.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_VERSION "0.1.0"

/* ---- loop -------------------------------------------------------------------------------------
 */

struct sluice_loop;

enum sluice_idle {
    SLUICE_IDLE_SLEEP, /* sleep in the kernel when nothing is to do */
    SLUICE_IDLE_SPIN,  /* spin for spin_us after the last work, then sleep */
    SLUICE_IDLE_BUSY,  /* never sleep, no system call while idle */
};

struct sluice_loop_config {
    const char *backend; /* "auto" (or NULL), "uring", "ev"; a named one never changes silently */
    const char *event;   /* of "ev": "auto" (or NULL), "epoll", "poll", "select", "linuxaio",
                            "kqueue"; "ev:epoll" as the backend says both */
    enum sluice_idle idle;
    uint32_t spin_us; /* for SLUICE_IDLE_SPIN; 0: 50 */
    /* On io_uring only; refused where it cannot be had, never left out silently. 0: not wanted. */
    uint32_t napi_busy_poll_us; /* ask the NIC itself for so long before sleeping (Linux 6.9) */
    uint32_t sqpoll_idle_ms;    /* a thread of the kernel's submits, and needs a core of its own
                                   until nothing came for so long */
    uint32_t ops_max; /* operations in flight besides those of connections, 64 at least; 0: 256.
                         Allocated at creation */
    /* Of connections (sluice/conn.h); allocated at creation too. */
    uint32_t conns_max;        /* how many there may be at once; 0: none */
    uint32_t recv_bufs;        /* buffers that all of them receive into, 32768 at most; 0: 1024.
                                  Rounded up to a power of two */
    uint32_t recv_buf_bytes;   /* of each; 0: 4096. The size of a message, or of the usual run */
    uint32_t send_queue_bytes; /* that may wait to leave a connection; 0: 64 KiB. A power of two,
                                  at most 1 GiB */
    uint64_t close_timeout_ns; /* how long what is queued may take at a close; 0: 5 s */
};

/**
 * Create a loop.
 *
 * @param out  receives the loop, NULL on failure.
 * @param why  NULL, or receives one line that names what failed and what to do.
 * @return 0, or -EINVAL unknown backend or ops_max too small; -ENOSYS, -EPERM, -ENOTSUP what was
 * asked for is not to be had; -ERANGE a descriptor is too high for select; -ENOMEM, -EMFILE a limit
 * is too low; other negated errno values.
 */
SLUICE_API int sluice_loop_create(struct sluice_loop **out, const struct sluice_loop_config *cfg,
                                  char *why, size_t why_bytes);

/** Destroy. Its transports, signals and UDP sockets must be destroyed before, buffers that were
 * retained released, its timers not be used after. Connections that are left are reset, and their
 * on_close called; then posts that wait are called, too: connecting and listening are -ENOBUFS. By
 * the thread that ran it, not inside a callback. In a child of fork it does nothing: what the
 * parent made is the parent's. NULL is fine. */
SLUICE_API void sluice_loop_destroy(struct sluice_loop *loop);

/**
 * Run until sluice_loop_stop(), or until nothing is active: no transport, connection or listener,
 * no timer that is not unref'd, no post that was not called.
 *
 * @return 0, or -ECHILD in a child of fork: make a loop of its own there; -EPERM another thread has
 * turned this loop before; other negated errno values.
 */
SLUICE_API int sluice_loop_run(struct sluice_loop *loop);

/** The same, but only until something was done: waits for it as `idle` says. 1 something was done,
 *  0 stopped, or nothing is active; negative errno as sluice_loop_run(). */
SLUICE_API int sluice_loop_run_once(struct sluice_loop *loop);

/** One turn, without sleeping: 1 something was done, 0 nothing; negative errno as
 *  sluice_loop_run(). */
SLUICE_API int sluice_loop_turn(struct sluice_loop *loop);

/** Make sluice_loop_run() return after its turn. Any thread, any signal handler. */
SLUICE_API void sluice_loop_stop(struct sluice_loop *loop);

/** A call on the loop's thread. Memory of the poster's, embedded where it belongs, and not touched
 *  between sluice_loop_post() and the call. */
struct sluice_post {
    void (*call)(struct sluice_post *post);
    struct sluice_post *next; /* the loop's */
};

/** Have it called at the end of the loop's turn, in the order of posting; what is posted by such a
 *  call, at the end of the next turn. Wakes a loop that sleeps. Any thread, no signal handler. */
SLUICE_API void sluice_loop_post(struct sluice_loop *loop, struct sluice_post *post);

/**
 * To nest the loop in somebody else's: a descriptor that is readable when there is something to do.
 * Call sluice_loop_prepare_wait() before every wait, and sluice_loop_turn() after it.
 *
 * @return a descriptor, the loop's; -ENOTSUP where there is none: on "ev" with another mechanism
 * than epoll; or as sluice_loop_run().
 */
SLUICE_API int sluice_loop_fd(struct sluice_loop *loop);

/**
 * Start what was asked for, and have ourselves woken: another thread's post or stop, an entry in a
 * ring, all make the descriptor readable from here on until the next turn.
 *
 * @param timeout_ns  receives how long to wait at most: 0 not at all, there is something to do
 *                    already; -1 no limit.
 * @return 0, or as sluice_loop_fd().
 */
SLUICE_API int sluice_loop_prepare_wait(struct sluice_loop *loop, int64_t *timeout_ns);

/** CLOCK_MONOTONIC now, without a system call. */
SLUICE_API uint64_t sluice_loop_now_ns(const struct sluice_loop *loop);

/** "uring", "ev:epoll", ...; and why that one, with what it makes use of. Borrowed, live as long as
 * the loop. */
SLUICE_API const char *sluice_loop_backend(const struct sluice_loop *loop);
SLUICE_API const char *sluice_loop_backend_reason(const struct sluice_loop *loop);

/* ---- transport --------------------------------------------------------------------------------
 */

struct sluice_transport;

/** Which thread runs which path. An upstream in line wants SINGLE. */
enum sluice_model {
    SLUICE_MODEL_SINGLE, /* all on the loop */
    /** By what the connection turns out to be: single on io_uring; two threads on libev; three with
     *  TLS in user space. SINGLE for an upstream in line, and for a busy loop where there are fewer
     *  cores than threads. */
    SLUICE_MODEL_AUTO,
    SLUICE_MODEL_TWO_THREAD,   /* the loop sends, a thread receives: plain TCP, TLS in the kernel */
    SLUICE_MODEL_THREE_THREAD, /* the loop does TLS (in user space), a thread receives, one sends */
};

enum sluice_receive {
    SLUICE_RECEIVE_AUTO,     /* multishot where this kernel does it right, else one-shot */
    SLUICE_RECEIVE_ONE_SHOT, /* one receive at a time, straight at the write position */
};

/** All called on the loop's thread; any may be NULL. */
struct sluice_transport_events {
    /** The connection is open. */
    void (*on_open)(struct sluice_transport *t, void *user);
    /** For an in-line upstream: entries were published since the last call. Use
     *  sluice_transport_upstream(); what is put in its outbox leaves in the same turn. */
    void (*on_inbox)(struct sluice_transport *t, void *user);
    /** With reconnect: it ended, or could not be opened, and the next attempt follows in wait_ns
     *  (later, if MSG_METADATA has no room for it until the upstream reads). */
    void (*on_retry)(struct sluice_transport *t, const struct sluice_close_record *record,
                     uint64_t wait_ns, void *user);
    /** It ended, or could not be opened, for good: once for each sluice_transport_connect(). */
    void (*on_close)(struct sluice_transport *t, const struct sluice_close_record *record,
                     void *user);
};

/** When packets came, in `*_nic_timestamp_ns` (CLOCK_REALTIME) and nic_packet_ct, where it can be
 *  said for certain. One receive at a time then, and TLS not in the kernel, which gives none. */
enum sluice_timestamps {
    SLUICE_TIMESTAMPS_OFF,
    SLUICE_TIMESTAMPS_SOFTWARE, /* as the kernel took them from the NIC */
    SLUICE_TIMESTAMPS_HARDWARE, /* the NIC's own; it must have been told to, and is asked whether */
};

struct sluice_transport_config {
    /** "HOST:PORT:ADDRESS" overrides of name resolution; borrowed while the transport lives. */
    const char *const *resolve;
    uint32_t resolve_count;
    uint64_t connect_timeout_ns; /* resolving and all addresses together; 0: 10 s */
    uint64_t drain_timeout_ns;   /* how long an orderly end may take; 0: 5 s */
    uint32_t rcvbuf_bytes;       /* SO_RCVBUF, 0: the system's */
    uint32_t sndbuf_bytes;       /* SO_SNDBUF, 0: the system's */
    enum sluice_receive receive;
    enum sluice_timestamps timestamps;
    /** For tls://; borrowed while the transport lives. NULL: verified against the system's CA
     *  store. */
    const struct sluice_tls_config *tls;
    const char *tls_provider; /* NULL or "auto": the preferred one of this build */
    uint64_t tls_timeout_ns;  /* of the handshake; 0: 10 s */
    enum sluice_ktls ktls;    /* AUTO: where the kernel can */
    /** An explicit one that cannot be had is an error, never another one. */
    enum sluice_model model;
    /** The core for the thread that receives, that sends: number + 1. 0: those that the thread may
     *  use which calls sluice_transport_connect(). */
    uint32_t receive_core, send_core;
    /** Connect again when a connection ends or does not open, unless it was closed from here or its
     *  reason is fatal (sluice_reason_class()). The name is resolved anew, and another of its
     *  addresses tried first. At once after a connection that lasted; else the wait doubles from
     *  first to max, less a random part of up to its half. */
    bool reconnect;
    uint64_t retry_first_ns, retry_max_ns; /* 0: 100 ms, 30 s */
    uint64_t retry_lasted_ns;              /* a connection open so long starts anew; 0: 10 s */
    /** What stands in MSG_OUTBOX when a connection ends leaves on the next one. A message of which
     *  some bytes had left never does. false: what was meant for it is dropped and counted. */
    bool keep_outbox;
    /** While no upstream is attached, give up what is received, counted as discarded_bytes. false:
     *  it waits in MSG_INBOX for the next upstream, and when that is full, the peer waits. */
    bool discard_unread;
    /** Nothing came for so long (within a quarter of it), and there was room for it: the connection
     *  ends, reason `silent`. 0: never. */
    uint64_t silence_ns;
    /** SO_KEEPALIVE: a peer that was silent so long is asked three times, a third of it apart; and
     *  TCP_USER_TIMEOUT: how long it may acknowledge nothing. Reason `peer-gone`. 0: the system's.
     */
    uint64_t keepalive_ns, user_timeout_ns;
};

/**
 * Bind a channel to a loop.
 *
 * @param ch  borrowed while the transport lives: no one else may use it.
 * @return 0, -ENOMEM, -ENOBUFS the loop has as many transports as it can take (16), or -ERANGE the
 * channel's descriptor is too high for select. *out is NULL on failure.
 */
SLUICE_API int sluice_transport_create(struct sluice_transport **out, struct sluice_loop *loop,
                                       struct sluice_channel *ch,
                                       const struct sluice_transport_config *cfg,
                                       const struct sluice_transport_events *events, void *user);

/** Destroy; a connection that is open is reset. Turns the loop until its operations have ended, so
 *  callbacks of others may come meanwhile. Not inside a callback. NULL is fine. */
SLUICE_API void sluice_transport_destroy(struct sluice_transport *t);

/**
 * Start connecting. on_open or on_close follows, from the loop.
 *
 * @param url  "tcp://host:port" or "tls://host:port"; an IPv6 address stands in brackets. Borrowed
 * for this call.
 * @return 0, or -EINVAL not such a URL; -EPROTONOSUPPORT a scheme this build lacks;
 *         -EISCONN a connection is there already; -ECHILD this is a child of fork;
 *         -ENOTSUP, -EBADF the model, time stamps or TLS of the config is refused:
 * sluice_transport_why() says why; -EAGAIN the upstream has yet to read how the last one ended.
 */
SLUICE_API int sluice_transport_connect(struct sluice_transport *t, const char *url);

/** What is to be said about the TLS or model of the last connection, or of what connect refused,
 *  beyond the reason: one line, "" if nothing. Borrowed until the next connect. */
SLUICE_API const char *sluice_transport_why(const struct sluice_transport *t);

/** End in order: send what is in the outboxes, FIN, read to the peer's end (all within
 *  drain_timeout_ns), close. A second call closes at once. */
SLUICE_API void sluice_transport_close(struct sluice_transport *t);

/** End the connection now, whatever its state (reason `reconnect`), and connect again as after any
 *  other end (config.reconnect; else on_close follows); while waiting: try now. 0, or -ENOTCONN it
 *  is closed or being closed. */
SLUICE_API int sluice_transport_reconnect(struct sluice_transport *t);

/** Of the transports of its loop, serve this one first in every turn, until another is preferred.
 *  Shown as state.preferred; an upstream asks with sluice_client_request_preference(). */
SLUICE_API void sluice_transport_prefer(struct sluice_transport *t);

/** The in-line upstream, attached at the first call; borrowed. NULL: another one is attached, or
 *  another thread fills its inbox. */
SLUICE_API struct sluice_client *sluice_transport_upstream(struct sluice_transport *t);

/* ---- what this machine offers -----------------------------------------------------------------
 */

struct sluice_feature {
    const char *name; /* "io_uring", "io_uring.inc_buffers", "ktls", ... static */
    bool have;
    char detail[120]; /* a version, a number, or why not */
};

#define SLUICE_FEATURES_MAX 48u

struct sluice_probe {
    uint32_t count;
    struct sluice_feature features[SLUICE_FEATURES_MAX];
    char model[32]; /* what "auto" would pick for tcp:// */
    char model_reason[128];
    char model_tls[32]; /* and for tls:// */
    char model_tls_reason[128];
};

/** Ask the kernel and the libraries; takes some ms and leaves nothing behind. Any thread. */
SLUICE_API void sluice_probe(struct sluice_probe *out);

/** Several lines: version, liburing, OpenSSL and libev built with. Static. */
SLUICE_API const char *sluice_version(void);

#ifdef __cplusplus
}
#endif
#endif
