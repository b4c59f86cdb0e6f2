/*
 * From a URL to a descriptor: the name resolved, each of its addresses tried in the time that is
 * left. What becomes of the connection then is life.c's.
 */
#include "dial.h"
#include "base/check.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

static void try_address(struct sluice_dial *d);

static struct sluice_dial *of_deadline(struct sluice_timer *timer)
{
    return SLUICE_CONTAINER_OF(timer, struct sluice_life, deadline)->dial;
}

static void give_up(struct sluice_timer *timer)
{
    sluice_life_close(of_deadline(timer)->life, SLUICE_REASON_TIMED_OUT, ETIMEDOUT);
}

/* ---- one address after the other ---- */

/* This address had its share: cancel it; its end tries the next. */
static void address_timed_out(struct sluice_timer *timer)
{
    struct sluice_dial *d = of_deadline(timer);
    struct sluice_backend *be = d->life->loop->be;
    d->last_error = -ETIMEDOUT;
    be->ops->cancel(be, &d->connect_op);
}

/* What is left of the time, shared by the addresses that are left. */
static void start_deadline(struct sluice_dial *d)
{
    struct sluice_life *c = d->life;
    uint64_t now = c->loop->now_ns;
    uint64_t left = d->give_up_ns > now ? d->give_up_ns - now : 0;
    uint32_t addresses = d->addresses.count - d->address;
    sluice_loop_start_timer(c->loop, &c->deadline, left / addresses, address_timed_out);
}

static void set_number(struct sluice_life *c, int fd, int level, int name, uint32_t value)
{
    sluice_loop_sockets(c->loop)->set_option(c->loop->be, fd, level, name, &value, sizeof(value));
}

/* Whole seconds are what the kernel takes. */
static void set_keepalive(struct sluice_life *c, int fd)
{
    uint32_t idle_s = (uint32_t)((c->cfg->keepalive_ns + SLUICE_NS_PER_S - 1) / SLUICE_NS_PER_S);
    set_number(c, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_number(c, fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    set_number(c, fd, IPPROTO_TCP, TCP_KEEPINTVL, idle_s > 3 ? idle_s / 3 : 1);
    set_number(c, fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

static int open_socket(struct sluice_dial *d)
{
    struct sluice_life *c = d->life;
    const struct sluice_socket_ops *s = sluice_loop_sockets(c->loop);
    struct sluice_backend *be = c->loop->be;
    int family = d->addresses.at[d->address].addr.ss_family;
    int fd = s->open(be, family);
    if (fd < 0)
        return fd;
    if (family != AF_UNIX)
        set_number(c, fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (c->cfg->rcvbuf_bytes)
        set_number(c, fd, SOL_SOCKET, SO_RCVBUF, c->cfg->rcvbuf_bytes);
    if (c->cfg->keepalive_ns)
        set_keepalive(c, fd);
    if (c->cfg->user_timeout_ns)
        set_number(c, fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
                   (uint32_t)(c->cfg->user_timeout_ns / SLUICE_NS_PER_MS));
    if (c->cfg->sndbuf_bytes)
        set_number(c, fd, SOL_SOCKET, SO_SNDBUF, c->cfg->sndbuf_bytes);
    c->fd = fd;
    if (c->cfg->timestamps) /* before the first packet */
        return s->stamp(be, fd, c->cfg->timestamps == SLUICE_TIMESTAMPS_HARDWARE);
    return 0;
}

static void next_address(struct sluice_dial *d)
{
    struct sluice_life *c = d->life;
    sluice_life_drop(c);
    d->address++;
    if (d->address < d->addresses.count && c->loop->now_ns < d->give_up_ns)
        try_address(d);
    else
        sluice_life_close(c, sluice_life_reason(-d->last_error), -d->last_error);
}

static void try_address(struct sluice_dial *d)
{
    int err = open_socket(d);
    if (!err) {
        d->connect_op.connect.addr = (const struct sockaddr *)&d->addresses.at[d->address].addr;
        d->connect_op.connect.bytes = d->addresses.at[d->address].bytes;
        err = sluice_life_begin(d->life, &d->connect_op);
    }
    if (!err) {
        start_deadline(d);
        return;
    }
    d->last_error = err;
    next_address(d);
}

/* Once it is connected, the owner may have done with the dial. */
static void on_connect(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_dial *d = SLUICE_CONTAINER_OF(op, struct sluice_dial, connect_op);
    struct sluice_life *c = d->life;
    (void)more;
    if (c->state == SLUICE_CONN_CONNECTING && result == 0) {
        sluice_life_connected(c);
    } else if (c->state == SLUICE_CONN_CONNECTING) {
        if (result != -ECANCELED)
            d->last_error = result;
        next_address(d);
    }
    sluice_life_end(c);
}

/* ---- addresses ---- */

static void resolved(void *user, int error, const struct sluice_addresses *found)
{
    struct sluice_dial *d = user;
    d->resolving = NULL;
    if (error) {
        sluice_life_close(d->life, SLUICE_REASON_UNRESOLVED, error == EAI_MEMORY ? ENOMEM : 0);
        return;
    }
    d->addresses.count = found->count;
    for (uint32_t i = 0; i < found->count; i++)
        d->addresses.at[i] = found->at[(i + d->turn) % found->count];
    d->address = 0;
    sluice_life_set_state(d->life, SLUICE_CONN_CONNECTING);
    try_address(d);
}

/* An override must be a literal address: that is its point. */
static const char *host_to_resolve(const struct sluice_dial *d)
{
    const struct sluice_life_config *cfg = d->life->cfg;
    for (uint32_t i = 0; i < cfg->resolve_count; i++) {
        const char *addr = sluice_url_override(cfg->resolve[i], d->url.host, d->url.port);
        if (addr)
            return addr;
    }
    return d->url.host;
}

static void addresses_known(struct sluice_timer *timer)
{
    struct sluice_dial *d = of_deadline(timer);
    struct sluice_addresses found = d->addresses;
    resolved(d, 0, &found);
}

static void begin(struct sluice_dial *d, struct sluice_life *c)
{
    sluice_life_renew(c);
    c->dial = d;
    d->life = c;
    d->last_error = 0;
    d->resolving = NULL;
    sluice_op_init(&d->connect_op, SLUICE_OP_CONNECT, on_connect);
    sluice_loop_refresh_now(c->loop);
    d->give_up_ns = c->loop->now_ns + c->cfg->connect_timeout_ns;
}

static void go_on_later(struct sluice_dial *d)
{
    sluice_life_set_state(d->life, SLUICE_CONN_RESOLVING);
    sluice_loop_start_timer(d->life->loop, &d->life->deadline, 0, addresses_known);
}

void sluice_dial_start_at(struct sluice_dial *d, struct sluice_life *c)
{
    begin(d, c);
    go_on_later(d);
}

int sluice_dial_start(struct sluice_dial *d, struct sluice_life *c, const struct sluice_url *url)
{
    d->url = *url;
    begin(d, c);
    const char *host = host_to_resolve(d);
    if (sluice_resolve_literal(&d->addresses, host, url->port) == 0) {
        go_on_later(d);
        return 0;
    }
    int err =
        sluice_resolve_start(&d->resolving, c->loop, host, d->url.port, d->cores, resolved, d);
    if (err)
        return err;
    sluice_life_set_state(c, SLUICE_CONN_RESOLVING);
    sluice_loop_start_timer(c->loop, &c->deadline, c->cfg->connect_timeout_ns, give_up);
    return 0;
}

void sluice_dial_stop(struct sluice_dial *d)
{
    struct sluice_backend *be = d->life->loop->be;
    sluice_resolve_abandon(d->resolving);
    d->resolving = NULL;
    be->ops->cancel(be, &d->connect_op);
}

void sluice_dial_peer(const struct sluice_dial *d, char *out, size_t out_bytes)
{
    char host[64] = "?", port[8] = "?";
    if (d->address < d->addresses.count) {
        const struct sockaddr *addr = (const struct sockaddr *)&d->addresses.at[d->address].addr;
        getnameinfo(addr, d->addresses.at[d->address].bytes, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    snprintf(out, out_bytes, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}
