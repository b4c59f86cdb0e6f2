/*
 * Connections and listeners of the embedded runtime: byte streams over TCP, TLS and Unix sockets.
 * Public (installs as sluice/conn.h; sluice/sluice.h includes it).
 *
 * How many there may be is said when the loop is created (sluice_loop_config.conns_max); their
 * memory is allocated then. All of it belongs to the thread that runs the loop. Callbacks are
 * called by the loop, never inside a call of yours and never nested, and may call anything here on
 * anything, their own connection included.
 *
 * A connection is yours from the call that gave it to you until its on_close has returned. What is
 * called on it between its end and its on_close answers -EPIPE; what is called on it later is a bug
 * that ends the program.
 */
#ifndef SLUICE_CONN_H
#define SLUICE_CONN_H

#include "channel.h"
#include "reason.h"
#include "tls_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_loop;
struct sluice_conn;
struct sluice_listener;

/* ---- received bytes ---------------------------------------------------------------------------
 */

/**
 * Bytes that were received, in a buffer of the loop's pool: leased. Every one that is kept is one
 * that cannot be received into; with none left nothing is received, on any connection of the loop,
 * until one comes back.
 */
struct sluice_buf { /* to be read only */
    const uint8_t *data;
    size_t bytes;
};

/** Keep it beyond on_data(). Release it as often as it was retained. The loop's thread. */
SLUICE_API void sluice_buf_retain(struct sluice_buf *buf);
SLUICE_API void sluice_buf_release(struct sluice_buf *buf);

/* ---- TLS --------------------------------------------------------------------------------------
 */

/** What one side shows and what it wants to see, read and checked: for any number of connections.
 */
struct sluice_tls;

/**
 * Read the files of a configuration.
 *
 * @param cfg       borrowed for the call. Zeroes: a client that verifies against the system's CAs.
 * @param provider  NULL or "auto": the preferred one of this build; "openssl", "wolfssl".
 * @return 0, or -EINVAL, -ENOTSUP, -ENOMEM: why says it. *out is NULL then. Any thread.
 */
SLUICE_API int sluice_tls_create(struct sluice_tls **out, const struct sluice_tls_config *cfg,
                                 const char *provider, char *why, size_t why_bytes);

/** With no listener that uses it, and none of its connections still being opened. NULL is fine. */
SLUICE_API void sluice_tls_destroy(struct sluice_tls *tls);

/** What was agreed. Texts live as long as the connection. */
struct sluice_tls_facts {
    const char *provider; /* "openssl" */
    const char *version;  /* "TLSv1.3" */
    const char *cipher;   /* "TLS_AES_128_GCM_SHA256" */
    const char *alpn;     /* "" without */
    const char *verified; /* "chain", "chain+pin", "pin", "none" */
    const char *where;    /* "kernel, both ways", or "user space (why)"; "" while it is opened */
    bool in_kernel;       /* the kernel encrypts and decrypts */
    char peer[128];       /* subject of the peer's certificate; "" without one */
    bool resumed;         /* an earlier session goes on: nobody was verified anew */
    bool ticket;          /* with resume: the next connection to this host may be resumed */
};

/* ---- connections ------------------------------------------------------------------------------
 */

/** Shared by any number of connections, borrowed while one of them lives. Any may be NULL. */
struct sluice_conn_events {
    /** It can carry bytes: connected or accepted. Not called if that fails. */
    void (*on_open)(struct sluice_conn *c, void *user);
    /** Bytes came, at least one. buf is borrowed for this call: sluice_buf_retain() keeps it. */
    void (*on_data)(struct sluice_conn *c, struct sluice_buf *buf, void *user);
    /** After an -EAGAIN: half of the queue is free again. */
    void (*on_drain)(struct sluice_conn *c, void *user);
    /** The peer sends no more. We still may; where our own end has left already, on_close comes
     *  instead. NULL: the connection is closed then, as by sluice_conn_close(). */
    void (*on_eof)(struct sluice_conn *c, void *user);
    /** It ended, or could not be opened: exactly once, and the last call. Its memory goes to
     *  another connection afterwards. os_error: an errno value, or 0. */
    void (*on_close)(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user);
};

struct sluice_connect_config {
    /** "tcp://host:port", "tls://host:port", or "unix:PATH". Borrowed for the call. */
    const char *url;
    const struct sluice_conn_events *events;
    void *user;
    /** For tls://, a client's; borrowed until the connection is open. NULL: verified against the
     *  system's CAs, which costs reading them once for each loop. */
    struct sluice_tls *tls;
    enum sluice_ktls ktls;       /* for tls://; REQUIRE: closed with SLUICE_REASON_KTLS without */
    uint64_t connect_timeout_ns; /* resolving and all addresses together; 0: 10 s */
    uint64_t tls_timeout_ns;     /* of the handshake; 0: 10 s */
    uint64_t read_timeout_ns;    /* see sluice_conn_set_read_timeout() */
    uint32_t rcvbuf_bytes;       /* SO_RCVBUF, 0: the system's */
    uint32_t sndbuf_bytes;       /* SO_SNDBUF, 0: the system's */
};

/**
 * Start connecting: every address of the name is tried, in the time there is. on_open or on_close
 * follows.
 *
 * @param out  receives the connection, NULL on failure.
 * @param why  NULL, or receives one line that names what failed and what to do.
 * @return 0, or -EINVAL not such a URL, no events, or tls is a server's; -EPROTONOSUPPORT a scheme
 * that is not known; -ENOTSUP this build has no TLS; -ECHILD a child of fork has this loop;
 * -ENOBUFS there are conns_max already; -EAGAIN, -ENOMEM nobody to resolve the name.
 */
SLUICE_API int sluice_conn_connect(struct sluice_conn **out, struct sluice_loop *loop,
                                   const struct sluice_connect_config *cfg, char *why,
                                   size_t why_bytes);

/**
 * Queue bytes for sending. Copies them, never blocks, never calls back. What is written in one turn
 * of the loop leaves together.
 *
 * @param data  borrowed for this call.
 * @return 0: all of them will leave; or
 *         -EAGAIN    the queue has no room for all, or TLS must read the rest of a message first:
 *                    nothing was taken, on_drain() follows;
 *         -EMSGSIZE  more than the queue holds when it is empty (send_queue_bytes): cut it;
 *         -ENOTCONN  not open yet;
 *         -EPIPE     sluice_conn_shutdown() or close came first, or the connection ended.
 * Thread: the loop's. Order: bytes leave in call order.
 */
SLUICE_API int sluice_conn_write(struct sluice_conn *c, const void *data, size_t bytes);

/** The same, of several pieces: all of them, or none. */
SLUICE_API int sluice_conn_writev(struct sluice_conn *c, const struct iovec *iov, int iov_count);

/** Bytes that leave from where they are: from the call to done() this and they stay untouched. */
struct sluice_send {
    const void *data; /* for sluice_conn_send() */
    int file;         /* for sluice_conn_send_file(): a descriptor, and where to begin */
    uint64_t offset;
    size_t bytes;
    /** By the loop, once, before on_close: all is yours again. 0: the kernel has all of it, of a
     *  file: it was read, and leaves; or -ECANCELED: the connection ended first, and some of it may
     *  have left. Of a file also -ENODATA: it is shorter; -EIO or what else read(2) says: what was
     *  read before that leaves, and the connection lives. */
    void (*done)(struct sluice_send *send, int result);
    /* Ours from the call to done(). */
    struct sluice_send *next;
    size_t taken;
    uint32_t at;
};

/**
 * Send without copying. For what is long and stays: any length, and no room in the queue is needed.
 *
 * @param send  in flight until its done().
 * @return 0; or -EINVAL no bytes, or no done; -ENOTCONN not open yet; -EPIPE as for write.
 * Thread: the loop's. Order: bytes leave in call order, those of sluice_conn_write() among them.
 */
SLUICE_API int sluice_conn_send(struct sluice_conn *c, struct sluice_send *send);

/**
 * Send received bytes on, to this connection or another one of the loop: as sluice_conn_write(),
 * but what is long leaves from the buffer, which the loop keeps until then, and is not copied: as
 * long as half of the pool is free, so that a peer that does not read keeps nobody from receiving.
 *
 * @param buf  borrowed for this call, in on_data() or retained.
 * @return as sluice_conn_write(); what waits in buffers counts as queued.
 * Thread: the loop's. Order: bytes leave in call order.
 */
SLUICE_API int sluice_conn_send_buf(struct sluice_conn *c, struct sluice_buf *buf);

/**
 * Send a part of a file, in the place of call order: it is read piece by piece through the
 * connection's queue, as there is room in it, and encrypted with TLS. On io_uring the loop goes on
 * meanwhile; on libev it waits for what is not in memory.
 *
 * @param send  file, offset and bytes; in flight until its done(). data is ours.
 * @return 0; or -EINVAL no bytes, no done, not a regular file, or beyond any file's end; -EBADF no
 *         such descriptor; -ENOTCONN not open yet; -EPIPE as for write.
 * Thread: the loop's. Order: as for send. Until done() sluice_conn_write() says -EAGAIN, and
 * on_drain() follows.
 */
SLUICE_API int sluice_conn_send_file(struct sluice_conn *c, struct sluice_send *send);

/** Bytes that were queued, or are in flight from where they are, and did not leave yet. */
SLUICE_API size_t sluice_conn_queued(const struct sluice_conn *c);

/** No more on_data() until resumed: what was received already waits (once half of the loop's
 * buffers are out, in memory of its own: others go on receiving), and the peer, with its bytes,
 * does then too. Any state; twice is once. */
SLUICE_API void sluice_conn_pause(struct sluice_conn *c);
SLUICE_API void sluice_conn_resume(struct sluice_conn *c);

/**
 * Send no more: the peer reads an end behind the bytes that are queued. We still receive; when both
 * ends have come, the connection closes by itself.
 *
 * @return 0 (also when it was called before), -ENOTCONN not open yet, -EPIPE it ended.
 */
SLUICE_API int sluice_conn_shutdown(struct sluice_conn *c);

/** End it: what is queued leaves, in at most close_timeout_ns of the loop; nothing is received any
 *  more. on_close follows, never from in here. Any state; twice is once. The peer may miss the last
 *  bytes if it still sends: sluice_conn_shutdown(), then waiting for on_eof, is for those who must
 *  be certain. */
SLUICE_API void sluice_conn_close(struct sluice_conn *c);

/** End it at once: what is queued is dropped, the peer sees a reset. on_close follows. */
SLUICE_API void sluice_conn_abort(struct sluice_conn *c);

/** Close it with SLUICE_REASON_TIMED_OUT when nothing was received for that long, pauses not
 *  counted. 0: never. */
SLUICE_API void sluice_conn_set_read_timeout(struct sluice_conn *c, uint64_t timeout_ns);

/** What the callbacks are given; of an accepted one first the listener's. */
SLUICE_API void sluice_conn_set_user(struct sluice_conn *c, void *user);
SLUICE_API void *sluice_conn_user(const struct sluice_conn *c);

/** From the next callback on. Borrowed. */
SLUICE_API void sluice_conn_set_events(struct sluice_conn *c,
                                       const struct sluice_conn_events *events);

/** What TLS agreed on: 0, or -ENOTCONN it is a plain one, or not open. */
SLUICE_API int sluice_conn_tls(const struct sluice_conn *c, struct sluice_tls_facts *out);

/** What is to be said about its end beyond the reason: one line, "" if nothing. For on_close. */
SLUICE_API const char *sluice_conn_why(const struct sluice_conn *c);

SLUICE_API enum sluice_conn_state sluice_conn_state(const struct sluice_conn *c);
SLUICE_API struct sluice_loop *sluice_conn_loop(const struct sluice_conn *c);

/** Addresses as the socket has them: 0, -ENOTCONN, or another negative errno. *bytes: the room,
 * then the length. */
SLUICE_API int sluice_conn_local(const struct sluice_conn *c, struct sockaddr *out,
                                 socklen_t *bytes);
SLUICE_API int sluice_conn_peer(const struct sluice_conn *c, struct sockaddr *out,
                                socklen_t *bytes);

/* ---- listeners --------------------------------------------------------------------------------
 */

struct sluice_listen_config {
    /** "tcp://address:port" (port 0: one that is free), "tls://address:port", or "unix:PATH".
     *  Borrowed for the call. */
    const char *url;
    /** Of the connections that are accepted; on_open is the first that is heard of one. One whose
     *  TLS failed is heard of by its on_close only. */
    const struct sluice_conn_events *events;
    void *user;
    /** Of the listener; may be NULL: it is closed, nothing is accepted any more. */
    void (*on_close)(struct sluice_listener *l, void *user);
    struct sluice_tls *tls;   /* for tls://, a server's; borrowed until on_close */
    enum sluice_ktls ktls;    /* the same as of sluice_connect_config */
    uint64_t tls_timeout_ns;  /* of a handshake; 0: 10 s */
    uint32_t backlog;         /* 0: 1024 (the kernel caps it at net.core.somaxconn) */
    bool reuse_port;          /* SO_REUSEPORT: several loops listen there, the kernel shares out */
    uint64_t read_timeout_ns; /* of the connections: see sluice_conn_set_read_timeout() */
};

/**
 * Listen. With conns_max connections there, or where the process has no descriptor left, accepting
 * waits until one closes: peers wait in the backlog.
 *
 * @return 0, or -EINVAL not such a URL, not an address, no events, tls:// without its tls;
 * -ENOTSUP kernel TLS is required and cannot be had; -EADDRINUSE, -EACCES, -EADDRNOTAVAIL from
 * bind(2); -ENOBUFS 64 listeners are there, or no connection is allowed; -ECHILD a child of fork
 * has this loop; another negative errno. *out is NULL then.
 */
SLUICE_API int sluice_listener_open(struct sluice_listener **out, struct sluice_loop *loop,
                                    const struct sluice_listen_config *cfg, char *why,
                                    size_t why_bytes);

/** Accept no more. Connections live on. on_close follows, never from in here. Twice is once. A Unix
 *  path stays: unlink it. */
SLUICE_API void sluice_listener_close(struct sluice_listener *l);

/** The address it is bound to: 0 or negative errno. *bytes: the room, then the length. */
SLUICE_API int sluice_listener_address(const struct sluice_listener *l, struct sockaddr *out,
                                       socklen_t *bytes);

/** Its port; 0 for a Unix socket. */
SLUICE_API uint16_t sluice_listener_port(const struct sluice_listener *l);

/** Connections accepted so far; and times that accepting had to wait for a descriptor or a
 *  connection to close. */
SLUICE_API uint64_t sluice_listener_accepted(const struct sluice_listener *l);
SLUICE_API uint64_t sluice_listener_waits(const struct sluice_listener *l);

#ifdef __cplusplus
}
#endif
#endif
