/*
 * One connection, from its first state to closed: one enum, one table, one setter. How an outgoing
 * one comes to its descriptor is dial.c's.
 */
#include "life.h"
#include "dial.h"
#include "base/check.h"

#include <errno.h>
#include <string.h>

#define TO(state) (1u << SLUICE_CONN_##state)

static const uint16_t may_follow[SLUICE_CONN_STATES] = {
    [SLUICE_CONN_IDLE] = TO(RESOLVING) | TO(HANDSHAKING) | TO(OPEN), /* dialled, or accepted */
    [SLUICE_CONN_RESOLVING] = TO(CONNECTING) | TO(CLOSING),
    [SLUICE_CONN_CONNECTING] = TO(HANDSHAKING) | TO(OPEN) | TO(CLOSING),
    [SLUICE_CONN_HANDSHAKING] = TO(OPEN) | TO(CLOSING),
    [SLUICE_CONN_OPEN] = TO(DRAINING) | TO(CLOSING),
    [SLUICE_CONN_DRAINING] = TO(CLOSING),
    [SLUICE_CONN_CLOSING] = TO(CLOSED), /* only with no op in flight */
    [SLUICE_CONN_CLOSED] = TO(RESOLVING) | TO(WAITING),
    [SLUICE_CONN_WAITING] = TO(RESOLVING) | TO(CLOSED),
};

void sluice_life_set_state(struct sluice_life *c, enum sluice_conn_state next)
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

void sluice_life_init(struct sluice_life *c, struct sluice_loop *loop,
                      const struct sluice_life_config *cfg, const struct sluice_life_events *events)
{
    memset(c, 0, sizeof(*c));
    c->loop = loop;
    c->cfg = cfg;
    c->events = events;
    c->fd = c->file = -1;
}

/* ---- closing ---- */

void sluice_life_drop(struct sluice_life *c)
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
    if (c->fd >= 0 && c->cfg->counts_acked)
        c->acked_bytes = sluice_loop_sockets(c->loop)->acked_bytes(c->loop->be, c->fd);
    sluice_life_drop(c);
    sluice_life_set_state(c, SLUICE_CONN_CLOSED);
    c->events->closed(c);
}

static void over(struct sluice_timer *timer)
{
    finish_close(SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline));
}

/* Told by the loop, never inside a call of the user's. */
void sluice_life_ended(struct sluice_life *c)
{
    sluice_loop_start_timer(c->loop, &c->deadline, 0, over);
}

void sluice_life_close(struct sluice_life *c, enum sluice_reason reason, int os_error)
{
    if (c->state == SLUICE_CONN_IDLE || c->state >= SLUICE_CONN_CLOSING)
        return;
    c->reason = reason;
    c->os_error = os_error;
    sluice_timer_stop(&c->deadline);
    sluice_life_set_state(c, SLUICE_CONN_CLOSING);
    c->ops++; /* held through quiesce: it must not finish inside */
    if (c->dial)
        sluice_dial_stop(c->dial);
    c->events->quiesce(c);
    sluice_life_end(c);
}

void sluice_life_shutdown(struct sluice_life *c)
{
    SLUICE_CHECK(c->state == SLUICE_CONN_OPEN);
    sluice_loop_sockets(c->loop)->shutdown(c->loop->be, c->fd, SHUT_WR);
    sluice_life_set_state(c, SLUICE_CONN_DRAINING);
}

/* ---- opening ---- */

void sluice_life_renew(struct sluice_life *c)
{
    c->reason = SLUICE_REASON_NONE;
    c->os_error = 0;
    c->reset = false;
    c->acked_bytes = UINT64_MAX;
}

void sluice_life_adopt(struct sluice_life *c, int fd)
{
    SLUICE_CHECK(c->state == SLUICE_CONN_IDLE);
    sluice_life_renew(c);
    c->fd = fd;
    sluice_life_connected(c);
}

static void handshake_timed_out(struct sluice_timer *timer)
{
    struct sluice_life *c = SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline);
    sluice_life_close(c, SLUICE_REASON_TLS_TIMED_OUT, 0);
}

void sluice_life_connected(struct sluice_life *c)
{
    sluice_timer_stop(&c->deadline);
    c->file = c->cfg->short_name ? c->loop->be->ops->file_add(c->loop->be, c->fd) : -1;
    if (c->file < 0)
        c->file = -1;
    if (c->is_tls) {
        sluice_loop_start_timer(c->loop, &c->deadline, c->cfg->tls_timeout_ns, handshake_timed_out);
        sluice_life_set_state(c, SLUICE_CONN_HANDSHAKING);
        c->events->secure(c);
        return;
    }
    sluice_life_set_state(c, SLUICE_CONN_OPEN);
    c->events->open(c);
}

void sluice_life_secured(struct sluice_life *c)
{
    sluice_timer_stop(&c->deadline);
    sluice_life_set_state(c, SLUICE_CONN_OPEN);
    c->events->open(c);
}
