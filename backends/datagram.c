/*
 * Datagrams on the kernel: calls that never wait, for every backend that runs on it.
 */
#include "backends/backend.h"
#include "base/system.h"

#include <errno.h>
#include <string.h>

static int kernel_open(struct sluice_backend *be, int family)
{
    (void)be;
    int fd = sluice_system_socket(family, SOCK_DGRAM, true);
#ifdef SO_RXQ_OVFL
    const int yes = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &yes, sizeof(yes));
#endif
    return fd;
}

static int kernel_bind(struct sluice_backend *be, int fd, const struct sockaddr *addr,
                       socklen_t bytes)
{
    (void)be;
    return bind(fd, addr, bytes) ? -errno : 0;
}

static int kernel_connect(struct sluice_backend *be, int fd, const struct sockaddr *addr,
                          socklen_t bytes)
{
    (void)be;
    return connect(fd, addr, bytes) ? -errno : 0;
}

static int kernel_send(struct sluice_backend *be, int fd, const void *data, size_t bytes,
                       const struct sockaddr *to, socklen_t to_bytes)
{
    (void)be;
    ssize_t n = sendto(fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL, to, to ? to_bytes : 0);
    return n < 0 ? -errno : 0;
}

/* Linux says nothing before it threw one away. */
static void note_dropped(struct msghdr *msg, struct sluice_datagram *about)
{
    about->dropped = 0;
#ifdef SO_RXQ_OVFL
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
            memcpy(&about->dropped, CMSG_DATA(c), sizeof(about->dropped));
#else
    (void)msg;
#endif
}

static ssize_t kernel_recv(struct sluice_backend *be, int fd, void *to, size_t room,
                           struct sluice_datagram *about)
{
    _Alignas(struct cmsghdr) uint8_t control[64];
    struct iovec iov = {.iov_base = to, .iov_len = room};
    struct msghdr msg = {.msg_name = &about->from,
                         .msg_namelen = sizeof(about->from),
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    (void)be;
    ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);
    if (n < 0)
        return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
    about->from_bytes = msg.msg_namelen;
    note_dropped(&msg, about);
    return n;
}

const struct sluice_datagram_ops sluice_kernel_datagrams = {
    .open = kernel_open,
    .bind = kernel_bind,
    .connect = kernel_connect,
    .send = kernel_send,
    .recv = kernel_recv,
};
