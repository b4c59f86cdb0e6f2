/*
 * Socket calls that never wait, for every backend that runs on the kernel.
 */
#include "backends/backend.h"

#include <errno.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define STATE_CLOSE 7 /* TCP_CLOSE of include/net/tcp_states.h, ABI of TCP_INFO */

static int kernel_open(struct sluice_backend *be, int family)
{
    (void)be;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
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

static bool tcp_info(int fd, struct tcp_info *info)
{
    socklen_t bytes = sizeof(*info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &bytes) == 0 &&
           bytes >= offsetof(struct tcp_info, tcpi_delivery_rate);
}

/* A FIN alone leaves CLOSE_WAIT. CLOSE, with our side open, comes of a RST only. */
static bool kernel_was_reset(struct sluice_backend *be, int fd)
{
    struct tcp_info info = {0};
    (void)be;
    return tcp_info(fd, &info) && info.tcpi_state == STATE_CLOSE;
}

static uint64_t kernel_acked_bytes(struct sluice_backend *be, int fd)
{
    (void)be;
    struct tcp_info info = {0};
    if (!tcp_info(fd, &info))
        return UINT64_MAX;
    return info.tcpi_bytes_acked - (info.tcpi_bytes_acked > 0); /* our SYN counts as one */
}

static int kernel_stamp(struct sluice_backend *be, int fd, bool hardware)
{
    (void)be;
    return sluice_stamp_enable(fd, hardware);
}

static bool kernel_segments(struct sluice_backend *be, int fd, uint64_t *bytes, uint32_t *segments)
{
    struct tcp_info info = {0};
    (void)be;
    bool known = tcp_info(fd, &info);
    *bytes = info.tcpi_bytes_received;
    *segments = info.tcpi_data_segs_in;
    return known;
}

/* ---- kernel TLS: records by their type ---- */

struct typed_record {
    struct iovec iov;
    struct msghdr msg;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint8_t))];
};

static void set_up(struct typed_record *r, void *data, size_t bytes)
{
    memset(r, 0, sizeof(*r));
    r->iov = (struct iovec){.iov_base = data, .iov_len = bytes};
    r->msg = (struct msghdr){.msg_iov = &r->iov,
                             .msg_iovlen = 1,
                             .msg_control = r->control,
                             .msg_controllen = sizeof(r->control)};
}

static ssize_t kernel_send_record(struct sluice_backend *be, int fd, unsigned type,
                                  const void *data, size_t bytes)
{
    struct typed_record r;
    (void)be;
    set_up(&r, (void *)(uintptr_t)data, bytes);
    struct cmsghdr *c = CMSG_FIRSTHDR(&r.msg);
    *c = (struct cmsghdr){.cmsg_level = SOL_TLS,
                          .cmsg_type = TLS_SET_RECORD_TYPE,
                          .cmsg_len = CMSG_LEN(sizeof(uint8_t))};
    *CMSG_DATA(c) = (uint8_t)type;
    ssize_t n = sendmsg(fd, &r.msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

static ssize_t kernel_recv_record(struct sluice_backend *be, int fd, unsigned *type, void *buf,
                                  size_t bytes)
{
    struct typed_record r;
    (void)be;
    set_up(&r, buf, bytes);
    ssize_t n = recvmsg(fd, &r.msg, MSG_DONTWAIT);
    const struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&r.msg);
    bool typed = c && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE;
    *type = typed ? *CMSG_DATA(c) : 0;
    return n < 0 ? -errno : n;
}

const struct sluice_socket_ops sluice_kernel_sockets = {
    .open = kernel_open,
    .set_option = kernel_set_option,
    .shutdown = kernel_shutdown,
    .reset_on_close = kernel_reset_on_close,
    .close = kernel_close,
    .was_reset = kernel_was_reset,
    .acked_bytes = kernel_acked_bytes,
    .stamp = kernel_stamp,
    .segments = kernel_segments,
    .send_record = kernel_send_record,
    .recv_record = kernel_recv_record,
};
