/*
 * All connections and listeners of one loop: their memory, and what is due on them at the end of a
 * turn. One connection is conn.c's (life, receiving) and conn_write.c's (sending); what is public
 * stands in conn.h.
 */
#ifndef SLUICE_CONNS_H
#define SLUICE_CONNS_H

#include "conn.h"
#include "dial.h"

#define CONN_MAGIC      0x636f6e6eu
#define LISTENER_MAGIC  0x6c73746eu
#define CONNS_LISTENERS 64u

/* A buffer that somebody has: its connection, until it was delivered, and those that retained it.
 */
struct sluice_lease {
    struct sluice_buf buf; /* first */
    struct sluice_conns *conns;
    struct sluice_lease *next; /* of those that wait for delivery */
    uint32_t refs;
    uint16_t buffer; /* of the backend's pool */
};

/* What was written and did not leave: a byte ring, lent by the loop as long as it is not empty. */
struct conn_queue {
    uint8_t *base; /* NULL: empty */
    uint32_t head, tail;
};

enum conn_due { DUE_SEND = 1u, DUE_RECEIVE = 2u };

enum conn_in {
    IN_OPEN,
    IN_ENDING, /* the end came, and waits until it may be told */
    IN_OVER,
};

/* What stands behind the last byte of the queue. */
enum conn_out { OUT_OPEN, OUT_FIN_DUE, OUT_CLOSE_DUE, OUT_OVER };

struct sluice_conn {
    uint32_t magic; /* 0: nobody's */
    uint8_t due;    /* enum conn_due */
    uint8_t in;     /* enum conn_in */
    uint8_t out;    /* enum conn_out */
    bool paused, wants_drain;
    bool sending, receiving; /* until the last completion was seen: the backend's state is ahead */
    struct sluice_conns *conns;
    struct sluice_life life;
    const struct sluice_conn_events *events;
    void *user;
    struct conn_queue queue;
    struct sluice_op recv_op, send_op;
    struct sluice_lease *held, **held_end; /* received, not delivered */
    int in_error;                          /* IN_ENDING: 0 the peer's FIN, or negative errno */
    enum sluice_reason in_order;           /* who ended it first, when nobody failed */
    uint64_t read_timeout_ns, heard_ns;
    struct sluice_timer timer; /* of silence; of a close that waits for the queue */
    struct sluice_conn *next;  /* free, or closed: nobody's, or soon */
    struct sluice_conn *due_next;
    struct sluice_conn *starved_next; /* waits for a buffer */
    struct sluice_conn **starved_link;
};

/* While it is being connected. */
struct conn_dial {
    struct sluice_dial dial; /* first */
    struct sluice_life_config cfg;
};

struct sluice_listener {
    uint32_t magic; /* 0: free */
    int fd;
    struct sluice_conns *conns;
    struct sluice_op accept_op;
    struct sluice_timer timer; /* of the back-off; of the end */
    const struct sluice_conn_events *events;
    void *user;
    void (*on_close)(struct sluice_listener *l, void *user);
    uint64_t read_timeout_ns;
    uint64_t accepted, waits;
    uint64_t backoff_ns;
    bool accepting; /* until the last completion was seen */
    bool waiting;   /* for a connection or a descriptor */
    bool closing;
};

struct sluice_conns {
    struct sluice_loop *loop;
    struct sluice_source source;
    uint32_t max, used;
    struct sluice_conn *all, *free, *closed;
    struct sluice_conn *due, **due_end;
    struct sluice_conn *starved, **starved_end;
    struct sluice_lease *leases; /* by the pool's number */
    uint32_t leased;
    uint32_t queue_bytes; /* a power of two */
    uint8_t *queues;      /* max of them; touched are those in use at once */
    uint32_t *queue_free, queue_free_count;
    uint64_t close_timeout_ns;
    uint32_t listening;
    struct sluice_listener listeners[CONNS_LISTENERS];
};

/* conns.c */
int sluice_conns_create(struct sluice_conns **out, struct sluice_loop *loop,
                        const struct sluice_loop_config *cfg);
void sluice_conns_destroy(struct sluice_conns *conns);             /* NULL is fine */
struct sluice_conn *sluice_conns_take(struct sluice_conns *conns); /* NULL: none is free */
void sluice_conns_put_back(struct sluice_conn *c);                 /* at the end of the turn */
void sluice_conns_due(struct sluice_conn *c, enum conn_due what);
void sluice_conns_starve(struct sluice_conn *c);
void sluice_conns_unstarve(struct sluice_conn *c);
void sluice_conns_feed(struct sluice_conns *conns); /* a buffer is free */

/* buf.c */
struct sluice_lease *sluice_lease_take(struct sluice_conns *conns, uint16_t buffer, size_t bytes);

/* conn.c */
/* calls on_open */
void sluice_conn_adopt(struct sluice_listener *l, struct sluice_conn *c, int fd);
void sluice_conn_receive(struct sluice_conn *c);      /* what is due: deliver, arm */
void sluice_conn_end_in_order(struct sluice_conn *c); /* both ends have come */

/* conn_write.c */
void sluice_conn_send_init(struct sluice_conn *c);
void sluice_conn_flush(struct sluice_conn *c);
void sluice_conn_drop_queue(struct sluice_conn *c);
bool sluice_conn_has_queued(const struct sluice_conn *c);

/* listener.c */
void sluice_listener_retry(struct sluice_conns *conns); /* a connection closed */

/* The line for people: what, and what to do about it. */
int sluice_conns_refuse(char *why, size_t why_bytes, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "unix:PATH": 0, or -EINVAL it is no such URL or too long. */
int sluice_conns_unix(struct sluice_addresses *out, const char *url);

#endif
