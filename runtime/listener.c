/*
 * Listeners: accepting, and waiting where nothing more can be accepted.
 */
#include "conns.h"
#include "base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG_DEFAULT 1024u
#define BACKOFF_MIN_NS  (10 * SLUICE_NS_PER_MS)
#define BACKOFF_MAX_NS  (1 * SLUICE_NS_PER_S)

static struct sluice_backend *backend_of(const struct sluice_listener *l)
{
    return l->conns->loop->be;
}

static struct sluice_listener *of_timer(struct sluice_timer *timer)
{
    return SLUICE_CONTAINER_OF(timer, struct sluice_listener, timer);
}

static void check(const struct sluice_listener *l)
{
    SLUICE_CHECK(l->magic == LISTENER_MAGIC); /* a call after on_close */
}

/* ---- accepting ---- */

static void on_retry(struct sluice_timer *timer);

/* Until a connection closes here. A descriptor may become free elsewhere too, and nobody tells:
 * look again after a while. */
static void wait_for_room(struct sluice_listener *l)
{
    if (!l->waiting)
        l->waits++;
    l->waiting = true;
    if (!l->conns->free)
        return;
    sluice_loop_start_timer(l->conns->loop, &l->timer, l->backoff_ns, on_retry);
    l->backoff_ns = l->backoff_ns * 2 < BACKOFF_MAX_NS ? l->backoff_ns * 2 : BACKOFF_MAX_NS;
}

static void refuse(struct sluice_listener *l, int fd)
{
    const struct sluice_socket_ops *s = sluice_loop_sockets(l->conns->loop);
    s->reset_on_close(backend_of(l), fd);
    s->close(backend_of(l), fd);
}

static bool take(struct sluice_listener *l, int fd)
{
    struct sluice_conn *c = sluice_conns_take(l->conns);
    if (!c)
        return false;
    l->accepted++;
    l->backoff_ns = BACKOFF_MIN_NS;
    if (!l->conns->free)
        backend_of(l)->ops->cancel(backend_of(l), &l->accept_op);
    sluice_conn_adopt(l, c, fd);
    return true;
}

static void park(struct sluice_listener *l, int fd)
{
    backend_of(l)->ops->cancel(backend_of(l), &l->accept_op);
    if (l->parked_count == l->backlog) {
        refuse(l, fd);
        return;
    }
    l->parked[(l->parked_head + l->parked_count++) % l->backlog] = fd;
}

/* Those that came first go first. Their callbacks may close the listener. */
static void unpark(struct sluice_listener *l)
{
    while (l->parked_count > 0 && (l->closing || l->conns->free)) {
        int fd = l->parked[l->parked_head];
        l->parked_head = (l->parked_head + 1) % l->backlog;
        l->parked_count--;
        if (l->closing)
            refuse(l, fd);
        else
            take(l, fd);
    }
}

static void arm(struct sluice_listener *l)
{
    unpark(l);
    if (l->accepting || l->closing)
        return;
    l->accepting = l->conns->free && backend_of(l)->ops->submit(backend_of(l), &l->accept_op) == 0;
    if (l->accepting)
        l->waiting = false;
    else
        wait_for_room(l);
}

static void on_retry(struct sluice_timer *timer)
{
    arm(of_timer(timer));
}

void sluice_listener_retry(struct sluice_conns *conns)
{
    for (uint32_t i = 0; i < CONNS_LISTENERS && conns->listening; i++) {
        struct sluice_listener *l = &conns->listeners[i];
        if (!l->magic || !l->waiting || l->closing)
            continue;
        sluice_timer_stop(&l->timer);
        arm(l);
    }
}

static void over(struct sluice_timer *timer)
{
    struct sluice_listener *l = of_timer(timer);
    unpark(l);
    free(l->parked);
    sluice_loop_sockets(l->conns->loop)->close(backend_of(l), l->fd);
    l->conns->loop->active--;
    if (l->on_close)
        l->on_close(l, l->user);
    l->magic = 0;
    l->conns->listening--;
}

static void on_accept(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_listener *l = SLUICE_CONTAINER_OF(op, struct sluice_listener, accept_op);
    l->accepting = more;
    if (result >= 0 && l->closing)
        refuse(l, result);
    else if (result >= 0 && (l->parked_count > 0 || !take(l, result)))
        park(l, result);
    if (more)
        return;
    if (l->closing)
        sluice_loop_start_timer(l->conns->loop, &l->timer, 0, over);
    else if (result >= 0 || result == -ECONNABORTED || result == -ECANCELED)
        arm(l);
    else
        wait_for_room(l);
}

/* ---- life ---- */

static int parse(const struct sluice_listen_config *cfg, struct sluice_addresses *out, char *why,
                 size_t why_bytes)
{
    struct sluice_url parsed = {.scheme = ""};
    const char *url = cfg->url;
    if (!cfg->events)
        return sluice_conns_refuse(why, why_bytes, -EINVAL, "events: connections need them");
    if (url && sluice_resolve_path(out, url) == 0)
        return 0;
    bool is_url = url && sluice_url_parse_local(&parsed, url) == 0;
    bool is_tls = is_url && strcmp(parsed.scheme, "tls") == 0;
    if (!is_tls && !(is_url && strcmp(parsed.scheme, "tcp") == 0))
        return sluice_conns_refuse(
            why, why_bytes, -EINVAL,
            "%s: not a URL to listen at: tcp://address:port, tls://address:port, unix:PATH",
            url ? url : "");
    if (is_tls != (cfg->tls != NULL) || (is_tls && cfg->tls->role != SLUICE_TLS_SERVER))
        return sluice_conns_refuse(why, why_bytes, -EINVAL,
                                   "%s: tls:// and a tls of role server belong together", url);
    bool required = is_tls && cfg->ktls == SLUICE_KTLS_REQUIRE;
    const char *lacks = required ? sluice_offload_lacks(cfg->tls->provider) : NULL;
    if (lacks)
        return sluice_conns_refuse(why, why_bytes, -ENOTSUP, "%s: no kernel TLS: %s", url, lacks);
    if (sluice_resolve_literal(out, parsed.host, parsed.port))
        return sluice_conns_refuse(
            why, why_bytes, -EINVAL,
            "%s: not an address: 127.0.0.1, [::1]; all of this host: 0.0.0.0, [::]", url);
    return 0;
}

static struct sluice_listener *find_free(struct sluice_conns *conns)
{
    for (uint32_t i = 0; conns && i < CONNS_LISTENERS; i++)
        if (!conns->listeners[i].magic)
            return &conns->listeners[i];
    return NULL;
}

static void start(struct sluice_listener *l, struct sluice_conns *conns,
                  const struct sluice_listen_config *cfg, int fd)
{
    l->magic = LISTENER_MAGIC;
    l->fd = fd;
    l->conns = conns;
    l->events = cfg->events;
    l->user = cfg->user;
    l->on_close = cfg->on_close;
    l->parked_head = l->parked_count = 0;
    l->read_timeout_ns = cfg->read_timeout_ns;
    l->tls = cfg->tls;
    l->ktls = cfg->ktls;
    l->life_cfg = (struct sluice_life_config){
        .tls_timeout_ns = cfg->tls_timeout_ns ? cfg->tls_timeout_ns : TLS_TIMEOUT_DEFAULT};
    l->accepted = l->waits = 0;
    l->backoff_ns = BACKOFF_MIN_NS;
    l->accepting = l->waiting = l->closing = false;
    sluice_op_init(&l->accept_op, SLUICE_OP_ACCEPT, on_accept);
    l->accept_op.flags = SLUICE_OP_MULTI;
    l->accept_op.fd = fd;
    conns->listening++;
    conns->loop->active++;
    arm(l);
}

int sluice_listener_open(struct sluice_listener **out, struct sluice_loop *loop,
                         const struct sluice_listen_config *cfg, char *why, size_t why_bytes)
{
    struct sluice_addresses at = {.count = 0};
    *out = NULL;
    if (sluice_loop_is_forked(loop))
        return sluice_conns_refuse(why, why_bytes, -ECHILD, "%s", SLUICE_FORKED);
    int err = parse(cfg, &at, why, why_bytes);
    if (err)
        return err;
    struct sluice_listener *l = find_free(loop->conns);
    if (!l)
        return sluice_conns_refuse(why, why_bytes, -ENOBUFS, "%s",
                                   loop->conns ? "a loop has 64 listeners at most"
                                               : "this loop has no connections: set its conns_max");
    uint32_t backlog = cfg->backlog ? cfg->backlog : BACKLOG_DEFAULT;
    int *parked = calloc(backlog, sizeof(*parked));
    if (!parked)
        return -ENOMEM;
    int fd = sluice_loop_sockets(loop)->listen(loop->be, (struct sockaddr *)&at.at[0].addr,
                                               at.at[0].bytes, (int)backlog, cfg->reuse_port);
    if (fd < 0) {
        free(parked);
        return sluice_conns_refuse(why, why_bytes, fd, "%s: %s", cfg->url, strerror(-fd));
    }
    l->parked = parked;
    l->backlog = backlog;
    start(l, loop->conns, cfg, fd);
    *out = l;
    return 0;
}

void sluice_listener_close(struct sluice_listener *l)
{
    check(l);
    if (l->closing)
        return;
    l->closing = true;
    sluice_timer_stop(&l->timer);
    if (l->accepting)
        backend_of(l)->ops->cancel(backend_of(l), &l->accept_op);
    else
        sluice_loop_start_timer(l->conns->loop, &l->timer, 0, over);
}

/* ---- what may be asked of it ---- */

int sluice_listener_address(const struct sluice_listener *l, struct sockaddr *out, socklen_t *bytes)
{
    check(l);
    return sluice_loop_sockets(l->conns->loop)->address(backend_of(l), l->fd, false, out, bytes);
}

uint16_t sluice_listener_port(const struct sluice_listener *l)
{
    struct sockaddr_storage addr = {0};
    socklen_t bytes = sizeof(addr);
    if (sluice_listener_address(l, (struct sockaddr *)&addr, &bytes))
        return 0;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    memcpy(&in, &addr, sizeof(in));
    memcpy(&in6, &addr, sizeof(in6));
    return ntohs(addr.ss_family == AF_INET    ? in.sin_port
                 : addr.ss_family == AF_INET6 ? in6.sin6_port
                                              : 0);
}

uint64_t sluice_listener_accepted(const struct sluice_listener *l)
{
    check(l);
    return l->accepted;
}

uint64_t sluice_listener_waits(const struct sluice_listener *l)
{
    check(l);
    return l->waits;
}
