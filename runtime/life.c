/*
 * One outgoing connection, from resolving to closed. One enum, one table, one setter.
 */
#include "life.h"
#include "base/check.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#define TO(state) (1u << SLUICE_CONN_##state)

static const uint16_t may_follow[SLUICE_CONN_STATES] = {
    [SLUICE_CONN_IDLE] = TO(RESOLVING),
    [SLUICE_CONN_RESOLVING] = TO(CONNECTING) | TO(CLOSING),
    [SLUICE_CONN_CONNECTING] = TO(HANDSHAKING) | TO(OPEN) | TO(CLOSING),
    [SLUICE_CONN_HANDSHAKING] = TO(OPEN) | TO(CLOSING),
    [SLUICE_CONN_OPEN] = TO(DRAINING) | TO(CLOSING),
    [SLUICE_CONN_DRAINING] = TO(CLOSING),
    [SLUICE_CONN_CLOSING] = TO(CLOSED), /* only with no op in flight */
    [SLUICE_CONN_CLOSED] = TO(RESOLVING) | TO(WAITING),
    [SLUICE_CONN_WAITING] = TO(RESOLVING) | TO(CLOSED),
};

static void set_state(struct sluice_life *c, enum sluice_conn_state next)
{
    SLUICE_CHECK(may_follow[c->state] & (1u << next));
    SLUICE_CHECK(next != SLUICE_CONN_CLOSED || c->ops == 0);
    c->state = next;
    c->events->state(c);
}

enum sluice_reason sluice_life_reason(int os_error)
{
    switch (os_error) {
    case ECONNREFUSED:
        return SLUICE_REASON_REFUSED;
    case ETIMEDOUT:
        return SLUICE_REASON_TIMED_OUT;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return SLUICE_REASON_UNREACHABLE;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return SLUICE_REASON_RESET;
    case EMFILE:
    case ENFILE:
    case ERANGE: /* beyond what select(2) takes */
    case ENOMEM:
    case ENOBUFS:
        return SLUICE_REASON_LIMIT;
    case EOPNOTSUPP:
        return SLUICE_REASON_UNSUPPORTED;
    case EACCES:
    case EPERM:
        return SLUICE_REASON_DENIED;
    default:
        return SLUICE_REASON_INTERNAL;
    }
}

static void on_connect(struct sluice_op *op, int32_t result, bool more);
static void try_address(struct sluice_life *c);

void sluice_life_init(struct sluice_life *c, struct sluice_loop *loop,
                      const struct sluice_life_config *cfg, const struct sluice_life_events *events)
{
    memset(c, 0, sizeof(*c));
    c->loop = loop;
    c->cfg = cfg;
    c->events = events;
    c->fd = c->file = -1;
    sluice_op_init(&c->connect_op, SLUICE_OP_CONNECT, on_connect);
}

int sluice_life_begin(struct sluice_life *c, struct sluice_op *op)
{
    op->fd = c->fd;
    op->file = c->file;
    int err = c->loop->be->ops->submit(c->loop->be, op);
    c->ops += err == 0;
    return err;
}

/* ---- closing ---- */

static void drop_descriptor(struct sluice_life *c)
{
    if (c->fd < 0)
        return;
    const struct sluice_socket_ops *s = sluice_loop_sockets(c->loop);
    if (c->reset)
        s->reset_on_close(c->loop->be, c->fd);
    /* A registered slot holds the file: on Linux 6.1 for a second after it was cleared, and the
     * peer would hear nothing of a close until then. */
    else if (c->file >= 0)
        s->shutdown(c->loop->be, c->fd, SHUT_RDWR);
    if (c->file >= 0)
        c->loop->be->ops->file_remove(c->loop->be, c->file);
    s->close(c->loop->be, c->fd);
    c->fd = c->file = -1;
}

static void finish_close(struct sluice_life *c)
{
    if (c->fd >= 0)
        c->acked_bytes = sluice_loop_sockets(c->loop)->acked_bytes(c->loop->be, c->fd);
    drop_descriptor(c);
    set_state(c, SLUICE_CONN_CLOSED);
    c->events->closed(c);
}

static void over(struct sluice_timer *timer)
{
    finish_close(SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline));
}

/* Told by the loop, never inside a call of the user's. */
void sluice_life_end(struct sluice_life *c)
{
    SLUICE_CHECK(c->ops > 0);
    c->ops--;
    if (c->state == SLUICE_CONN_CLOSING && c->ops == 0)
        sluice_loop_start_timer(c->loop, &c->deadline, 0, over);
}

void sluice_life_close(struct sluice_life *c, enum sluice_reason reason, int os_error)
{
    if (c->state == SLUICE_CONN_IDLE || c->state >= SLUICE_CONN_CLOSING)
        return;
    c->reason = reason;
    c->os_error = os_error;
    sluice_timer_stop(&c->deadline);
    sluice_resolve_abandon(c->resolving);
    c->resolving = NULL;
    set_state(c, SLUICE_CONN_CLOSING);
    c->ops++; /* held through quiesce: it must not finish inside */
    c->loop->be->ops->cancel(c->loop->be, &c->connect_op);
    c->events->quiesce(c);
    sluice_life_end(c);
}

void sluice_life_shutdown(struct sluice_life *c)
{
    SLUICE_CHECK(c->state == SLUICE_CONN_OPEN);
    sluice_loop_sockets(c->loop)->shutdown(c->loop->be, c->fd, SHUT_WR);
    set_state(c, SLUICE_CONN_DRAINING);
}

/* ---- connecting ---- */

static void give_up(struct sluice_timer *timer)
{
    struct sluice_life *c = SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline);
    sluice_life_close(c, SLUICE_REASON_TIMED_OUT, ETIMEDOUT);
}

/* This address had its share: cancel it; its end tries the next. */
static void address_timed_out(struct sluice_timer *timer)
{
    struct sluice_life *c = SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline);
    c->last_error = -ETIMEDOUT;
    c->loop->be->ops->cancel(c->loop->be, &c->connect_op);
}

/* What is left of the time, shared by the addresses that are left. */
static void start_deadline(struct sluice_life *c)
{
    uint64_t now = c->loop->now_ns;
    uint64_t left = c->give_up_ns > now ? c->give_up_ns - now : 0;
    uint32_t addresses = c->addresses.count - c->address;
    sluice_loop_start_timer(c->loop, &c->deadline, left / addresses, address_timed_out);
}

static void set_number(struct sluice_life *c, int fd, int level, int name, uint32_t value)
{
    sluice_loop_sockets(c->loop)->set_option(c->loop->be, fd, level, name, &value, sizeof(value));
}

static int open_socket(struct sluice_life *c)
{
    const struct sluice_socket_ops *s = sluice_loop_sockets(c->loop);
    struct sluice_backend *be = c->loop->be;
    int fd = s->open(be, c->addresses.at[c->address].addr.ss_family);
    if (fd < 0)
        return fd;
    set_number(c, fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (c->cfg->rcvbuf_bytes)
        set_number(c, fd, SOL_SOCKET, SO_RCVBUF, c->cfg->rcvbuf_bytes);
    if (c->cfg->sndbuf_bytes)
        set_number(c, fd, SOL_SOCKET, SO_SNDBUF, c->cfg->sndbuf_bytes);
    c->fd = fd;
    if (c->cfg->timestamps) /* before the first packet */
        return s->stamp(be, fd, c->cfg->timestamps == SLUICE_TIMESTAMPS_HARDWARE);
    return 0;
}

static void next_address(struct sluice_life *c)
{
    drop_descriptor(c);
    c->address++;
    if (c->address < c->addresses.count && c->loop->now_ns < c->give_up_ns)
        try_address(c);
    else
        sluice_life_close(c, sluice_life_reason(-c->last_error), -c->last_error);
}

static void try_address(struct sluice_life *c)
{
    int err = open_socket(c);
    if (!err) {
        c->connect_op.connect.addr = (const struct sockaddr *)&c->addresses.at[c->address].addr;
        c->connect_op.connect.bytes = c->addresses.at[c->address].bytes;
        err = sluice_life_begin(c, &c->connect_op);
    }
    if (!err) {
        start_deadline(c);
        return;
    }
    c->last_error = err;
    next_address(c);
}

static void handshake_timed_out(struct sluice_timer *timer)
{
    struct sluice_life *c = SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline);
    sluice_life_close(c, SLUICE_REASON_TLS_TIMED_OUT, 0);
}

static void opened(struct sluice_life *c)
{
    sluice_timer_stop(&c->deadline);
    c->file = c->loop->be->ops->file_add(c->loop->be, c->fd);
    if (c->file < 0)
        c->file = -1;
    if (c->is_tls) {
        sluice_loop_start_timer(c->loop, &c->deadline, c->cfg->tls_timeout_ns, handshake_timed_out);
        set_state(c, SLUICE_CONN_HANDSHAKING);
        c->events->secure(c);
        return;
    }
    set_state(c, SLUICE_CONN_OPEN);
    c->events->open(c);
}

void sluice_life_secured(struct sluice_life *c)
{
    sluice_timer_stop(&c->deadline);
    set_state(c, SLUICE_CONN_OPEN);
    c->events->open(c);
}

static void on_connect(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_life *c = SLUICE_CONTAINER_OF(op, struct sluice_life, connect_op);
    (void)more;
    if (c->state == SLUICE_CONN_CONNECTING && result == 0) {
        opened(c);
    } else if (c->state == SLUICE_CONN_CONNECTING) {
        if (result != -ECANCELED)
            c->last_error = result;
        next_address(c);
    }
    sluice_life_end(c);
}

static void resolved(void *user, int error, const struct sluice_addresses *found)
{
    struct sluice_life *c = user;
    c->resolving = NULL;
    if (error) {
        sluice_life_close(c, SLUICE_REASON_UNRESOLVED, error == EAI_MEMORY ? ENOMEM : 0);
        return;
    }
    c->addresses = *found;
    c->address = 0;
    set_state(c, SLUICE_CONN_CONNECTING);
    try_address(c);
}

/* An override must be a literal address: that is its point. */
static const char *host_to_resolve(const struct sluice_life *c)
{
    for (uint32_t i = 0; i < c->cfg->resolve_count; i++) {
        const char *addr = sluice_url_override(c->cfg->resolve[i], c->url.host, c->url.port);
        if (addr)
            return addr;
    }
    return c->url.host;
}

static void literal_resolved(struct sluice_timer *timer)
{
    struct sluice_life *c = SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline);
    struct sluice_addresses found = c->addresses;
    resolved(c, 0, &found);
}

int sluice_life_start(struct sluice_life *c, const struct sluice_url *url)
{
    SLUICE_CHECK(c->state == SLUICE_CONN_IDLE || c->state == SLUICE_CONN_CLOSED);
    c->url = *url;
    c->reason = SLUICE_REASON_NONE;
    c->os_error = c->last_error = 0;
    c->reset = false;
    c->acked_bytes = UINT64_MAX;
    sluice_loop_refresh_now(c->loop);
    c->give_up_ns = c->loop->now_ns + c->cfg->connect_timeout_ns;
    const char *host = host_to_resolve(c);
    if (sluice_resolve_literal(&c->addresses, host, url->port) == 0) {
        set_state(c, SLUICE_CONN_RESOLVING);
        sluice_loop_start_timer(c->loop, &c->deadline, 0, literal_resolved);
        return 0;
    }
    int err = sluice_resolve_start(&c->resolving, c->loop, host, c->url.port, resolved, c);
    if (err)
        return err;
    set_state(c, SLUICE_CONN_RESOLVING);
    sluice_loop_start_timer(c->loop, &c->deadline, c->cfg->connect_timeout_ns, give_up);
    return 0;
}

void sluice_life_peer(const struct sluice_life *c, char *out, size_t out_bytes)
{
    char host[64] = "?", port[8] = "?";
    if (c->address < c->addresses.count) {
        const struct sockaddr *addr = (const struct sockaddr *)&c->addresses.at[c->address].addr;
        getnameinfo(addr, c->addresses.at[c->address].bytes, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    snprintf(out, out_bytes, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}
