/*
 * Socket calls that never wait, for every backend that runs on the kernel.
 */
#include "backends/tcp.h"
#include "base/system.h"

#include <errno.h>
#include <unistd.h>

static int kernel_open(struct sluice_backend *be, int family)
{
    (void)be;
    return sluice_system_socket(family, SOCK_STREAM, false);
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
};
