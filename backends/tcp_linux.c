/*
 * What Linux' TCP says of a connection, and the records of its kernel TLS.
 */
#include "backends/tcp.h"

#include <errno.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <string.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define STATE_CLOSE 7 /* TCP_CLOSE of include/net/tcp_states.h, ABI of TCP_INFO */

static bool tcp_info(int fd, struct tcp_info *info)
{
    socklen_t bytes = sizeof(*info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &bytes) == 0 &&
           bytes >= offsetof(struct tcp_info, tcpi_delivery_rate);
}

/* A FIN alone leaves CLOSE_WAIT. CLOSE, with our side open, comes of a RST only. */
bool sluice_tcp_was_reset(struct sluice_backend *be, int fd)
{
    struct tcp_info info = {0};
    (void)be;
    return tcp_info(fd, &info) && info.tcpi_state == STATE_CLOSE;
}

uint64_t sluice_tcp_acked_bytes(struct sluice_backend *be, int fd)
{
    (void)be;
    struct tcp_info info = {0};
    if (!tcp_info(fd, &info))
        return UINT64_MAX;
    return info.tcpi_bytes_acked - (info.tcpi_bytes_acked > 0); /* our SYN counts as one */
}

int sluice_tcp_stamp(struct sluice_backend *be, int fd, bool hardware)
{
    (void)be;
    return sluice_stamp_enable(fd, hardware);
}

bool sluice_tcp_segments(struct sluice_backend *be, int fd, uint64_t *bytes, uint32_t *segments)
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

/* The kernel's verdict on a record that it received stands as the socket's error, too: taken here,
 * or the alert about it would be told it and not leave. 0, or another error. */
static int take_verdict(int fd)
{
    int error = 0;
    socklen_t bytes = sizeof(error);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
    return error == EBADMSG ? 0 : -error;
}

ssize_t sluice_tcp_send_record(struct sluice_backend *be, int fd, unsigned type, const void *data,
                               size_t bytes)
{
    struct typed_record r;
    (void)be;
    int err = take_verdict(fd);
    if (err)
        return err;
    set_up(&r, (void *)(uintptr_t)data, bytes);
    struct cmsghdr *c = CMSG_FIRSTHDR(&r.msg);
    *c = (struct cmsghdr){.cmsg_level = SOL_TLS,
                          .cmsg_type = TLS_SET_RECORD_TYPE,
                          .cmsg_len = CMSG_LEN(sizeof(uint8_t))};
    *CMSG_DATA(c) = (uint8_t)type;
    ssize_t n = sendmsg(fd, &r.msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

ssize_t sluice_tcp_recv_record(struct sluice_backend *be, int fd, unsigned *type, void *buf,
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
