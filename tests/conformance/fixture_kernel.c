/*
 * The other side of the conformance cases on the kernel: plain TCP sockets on loopback, ports as
 * they come. Serves every backend that runs on kernel descriptors.
 */
#include "tests/conformance/cases.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Small and fixed, so that a peer that does not read is soon full. */
static void set_buffers(int fd)
{
    const int bytes = 64 * 1024;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

static void loopback(int family, struct address *addr)
{
    memset(addr, 0, sizeof(*addr));
    addr->storage.ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        ((struct sockaddr_in *)&addr->storage)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        addr->bytes = sizeof(struct sockaddr_in);
        return;
    }
    ((struct sockaddr_in6 *)&addr->storage)->sin6_addr = in6addr_loopback;
    addr->bytes = sizeof(struct sockaddr_in6);
}

static int listen_with(int family, struct address *addr, int backlog)
{
    loopback(family, addr);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    set_buffers(fd); /* accepted sockets inherit it */
    struct sockaddr *at = (struct sockaddr *)&addr->storage;
    if (bind(fd, at, addr->bytes) || listen(fd, backlog) || getsockname(fd, at, &addr->bytes)) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static int kernel_listen(struct fixture *f, int family, struct address *addr)
{
    (void)f;
    return listen_with(family, addr, 64);
}

static void kernel_close_listener(struct fixture *f, int listener)
{
    while (f->fillers_count > 0)
        close(f->fillers[--f->fillers_count]);
    close(listener);
}

/* A port that was ours a moment ago. */
static void kernel_dead_address(struct fixture *f, struct address *addr)
{
    int fd = kernel_listen(f, AF_INET, addr);
    EXPECT(fd >= 0);
    close(fd);
}

/* tcp_v4_connect refuses a broadcast address with ENETUNREACH; nothing leaves this machine. */
static void kernel_unreachable_address(struct fixture *f, struct address *addr)
{
    (void)f;
    loopback(AF_INET, addr);
    struct sockaddr_in *in = (struct sockaddr_in *)&addr->storage;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK | 0xffffff);
    in->sin_port = htons(9);
}

static int dial(const struct sockaddr *at, socklen_t bytes, int flags)
{
    int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return -errno;
    set_buffers(fd);
    if (connect(fd, at, bytes) && errno != EINPROGRESS) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* A listener nobody accepts from, its backlog full: it drops every further SYN. */
static int kernel_black_hole(struct fixture *f, struct address *addr)
{
    int listener = listen_with(AF_INET, addr, 0);
    EXPECT(listener >= 0);
    for (int i = 0; i < 16; i++) {
        int fd = dial((struct sockaddr *)&addr->storage, addr->bytes, SOCK_NONBLOCK);
        EXPECT(fd >= 0);
        f->fillers[f->fillers_count++] = fd;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, 50) == 0)
            return listener;
    }
    kernel_close_listener(f, listener);
    return -ENOTSUP;
}

static int kernel_accept(struct fixture *f, int listener)
{
    (void)f;
    struct pollfd p = {.fd = listener, .events = POLLIN};
    if (poll(&p, 1, 0) == 0)
        return -EAGAIN;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int kernel_dial(struct fixture *f, int listener)
{
    (void)f;
    struct address addr = {.bytes = sizeof(addr.storage)};
    if (getsockname(listener, (struct sockaddr *)&addr.storage, &addr.bytes))
        return -errno;
    return dial((struct sockaddr *)&addr.storage, addr.bytes, 0);
}

static ssize_t kernel_send(struct fixture *f, int peer, const void *from, size_t bytes)
{
    (void)f;
    ssize_t count = send(peer, from, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    return count < 0 ? -errno : count;
}

static ssize_t kernel_recv(struct fixture *f, int peer, void *to, size_t bytes)
{
    (void)f;
    ssize_t count = recv(peer, to, bytes, MSG_DONTWAIT);
    return count < 0 ? -errno : count;
}

static void kernel_fin(struct fixture *f, int peer)
{
    (void)f;
    shutdown(peer, SHUT_WR);
}

static void kernel_reset(struct fixture *f, int peer)
{
    (void)f;
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(peer);
}

static void kernel_close(struct fixture *f, int peer)
{
    (void)f;
    close(peer);
}

const struct fixture_ops fixture_kernel = {
    .virtual_time = false,
    .listen = kernel_listen,
    .close_listener = kernel_close_listener,
    .dead_address = kernel_dead_address,
    .unreachable_address = kernel_unreachable_address,
    .black_hole = kernel_black_hole,
    .accept = kernel_accept,
    .dial = kernel_dial,
    .send = kernel_send,
    .recv = kernel_recv,
    .fin = kernel_fin,
    .reset = kernel_reset,
    .close = kernel_close,
};
