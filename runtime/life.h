/*
 * The life of one outgoing connection: states, deadlines and descriptor, from resolving to closed.
 * What flows through it is rx.c's and tx.c's; who wants it, transport.c's.
 */
#ifndef SLUICE_LIFE_H
#define SLUICE_LIFE_H

#include "loop.h"
#include "resolve.h"
#include "url.h"

struct sluice_life;

struct sluice_life_config {
    const char *const *resolve;
    uint32_t resolve_count;
    uint64_t connect_timeout_ns;
    uint64_t tls_timeout_ns;
    uint32_t rcvbuf_bytes, sndbuf_bytes;
    enum sluice_timestamps timestamps;
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

    struct sluice_url url;
    struct sluice_resolve *resolving;
    struct sluice_addresses addresses;
    uint32_t address; /* the one being tried or in use */
    struct sluice_op connect_op;
    struct sluice_timer deadline; /* of the whole attempt, then of this address */
    uint64_t give_up_ns;
    int last_error; /* of the last address tried, negative errno */

    enum sluice_reason reason; /* why it closes */
    int os_error;              /* errno, 0 if none */
    bool reset;                /* close with RST */
    bool is_tls;               /* the owner's, before start */
    uint64_t acked_bytes;      /* taken just before the descriptor closes */
};

void sluice_life_init(struct sluice_life *c, struct sluice_loop *loop,
                      const struct sluice_life_config *cfg,
                      const struct sluice_life_events *events);

/* From idle or closed. events->open or events->closed follows from the loop, never from in here. */
int sluice_life_start(struct sluice_life *c, const struct sluice_url *url);

/* Our side sends no more: FIN. Only when open. */
void sluice_life_shutdown(struct sluice_life *c);

/* Close now. The first reason given stays. os_error: errno or 0. */
void sluice_life_close(struct sluice_life *c, enum sluice_reason reason, int os_error);

/* The ops of others on this descriptor: begin may answer -EAGAIN; every end must be told. */
int sluice_life_begin(struct sluice_life *c, struct sluice_op *op);
void sluice_life_end(struct sluice_life *c);

/* Another loop has to do with the descriptor: as an op of its own, until sluice_life_end(). */
static inline void sluice_life_hold(struct sluice_life *c)
{
    c->ops++;
}

/* What a failed system call of the connection means. */
enum sluice_reason sluice_life_reason(int os_error);

/* "[::1]:443" or "192.0.2.1:443" of the address in use. */
void sluice_life_peer(const struct sluice_life *c, char *out, size_t out_bytes);

/* The handshake of TLS is done, on events->secure: the connection is open. */
void sluice_life_secured(struct sluice_life *c);

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
