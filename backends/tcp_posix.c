/*
 * What can be known of a TCP connection without Linux: little. No kernel TLS, no time stamps.
 */
#include "backends/tcp.h"

#include <errno.h>

/* It has no peer any more. */
bool sluice_tcp_was_reset(struct sluice_backend *be, int fd)
{
    struct sockaddr_storage addr;
    socklen_t bytes = sizeof(addr);
    (void)be;
    return getpeername(fd, (struct sockaddr *)&addr, &bytes) != 0 &&
           (errno == ENOTCONN || errno == EINVAL);
}

uint64_t sluice_tcp_acked_bytes(struct sluice_backend *be, int fd)
{
    (void)be, (void)fd;
    return UINT64_MAX;
}

int sluice_tcp_stamp(struct sluice_backend *be, int fd, bool hardware)
{
    (void)be, (void)fd, (void)hardware;
    return -ENOTSUP;
}

bool sluice_tcp_segments(struct sluice_backend *be, int fd, uint64_t *bytes, uint32_t *segments)
{
    (void)be, (void)fd;
    *bytes = *segments = 0;
    return false;
}

ssize_t sluice_tcp_send_record(struct sluice_backend *be, int fd, unsigned type, const void *data,
                               size_t bytes)
{
    (void)be, (void)fd, (void)type, (void)data, (void)bytes;
    return -ENOTSUP;
}

ssize_t sluice_tcp_recv_record(struct sluice_backend *be, int fd, unsigned *type, void *buf,
                               size_t bytes)
{
    (void)be, (void)fd, (void)type, (void)buf, (void)bytes;
    return -ENOTSUP;
}
