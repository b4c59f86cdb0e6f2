/*
 * The peer: one connection after another. It sends a stream, takes what comes, and ends in order or
 * by a reset.
 */
#include "soak.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_BYTES_MAX (8u << 20)

struct connection {
    struct soak *soak;
    int fd;
    uint64_t random, total;
    uint64_t reset_at; /* bytes sent by then; UINT64_MAX: it ends in order */
    struct stream out, in;
    bool sent_end, got_end;
};

static void reset(struct connection *c)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    c->sent_end = c->got_end = true;
    atomic_fetch_add(&c->soak->resets, 1);
}

/* The other end is the engine of a soak that is over, or that is destroyed with the connection
 * open. */
static void lost(struct connection *c)
{
    c->sent_end = c->got_end = true;
}

static void send_some(struct connection *c)
{
    static uint8_t bytes[65536];
    struct stream before = c->out;
    uint64_t left = c->total - c->out.at;
    size_t n = 1 + (size_t)random_below(&c->random, sizeof(bytes));
    stream_write(&c->out, bytes, n < left ? n : left);
    ssize_t sent = send(c->fd, bytes, (size_t)(c->out.at - before.at), MSG_DONTWAIT | MSG_NOSIGNAL);
    c->out = before;
    if (sent < 0 && errno != EAGAIN)
        lost(c);
    if (sent > 0)
        c->out.at += (uint64_t)sent;
    if (c->out.at >= c->reset_at)
        reset(c);
    else if (c->out.at == c->total && !c->sent_end) {
        c->sent_end = true;
        atomic_store(&c->soak->totals[c->out.key % KEYS], c->total);
        shutdown(c->fd, SHUT_WR);
    }
}

static void receive_some(struct connection *c)
{
    static uint8_t bytes[65536];
    ssize_t n = recv(c->fd, bytes, 1 + random_below(&c->random, sizeof(bytes)), MSG_DONTWAIT);
    if (n > 0)
        stream_check(&c->in, bytes, (size_t)n, "sent");
    if (n > 0)
        atomic_fetch_add(&c->soak->sent_bytes, (uint64_t)n);
    c->got_end |= n == 0;
    if (n < 0 && errno != EAGAIN)
        lost(c);
}

static void serve(struct connection *c)
{
    while (!c->sent_end || !c->got_end) {
        short wanted = (short)(POLLIN | (c->sent_end ? 0 : POLLOUT));
        struct pollfd pfd = {.fd = c->fd, .events = wanted};
        if (poll(&pfd, 1, (int)(SOAK_LIMIT / SLUICE_NS_PER_MS)) <= 0)
            soak_fail("peer", "nothing moves any more; bytes sent", c->out.at);
        if (pfd.revents & POLLOUT)
            send_some(c);
        if (pfd.revents & (POLLIN | POLLHUP | POLLERR) && !c->got_end)
            receive_some(c);
        soak_pause(&c->random);
    }
    close(c->fd);
}

static void open_connection(struct soak *soak, uint64_t key, int fd)
{
    struct connection c = {.soak = soak, .fd = fd, .random = soak->seed + key, .out.key = key};
    atomic_store(&soak->totals[key % KEYS], 0);
    c.total = KEY_BYTES + random_below(&c.random, STREAM_BYTES_MAX);
    c.reset_at = random_below(&c.random, 3) ? UINT64_MAX : random_below(&c.random, c.total);
    serve(&c);
    atomic_store(&soak->has_connection, false);
}

void *peer_run(void *arg)
{
    struct soak *soak = arg;
    for (uint64_t key = 1;; key++) {
        int fd = accept(soak->listener, NULL, NULL);
        if (fd < 0)
            return NULL; /* shut down: it is over */
        atomic_store(&soak->has_connection, true);
        open_connection(soak, key, fd);
    }
}
