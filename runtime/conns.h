/*
 * All connections and listeners of one loop: their memory, and what is due on them at the end of a
 * turn. What is public stands in conn.h; here is what the files behind it share.
 */
#ifndef SLUICE_CONNS_H
#define SLUICE_CONNS_H

#include "conn.h"
#include "dial.h"
#include "offload.h"
#include "base/clock.h"
#include "tls/tls.h"

#define CONN_MAGIC      0x636f6e6eu
#define LISTENER_MAGIC  0x6c73746eu
#define CONNS_LISTENERS 64u

#define TLS_TIMEOUT_DEFAULT (10 * SLUICE_NS_PER_S)

/* ---- buffers: buf.c ---- */

/* The backend's, which bytes arrive in; ours, for what TLS decrypted; and of no pool: each is made
 * when it is leased. */
enum lease_kind { LEASE_WIRE, LEASE_PLAIN, LEASE_HEAP, LEASE_KINDS };

/* A buffer that somebody has: its connection, until it was delivered, and those that retained it.
 */
struct sluice_lease {
    struct sluice_buf buf; /* first */
    struct sluice_conns *conns;
    struct sluice_lease *next; /* of those that wait for delivery, or are free */
    uint32_t refs;
    uint16_t buffer;        /* WIRE: its number in the backend's pool */
    uint16_t kind;          /* enum lease_kind */
    struct sluice_conn *to; /* it is being sent on, NULL: not */
    struct sluice_send send;
};

/* Those of one kind. */
struct lease_pool {
    struct sluice_lease *all;
    uint32_t count, leased;
    struct sluice_lease *free; /* PLAIN: the one used last on top */
    struct sluice_conn *starved, **starved_end;
};

int sluice_leases_init(struct sluice_conns *conns);
void sluice_leases_fini(struct sluice_conns *conns);
int sluice_leases_init_plain(struct sluice_conns *conns); /* at the first TLS; again is fine */
struct sluice_lease *sluice_lease_wire(struct sluice_conns *conns, uint16_t buffer, size_t bytes);
struct sluice_lease *sluice_lease_plain(struct sluice_conns *conns); /* NULL: none is free */
/* It may wait long to be delivered: in memory of its own, where half of its pool is out. */
struct sluice_lease *sluice_lease_set_aside(struct sluice_lease *lease);

void sluice_conn_starve(struct sluice_conn *c, enum lease_kind kind);
void sluice_conn_unstarve(struct sluice_conn *c);
bool sluice_leases_may_feed(const struct sluice_conns *conns);
void sluice_leases_feed(struct sluice_conns *conns); /* those that starve, as far as there is */

/* ---- one connection: conn.c ---- */

enum conn_due { DUE_SEND = 1u, DUE_RECEIVE = 2u };

enum conn_in {
    IN_OPEN,
    IN_ENDING, /* the end came, and waits until it may be told */
    IN_OVER,
};

/* What stands behind the last byte of the queue. */
enum conn_out { OUT_OPEN, OUT_FIN_DUE, OUT_CLOSE_DUE, OUT_OVER };

/* What was written and did not leave: a byte ring, lent by the loop as long as it is not empty. */
struct conn_queue {
    uint8_t *base; /* NULL: empty */
    uint32_t head, tail;
};

struct sluice_conn {
    uint32_t magic; /* 0: nobody's */
    uint8_t due;    /* enum conn_due */
    uint8_t in;     /* enum conn_in */
    uint8_t out;    /* enum conn_out */
    uint8_t starved_kind;
    uint8_t ktls; /* enum sluice_ktls */
    bool paused, wants_drain;
    bool waits;              /* the socket had no room: the next SEND waits for it */
    bool hurries;            /* the end of this SEND is waited for */
    bool sending, receiving; /* until the last completion was seen: the backend is ahead */
    struct sluice_conns *conns;
    struct sluice_life life;
    const struct sluice_conn_events *events;
    void *user;
    struct conn_queue queue;
    struct sluice_send *sends, **sends_end; /* bytes of the caller's among those of the queue */
    uint32_t files;                         /* of those: the rest comes from a file */
    uint32_t lease_bytes;                   /* of those: in buffers that are sent on */
    const struct sluice_tls *tls_ctx;       /* until the handshake begins */
    struct conn_tls *tls;                   /* NULL: plain */
    struct sluice_op recv_op, send_op;
    struct sluice_lease *held, **held_end; /* received, not delivered */
    int in_error;                          /* IN_ENDING: 0 the peer's FIN, or negative errno */
    enum sluice_reason end;                /* who ended it first, or why TLS failed */
    uint64_t read_timeout_ns, heard_ns;
    struct sluice_timer timer; /* of silence; of a close that waits for the queue */
    struct sluice_conn *next;  /* free, or closed: nobody's, or soon */
    struct sluice_conn *due_next;
    struct sluice_conn *starved_next, **starved_link;
};

_Static_assert(sizeof(struct sluice_conn) <= 640, "there are many of them, most of them idle");

/* While it is being connected. */
struct conn_dial {
    struct sluice_dial dial; /* first */
    struct sluice_life_config cfg;
};

void sluice_conn_init(struct sluice_conn *c, struct sluice_conns *conns,
                      const struct sluice_conn_events *events, void *user);
void sluice_conn_undo(struct sluice_conn *c); /* nobody has heard of it */

/* An accepted one: calls on_open, or begins the handshake. */
void sluice_conn_adopt(struct sluice_listener *l, struct sluice_conn *c, int fd);
void sluice_conn_receive(struct sluice_conn *c); /* what is due: deliver, arm */
bool sluice_conn_has_unread(const struct sluice_conn *c);

/* Nothing but on_close comes: it closes, or is about to. */
static inline bool sluice_conn_is_leaving(const struct sluice_conn *c)
{
    return !sluice_life_receives(&c->life) || c->out == OUT_CLOSE_DUE;
}

void sluice_conn_leave(struct sluice_conn *c, uint64_t timeout_ns); /* when the queue is empty */
void sluice_conn_finish(struct sluice_conn *c);                     /* now: it ended in order */

void sluice_conn_deliver(struct sluice_conn *c, struct sluice_lease *lease); /* and release */
struct sluice_lease *sluice_conn_unhold(struct sluice_conn *c);
void sluice_conn_told_end(struct sluice_conn *c);

/* ---- sending: conn_write.c ---- */

void sluice_conn_send_init(struct sluice_conn *c);
void sluice_conn_flush(struct sluice_conn *c);
void sluice_conn_end_send(struct sluice_conn *c, int result); /* the first is the caller's again */
void sluice_conn_end_sends(struct sluice_conn *c);            /* nothing more leaves */
void sluice_conn_tell_drained(struct sluice_conn *c);
int sluice_conn_may_send(const struct sluice_conn *c);
int sluice_conn_may_write(struct sluice_conn *c, size_t bytes);
void sluice_conn_send_again(struct sluice_conn *c); /* its op served for something else */
void sluice_conn_append(struct sluice_conn *c, struct sluice_send *send);
struct iovec sluice_conn_queue_room(struct sluice_conn *c); /* all of it: it is empty */

/* ---- files: conn_file.c ---- */

void sluice_conn_read_file(struct sluice_conn *c); /* into the queue, which is empty */

/* ---- TLS: conn_tls.c ---- */

/* What is shown and wanted, for any number of connections. */
struct sluice_tls {
    const struct sluice_tls_provider *provider;
    struct sluice_tls_context *ctx;
    enum sluice_tls_role role;
};

/* Of one connection. Its ring stays with the loop when the connection ends. */
struct conn_tls {
    const struct sluice_tls_provider *provider;
    struct sluice_tls_session *session;
    struct sluice_offload offload;
    uint8_t head[SLUICE_TLS_HEADER_BYTES]; /* of the record that is received, one at a time */
    uint32_t record_at;                    /* bytes of it that came */
    uint8_t *out;                          /* ciphertext to send, mapped twice */
    size_t wire_at;                        /* taken of the ciphertext that is held first */
    uint64_t control_ns;                   /* when control_run was last zeroed */
    bool output_full;                      /* reading waits until some of it left */
    bool reads_first;                      /* writing waits: the peer is inside a message */
    struct sluice_tls_error error;
    struct conn_tls *next;
};

void sluice_conns_tls_fini(struct sluice_conns *conns);
void sluice_conn_tls_begin(struct sluice_conn *c, const char *host);
void sluice_conn_tls_end(struct sluice_conn *c);     /* its memory is the next one's */
void sluice_conn_tls_receive(struct sluice_conn *c); /* what is held */
void sluice_conn_tls_eof(struct sluice_conn *c);     /* told, or truncated */
bool sluice_conn_tls_has_room(const struct sluice_conn *c, size_t bytes);

/* Bytes that are records now: fewer where there is no room, or something is to be read first. Or
 * -EPIPE: it failed. */
ssize_t sluice_conn_tls_write(struct sluice_conn *c, const uint8_t *data, size_t bytes);
bool sluice_conn_tls_pull(struct sluice_conn *c, struct sluice_send *send); /* true: all of it */
bool sluice_conn_tls_notify(struct sluice_conn *c); /* true: an end is to leave first */
void sluice_conn_tls_fail(struct sluice_conn *c, const struct sluice_tls_error *error);
void sluice_conn_tls_forgive(struct sluice_conn *c); /* records without data, after a while */

/* ---- TLS in the kernel: conn_offload.c ---- */

int sluice_conn_offload_begin(struct sluice_conn *c); /* 0, or -EPROTO: it was required */
void sluice_conn_offload_note(struct sluice_conn *c, const struct sluice_buf *buf); /* received */
bool sluice_conn_offload_arm(struct sluice_conn *c);   /* false: nothing may be received now */
bool sluice_conn_offload_start(struct sluice_conn *c); /* nothing is left to be sent. True: open */
bool sluice_conn_offload_ended(struct sluice_conn *c); /* true: in_error was about a record */
void sluice_conn_offload_refused(struct sluice_conn *c); /* a SEND was told so: what to end with */
int sluice_conn_offload_say(struct sluice_conn *c, bool last); /* 0; -EAGAIN: no room for it */
bool sluice_conn_offload_notify(struct sluice_conn *c);        /* true: say() has an end to say */

/* Records are ours to make and to open; else bytes go as they are, or the kernel does it. */
static inline bool sluice_conn_seals(const struct sluice_conn *c)
{
    return c->tls && !c->tls->offload.in_kernel;
}

/* ---- listeners: listener.c ---- */

struct sluice_listener {
    uint32_t magic; /* 0: free */
    int fd;
    struct sluice_conns *conns;
    struct sluice_op accept_op;
    struct sluice_timer timer; /* of the back-off; of the end */
    const struct sluice_conn_events *events;
    void *user;
    void (*on_close)(struct sluice_listener *l, void *user);
    struct sluice_life_config life_cfg;
    const struct sluice_tls *tls; /* NULL: plain */
    enum sluice_ktls ktls;
    uint64_t read_timeout_ns;
    uint64_t accepted, waits;
    uint64_t backoff_ns;
    int *parked; /* accepted before the kernel heard that there is no room: a ring of backlog */
    uint32_t backlog, parked_head, parked_count;
    bool accepting; /* until the last completion was seen */
    bool waiting;   /* for a connection or a descriptor */
    bool closing;
};

void sluice_listener_retry(struct sluice_conns *conns); /* a connection closed */

/* ---- all of a loop: conns.c ---- */

struct sluice_conns {
    struct sluice_loop *loop;
    struct sluice_source source;
    uint32_t max, used;
    struct sluice_conn *all, *free, *closed;
    struct sluice_conn *due, **due_end;
    uint32_t hurried; /* NOWAIT SENDs whose end is waited for: the next poll must not wait */
    struct lease_pool leases[LEASE_KINDS];
    uint8_t *plain;       /* memory of the PLAIN ones, NULL: no TLS yet */
    uint32_t queue_bytes; /* a power of two */
    uint8_t *queues;      /* max of them; touched are those in use at once */
    uint32_t *queue_free, queue_free_count;
    struct conn_tls *tls_free;
    struct sluice_tls *tls_default; /* for tls:// without a tls, once it was wanted */
    bool no_kernel_tls;             /* no such module, it said */
    uint64_t close_timeout_ns;
    uint32_t listening;
    struct sluice_listener listeners[CONNS_LISTENERS];
};

int sluice_conns_create(struct sluice_conns **out, struct sluice_loop *loop,
                        const struct sluice_loop_config *cfg);
void sluice_conns_destroy(struct sluice_conns *conns);             /* NULL is fine */
struct sluice_conn *sluice_conns_take(struct sluice_conns *conns); /* NULL: none is free */
void sluice_conns_put_back(struct sluice_conn *c);                 /* at the end of the turn */
void sluice_conns_due(struct sluice_conn *c, enum conn_due what);

#define SLUICE_FORKED "this loop is the parent's: make one in the child"

/* The line for people: what, and what to do about it. */
int sluice_conns_refuse(char *why, size_t why_bytes, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
