/*
 * Socket calls that never wait, for every backend that runs on the kernel.
 */
#include "backends/tcp.h"
#include "base/system.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int kernel_open(struct sluice_backend *be, int family)
{
    (void)be;
    return sluice_system_socket(family, SOCK_STREAM, false);
}

/* A connection in TIME_WAIT does not hold the port of a server that starts again. A path is taken
 * by its name, also the name of a socket that nobody has any more: that is for its owner to remove.
 */
static int prepare_listener(int fd, const struct sockaddr *addr, socklen_t bytes, int backlog,
                            bool reuse_port)
{
    const int yes = 1;
    if (addr->sa_family != AF_UNIX) {
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)))
            return -errno;
        if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)))
            return -errno;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)); /* inherited */
    }
    return bind(fd, addr, bytes) || listen(fd, backlog) ? -errno : 0;
}

static int kernel_listen(struct sluice_backend *be, const struct sockaddr *addr, socklen_t bytes,
                         int backlog, bool reuse_port)
{
    int fd = kernel_open(be, addr->sa_family);
    if (fd < 0)
        return fd;
    int err = prepare_listener(fd, addr, bytes, backlog, reuse_port);
    if (!err)
        return fd;
    close(fd);
    return err;
}

static int kernel_address(struct sluice_backend *be, int fd, bool of_peer, struct sockaddr *out,
                          socklen_t *bytes)
{
    (void)be;
    return (of_peer ? getpeername(fd, out, bytes) : getsockname(fd, out, bytes)) ? -errno : 0;
}

static int kernel_set_option(struct sluice_backend *be, int fd, int level, int name,
                             const void *value, socklen_t bytes)
{
    (void)be;
    return setsockopt(fd, level, name, value, bytes) ? -errno : 0;
}

static int kernel_shutdown(struct sluice_backend *be, int fd, int how)
{
    (void)be;
    return shutdown(fd, how) ? -errno : 0;
}

static int kernel_reset_on_close(struct sluice_backend *be, int fd)
{
    (void)be;
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) ? -errno : 0;
}

static void kernel_close(struct sluice_backend *be, int fd)
{
    (void)be;
    close(fd);
}

const struct sluice_socket_ops sluice_kernel_sockets = {
    .open = kernel_open,
    .listen = kernel_listen,
    .address = kernel_address,
    .set_option = kernel_set_option,
    .shutdown = kernel_shutdown,
    .reset_on_close = kernel_reset_on_close,
    .close = kernel_close,
    .was_reset = sluice_tcp_was_reset,
    .acked_bytes = sluice_tcp_acked_bytes,
    .stamp = sluice_tcp_stamp,
    .segments = sluice_tcp_segments,
    .send_record = sluice_tcp_send_record,
    .recv_record = sluice_tcp_recv_record,
    .datagrams = &sluice_kernel_datagrams,
};
