/*
 * The simulated network: sockets, listeners, pipes, FIN and RST as Linux TCP does them. No faults,
 * no time and no ops here (sim.c).
 */
#include "backends/sim/net.h"
#include "base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* --- bytes ------------------------------------------------------------------------------- */

static size_t pipe_used(const struct net_pipe *pipe)
{
    return (size_t)(pipe->tail - pipe->head);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void pipe_size(struct net_pipe *pipe, size_t bytes)
{
    SLUICE_CHECK(bytes > 0);
    SLUICE_CHECK(pipe_used(pipe) == 0);
    uint8_t *base = realloc(pipe->base, bytes);
    SLUICE_CHECK(base != NULL); /* a test's backend may say so */
    pipe->base = base;
    pipe->bytes = bytes;
}

static size_t pipe_put(struct net_pipe *pipe, const uint8_t *from, size_t bytes)
{
    bytes = min_size(bytes, pipe->bytes - pipe_used(pipe));
    size_t at = pipe->tail % pipe->bytes;
    size_t first = min_size(bytes, pipe->bytes - at);
    memcpy(pipe->base + at, from, first);
    memcpy(pipe->base, from + first, bytes - first);
    pipe->tail += bytes;
    return bytes;
}

static size_t pipe_take(struct net_pipe *pipe, uint8_t *to, size_t bytes)
{
    bytes = min_size(bytes, pipe_used(pipe));
    size_t at = pipe->head % pipe->bytes;
    size_t first = min_size(bytes, pipe->bytes - at);
    memcpy(to, pipe->base + at, first);
    memcpy(to + first, pipe->base, bytes - first);
    pipe->head += bytes;
    return bytes;
}

/* --- ends -------------------------------------------------------------------------------- */

struct net_end *sluice_net_end(const struct net *net, int fd)
{
    int at = fd - SLUICE_SIM_FD_FIRST;
    return fd < SLUICE_SIM_FD_FIRST || at >= NET_FDS_MAX ? NULL : net->ends[at];
}

static struct net_end *end_create(void)
{
    struct net_end *end = calloc(1, sizeof(*end));
    SLUICE_CHECK(end != NULL);
    end->fd = -1;
    return end;
}

/* Lowest free first, as in the kernel: a stale descriptor soon means another socket. */
static int fd_assign(struct net *net, struct net_end *end)
{
    for (int at = 0; at < NET_FDS_MAX; at++) {
        if (net->ends[at])
            continue;
        net->ends[at] = end;
        end->fd = SLUICE_SIM_FD_FIRST + at;
        return end->fd;
    }
    return -EMFILE;
}

int sluice_net_open(struct net *net, int family)
{
    if (family != AF_INET && family != AF_INET6)
        return -EAFNOSUPPORT;
    struct net_end *end = end_create();
    int fd = fd_assign(net, end);
    if (fd < 0)
        free(end);
    return fd;
}

static void end_join(struct net *net, struct net_end *a, struct net_end *b)
{
    pipe_size(&a->in, a->in.bytes ? a->in.bytes : net->window_bytes);
    pipe_size(&b->in, b->in.bytes ? b->in.bytes : net->window_bytes);
    a->state = b->state = NET_OPEN;
    a->peer = b;
    b->peer = a;
    a->changes++;
    b->changes++;
}

/* A RST arrives. What was received before it stays readable (tcp_reset keeps the queue). */
static void end_take_reset(struct net_end *end)
{
    end->reset = true;
    end->error = end->in.ended ? EPIPE : ECONNRESET;
    end->changes++;
}

static void end_part(struct net_end *end)
{
    struct net_end *peer = end->peer;
    if (!peer)
        return;
    end->acked_bytes = peer->in.head;
    peer->acked_bytes = end->in.head;
    end->peer = NULL;
    peer->peer = NULL;
}

static void end_take_fin(struct net_end *end)
{
    end->in.ended = true;
    end->changes++;
}

static void end_destroy(struct net_end *end)
{
    sluice_net_datagrams_free(end->datagrams);
    free(end->in.base);
    free(end);
}

static void backlog_drop(struct net_end *listener)
{
    while (listener->backlog) {
        struct net_end *end = listener->backlog;
        listener->backlog = end->backlog_next;
        struct net_end *peer = end->peer;
        end_part(end);
        if (peer)
            end_take_reset(peer);
        end_destroy(end);
    }
    listener->backlog_count = 0;
}

/* Unread bytes at close are answered with a RST, as RFC 1122 4.2.2.13 asks. */
static void end_finish(struct net_end *end)
{
    struct net_end *peer = end->peer;
    bool hard = end->reset_on_close || pipe_used(&end->in) > 0;
    end_part(end);
    if (peer && hard)
        end_take_reset(peer);
    else if (peer)
        end_take_fin(peer);
    backlog_drop(end);
    end_destroy(end);
}

void sluice_net_close(struct net *net, struct net_end *end)
{
    SLUICE_CHECK(end->ops == 0); /* end the ops first: DESIGN.md 5 */
    net->ends[end->fd - SLUICE_SIM_FD_FIRST] = NULL;
    end->fd = -1;
    if (end->file_slots == 0)
        end_finish(end);
}

void sluice_net_release(struct net *net, struct net_end *end)
{
    (void)net;
    SLUICE_CHECK(end->file_slots > 0);
    end->file_slots--;
    if (end->file_slots == 0 && end->fd < 0)
        end_finish(end);
}

void sluice_net_fini(struct net *net)
{
    for (int at = 0; at < NET_FDS_MAX; at++)
        if (net->ends[at])
            sluice_net_close(net, net->ends[at]);
}

int sluice_net_shutdown(struct net_end *end, int how)
{
    if (end->state == NET_CONNECTING || end->state == NET_LISTENING) {
        end->error = end->state == NET_LISTENING ? EINVAL : ECONNRESET;
        end->receiving_over = true;
        end->changes++;
        return 0;
    }
    if (end->state != NET_OPEN || end->reset)
        return -ENOTCONN;
    if (how == SHUT_RD || how == SHUT_RDWR)
        end->receiving_over = true;
    if ((how == SHUT_WR || how == SHUT_RDWR) && !end->sending_over) {
        end->sending_over = true;
        if (end->peer)
            end_take_fin(end->peer);
    }
    end->changes++;
    return 0;
}

void sluice_net_break(struct net_end *end)
{
    struct net_end *peer = end->peer;
    end_part(end);
    end_take_reset(end);
    if (peer)
        end_take_reset(peer);
}

uint64_t sluice_net_acked_bytes(const struct net_end *end)
{
    return end->peer ? end->peer->in.head : end->acked_bytes;
}

/* --- connections ------------------------------------------------------------------------- */

static bool addr_equal(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET) {
        struct sockaddr_in x, y;
        memcpy(&x, a, sizeof(x));
        memcpy(&y, b, sizeof(y));
        return x.sin_port == y.sin_port && x.sin_addr.s_addr == y.sin_addr.s_addr;
    }
    struct sockaddr_in6 x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x.sin6_port == y.sin6_port &&
           memcmp(&x.sin6_addr, &y.sin6_addr, sizeof(x.sin6_addr)) == 0;
}

static bool addr_valid(const struct sockaddr *addr, socklen_t bytes)
{
    if (bytes < sizeof(addr->sa_family))
        return false;
    return (addr->sa_family == AF_INET && bytes >= sizeof(struct sockaddr_in)) ||
           (addr->sa_family == AF_INET6 && bytes >= sizeof(struct sockaddr_in6));
}

static struct net_end *listener_at(const struct net *net, const struct sockaddr *addr)
{
    for (int at = 0; at < NET_FDS_MAX; at++) {
        struct net_end *end = net->ends[at];
        if (end && end->state == NET_LISTENING && !end->receiving_over &&
            addr_equal((const struct sockaddr *)&end->addr, addr))
            return end;
    }
    return NULL;
}

static int listener_offer(struct net *net, struct net_end *listener, struct net_end *end)
{
    if (listener->backlog_count == NET_BACKLOG_MAX)
        return -EAGAIN;
    struct net_end *far = end_create();
    end_join(net, end, far);
    struct net_end **last = &listener->backlog;
    while (*last)
        last = &(*last)->backlog_next;
    *last = far;
    listener->backlog_count++;
    listener->changes++;
    return 0;
}

static int connect_start(struct net *net, struct net_end *end, const struct sockaddr *addr)
{
    struct net_end *listener = listener_at(net, addr);
    if (!listener)
        return -ECONNREFUSED;
    switch (listener->mode) {
    case SLUICE_SIM_OPEN:
        return listener_offer(net, listener, end);
    case SLUICE_SIM_BLACK_HOLE:
        return -EAGAIN;
    case SLUICE_SIM_UNREACHABLE:
        return -ENETUNREACH;
    }
    return -EINVAL;
}

static int take_error(struct net_end *end)
{
    int error = end->error;
    end->error = 0;
    return -error;
}

int sluice_net_connect(struct net *net, struct net_end *end, const struct sockaddr *addr,
                       socklen_t addr_bytes)
{
    if (!addr_valid(addr, addr_bytes))
        return -EINVAL;
    if (end->state == NET_OPEN || end->state == NET_LISTENING)
        return -EISCONN;
    if (end->error) {
        end->state = NET_FRESH;
        return take_error(end);
    }
    end->state = NET_CONNECTING;
    int result = connect_start(net, end, addr);
    if (result < 0 && result != -EAGAIN)
        end->state = NET_FRESH;
    return result;
}

int sluice_net_accept(struct net *net, struct net_end *listener)
{
    if (listener->state != NET_LISTENING || listener->receiving_over)
        return -EINVAL;
    struct net_end *end = listener->backlog;
    if (!end)
        return -EAGAIN;
    int fd = fd_assign(net, end);
    if (fd < 0)
        return fd;
    listener->backlog = end->backlog_next;
    listener->backlog_count--;
    end->backlog_next = NULL;
    return fd;
}

/* --- moving bytes ------------------------------------------------------------------------ */

size_t sluice_net_sendable(const struct net_end *end)
{
    if (end->state != NET_OPEN || end->error || end->reset || end->sending_over || !end->peer)
        return 0;
    return end->peer->in.bytes - pipe_used(&end->peer->in);
}

size_t sluice_net_receivable(const struct net_end *end)
{
    return pipe_used(&end->in);
}

ssize_t sluice_net_send(struct net_end *end, const void *from, size_t bytes)
{
    if (end->state == NET_CONNECTING)
        return -EAGAIN;
    if (end->error)
        return take_error(end);
    if (end->state != NET_OPEN || end->sending_over || end->reset)
        return -EPIPE;
    if (!end->peer) { /* closed over there: the bytes leave, and a RST answers them */
        end_take_reset(end);
        return (ssize_t)bytes;
    }
    size_t count = pipe_put(&end->peer->in, from, bytes);
    if (count == 0 && bytes > 0)
        return -EAGAIN;
    end->peer->changes++;
    return (ssize_t)count;
}

ssize_t sluice_net_recv(struct net_end *end, void *to, size_t bytes)
{
    if (pipe_used(&end->in) > 0) {
        size_t count = pipe_take(&end->in, to, bytes);
        if (end->peer)
            end->peer->changes++;
        return (ssize_t)count;
    }
    if (end->in.ended) /* before the error, as in tcp_recvmsg */
        return 0;
    /* Linux tells a reset once: when a SEND beside heard it, we read 0 (backend.h, 10). */
    if (end->reset)
        return end->error ? take_error(end) : 0;
    if (end->receiving_over)
        return 0;
    return end->state == NET_OPEN || end->state == NET_CONNECTING ? -EAGAIN : -ENOTCONN;
}

static uint32_t stream_events(const struct net_end *end)
{
    uint32_t events = 0;
    bool read_over = end->in.ended || end->receiving_over || end->reset;
    if (pipe_used(&end->in) > 0 || read_over)
        events |= POLLIN;
    if (read_over)
        events |= POLLRDHUP;
    if (end->sending_over || end->reset || !end->peer || sluice_net_sendable(end) > 0)
        events |= POLLOUT;
    if (end->error)
        events |= POLLERR;
    if (end->reset || (read_over && end->sending_over))
        events |= POLLHUP;
    return events;
}

static uint32_t datagram_events(const struct net_end *end)
{
    bool has_error;
    bool ready = sluice_net_datagrams_ready(end->datagrams, &has_error);
    return (ready || has_error ? POLLIN : 0) | (has_error ? POLLERR : 0) | POLLOUT;
}

uint32_t sluice_net_events(const struct net_end *end)
{
    switch (end->state) {
    case NET_FRESH:
        return POLLOUT | POLLHUP;
    case NET_CONNECTING:
        return 0;
    case NET_LISTENING:
        return end->backlog ? POLLIN : 0;
    case NET_DATAGRAMS:
        return datagram_events(end);
    case NET_OPEN:
        break;
    }
    return stream_events(end);
}

/* --- what a test does by hand ------------------------------------------------------------ */

static struct net_end *peer_at(struct sluice_backend *be, int fd)
{
    struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    SLUICE_CHECK(end != NULL);
    return end;
}

int sluice_sim_listen(struct sluice_backend *be, const struct sockaddr *addr, socklen_t addr_bytes,
                      enum sluice_sim_listen_mode mode)
{
    struct net *net = sluice_net_of(be);
    if (!addr_valid(addr, addr_bytes))
        return -EINVAL;
    if (listener_at(net, addr))
        return -EADDRINUSE;
    int fd = sluice_net_open(net, addr->sa_family);
    if (fd < 0)
        return fd;
    struct net_end *end = peer_at(be, fd);
    end->state = NET_LISTENING;
    end->mode = mode;
    memcpy(&end->addr, addr, min_size(addr_bytes, sizeof(end->addr)));
    return fd;
}

int sluice_sim_accept(struct sluice_backend *be, int listener)
{
    return sluice_net_accept(sluice_net_of(be), peer_at(be, listener));
}

int sluice_sim_dial(struct sluice_backend *be, int listener)
{
    struct net *net = sluice_net_of(be);
    struct net_end *at = peer_at(be, listener);
    SLUICE_CHECK(at->state == NET_LISTENING);
    int fd = sluice_net_open(net, at->addr.ss_family);
    if (fd < 0)
        return fd;
    int err = listener_offer(net, at, peer_at(be, fd));
    if (err) {
        sluice_net_close(net, peer_at(be, fd));
        return err;
    }
    return fd;
}

ssize_t sluice_sim_peer_send(struct sluice_backend *be, int peer, const void *from, size_t bytes)
{
    return sluice_net_send(peer_at(be, peer), from, bytes);
}

ssize_t sluice_sim_peer_recv(struct sluice_backend *be, int peer, void *to, size_t bytes)
{
    return sluice_net_recv(peer_at(be, peer), to, bytes);
}

void sluice_sim_peer_shutdown(struct sluice_backend *be, int peer)
{
    sluice_net_shutdown(peer_at(be, peer), SHUT_WR);
}

void sluice_sim_peer_reset(struct sluice_backend *be, int peer)
{
    struct net_end *end = peer_at(be, peer);
    end->reset_on_close = true;
    sluice_net_close(sluice_net_of(be), end);
}

bool sluice_sim_peer_saw_eof(struct sluice_backend *be, int peer)
{
    const struct net_end *end = peer_at(be, peer);
    return end->in.ended && pipe_used(&end->in) == 0;
}

void sluice_sim_set_window(struct sluice_backend *be, int fd, size_t bytes)
{
    struct net_end *end = peer_at(be, fd);
    pipe_size(&end->in, bytes);
}

void sluice_sim_set_default_window(struct sluice_backend *be, size_t bytes)
{
    SLUICE_CHECK(bytes > 0);
    sluice_net_of(be)->window_bytes = bytes;
}
