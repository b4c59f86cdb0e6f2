/*
 * One outgoing connection: its states, deadlines and descriptor, from resolving to closed. What
 * flows through it is rx.c's and tx.c's; who wants it, transport.c's.
 */
#ifndef SLUICE_CONN_H
#define SLUICE_CONN_H

#include "loop.h"
#include "resolve.h"
#include "url.h"

struct sluice_conn;

struct sluice_conn_config {
    const char *const *resolve;
    uint32_t resolve_count;
    uint64_t connect_timeout_ns;
    uint64_t tls_timeout_ns;
    uint32_t rcvbuf_bytes, sndbuf_bytes;
    enum sluice_timestamps timestamps;
};

struct sluice_conn_events {
    void (*state)(struct sluice_conn *c);  /* it changed */
    void (*secure)(struct sluice_conn *c); /* begin the handshake of TLS */
    void (*open)(struct sluice_conn *c);
    void (*quiesce)(struct sluice_conn *c); /* closing: end the ops begun on it */
    void (*closed)(struct sluice_conn *c);  /* nothing is in flight; once per start */
};

struct sluice_conn {
    struct sluice_loop *loop;
    const struct sluice_conn_config *cfg;
    const struct sluice_conn_events *events;
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

void sluice_conn_init(struct sluice_conn *c, struct sluice_loop *loop,
                      const struct sluice_conn_config *cfg,
                      const struct sluice_conn_events *events);

/* From idle or closed. events->open or events->closed follows from the loop, never from in here. */
int sluice_conn_start(struct sluice_conn *c, const struct sluice_url *url);

/* Our side sends no more: FIN. Only when open. */
void sluice_conn_shutdown(struct sluice_conn *c);

/* Close now. The first reason given stays. os_error: errno or 0. */
void sluice_conn_close(struct sluice_conn *c, enum sluice_reason reason, int os_error);

/* The ops of others on this descriptor: begin may answer -EAGAIN; every end must be told. */
int sluice_conn_begin(struct sluice_conn *c, struct sluice_op *op);
void sluice_conn_end(struct sluice_conn *c);

/* Another loop has to do with the descriptor: as an op of its own, until sluice_conn_end(). */
static inline void sluice_conn_hold(struct sluice_conn *c)
{
    c->ops++;
}

/* What a failed system call of the connection means. */
enum sluice_reason sluice_conn_reason(int os_error);

/* "[::1]:443" or "192.0.2.1:443" of the address in use. */
void sluice_conn_peer(const struct sluice_conn *c, char *out, size_t out_bytes);

/* The handshake of TLS is done, on events->secure: the connection is open. */
void sluice_conn_secured(struct sluice_conn *c);

static inline bool sluice_conn_is_live(const struct sluice_conn *c)
{
    return c->state == SLUICE_CONN_OPEN || c->state == SLUICE_CONN_DRAINING;
}

/* There are bytes to be had, be it those of a handshake. */
static inline bool sluice_conn_receives(const struct sluice_conn *c)
{
    return c->state == SLUICE_CONN_HANDSHAKING || sluice_conn_is_live(c);
}

/* Another may start. */
static inline bool sluice_conn_is_over(const struct sluice_conn *c)
{
    return c->state == SLUICE_CONN_IDLE || c->state == SLUICE_CONN_CLOSED;
}

#endif
