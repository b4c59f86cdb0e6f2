/*
 * The life of one connection: states, deadlines and descriptor, from its beginning to closed. An
 * outgoing one is dialled (dial.h), an accepted one adopted. What flows through it and who wants it
 * is its owner's: a transport, or a connection of the embedded runtime.
 */
#ifndef SLUICE_LIFE_H
#define SLUICE_LIFE_H

#include "loop.h"

struct sluice_dial;
struct sluice_life;

struct sluice_life_config {
    const char *const *resolve;
    uint32_t resolve_count;
    uint64_t connect_timeout_ns;
    uint64_t tls_timeout_ns;
    uint32_t rcvbuf_bytes, sndbuf_bytes;
    uint64_t keepalive_ns, user_timeout_ns; /* 0: the system's */
    enum sluice_timestamps timestamps;
    bool short_name;   /* the backend's for its descriptor: there are few of them */
    bool counts_acked; /* acked_bytes is wanted */
};

struct sluice_life_events {
    void (*state)(struct sluice_life *c);  /* it changed */
    void (*secure)(struct sluice_life *c); /* begin the handshake of TLS */
    void (*open)(struct sluice_life *c);
    void (*quiesce)(struct sluice_life *c); /* closing: end the ops begun on it */
    void (*closed)(struct sluice_life *c);  /* nothing is in flight; once per start */
};

struct sluice_life {
    struct sluice_loop *loop;
    const struct sluice_life_config *cfg;
    const struct sluice_life_events *events;
    enum sluice_conn_state state;
    int fd, file; /* file: the backend's shorter name, -1 */
    uint32_t ops; /* in flight on fd */

    struct sluice_dial *dial;     /* NULL: adopted, or its owner has done with it */
    struct sluice_timer deadline; /* of the whole attempt, then of this address */

    enum sluice_reason reason; /* why it closes */
    int os_error;              /* errno, 0 if none */
    bool reset;                /* close with RST */
    bool is_tls;               /* the owner's, before start */
    uint64_t acked_bytes;      /* taken just before the descriptor closes, if wanted */
};

void sluice_life_init(struct sluice_life *c, struct sluice_loop *loop,
                      const struct sluice_life_config *cfg,
                      const struct sluice_life_events *events);

/* An accepted one's descriptor: events->secure or events->open comes from in here. */
void sluice_life_adopt(struct sluice_life *c, int fd);

/* Our side sends no more: FIN. Only when open. */
void sluice_life_shutdown(struct sluice_life *c);

/* Close now. The first reason given stays. os_error: errno or 0. */
void sluice_life_close(struct sluice_life *c, enum sluice_reason reason, int os_error);

/* The ops of others on this descriptor: begin may answer -EAGAIN; every end must be told. */
static inline int sluice_life_begin(struct sluice_life *c, struct sluice_op *op)
{
    op->fd = c->fd;
    op->file = c->file;
    int err = c->loop->be->ops->submit(c->loop->be, op);
    c->ops += err == 0;
    return err;
}

void sluice_life_ended(struct sluice_life *c); /* the last one, of a connection that closes */

static inline void sluice_life_end(struct sluice_life *c)
{
    SLUICE_CHECK(c->ops > 0);
    c->ops--;
    if (c->ops == 0 && c->state == SLUICE_CONN_CLOSING)
        sluice_life_ended(c);
}

/* Another loop has to do with the descriptor: as an op of its own, until sluice_life_end(). */
static inline void sluice_life_hold(struct sluice_life *c)
{
    c->ops++;
}

/* What a failed system call of the connection means. */
enum sluice_reason sluice_life_reason(int os_error);

/* The handshake of TLS is done, on events->secure: the connection is open. */
void sluice_life_secured(struct sluice_life *c);

/* Between life.c and dial.c: another life begins; the one setter; no descriptor; it is connected.
 */
void sluice_life_renew(struct sluice_life *c);
void sluice_life_set_state(struct sluice_life *c, enum sluice_conn_state next);
void sluice_life_drop(struct sluice_life *c);
void sluice_life_connected(struct sluice_life *c);

static inline bool sluice_life_is_live(const struct sluice_life *c)
{
    return c->state == SLUICE_CONN_OPEN || c->state == SLUICE_CONN_DRAINING;
}

/* There are bytes to be had, be it those of a handshake. */
static inline bool sluice_life_receives(const struct sluice_life *c)
{
    return c->state == SLUICE_CONN_HANDSHAKING || sluice_life_is_live(c);
}

/* Another may start. */
static inline bool sluice_life_is_over(const struct sluice_life *c)
{
    return c->state == SLUICE_CONN_IDLE || c->state == SLUICE_CONN_CLOSED;
}

#endif
