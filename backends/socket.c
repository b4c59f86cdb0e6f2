/*
 * Socket calls that never wait, for every backend that runs on the kernel.
 */
#include "backends/backend.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <unistd.h>

#define STATE_CLOSE 7 /* TCP_CLOSE of include/net/tcp_states.h, ABI of TCP_INFO */

static int kernel_open(struct sluice_backend *be, int family)
{
    (void)be;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int kernel_set_option(struct sluice_backend *be, int fd, int level, int name, int value)
{
    (void)be;
    return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
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
           bytes >= offsetof(struct tcp_info, tcpi_bytes_received);
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

const struct sluice_socket_ops sluice_kernel_sockets = {
    .open = kernel_open,
    .set_option = kernel_set_option,
    .shutdown = kernel_shutdown,
    .reset_on_close = kernel_reset_on_close,
    .close = kernel_close,
    .was_reset = kernel_was_reset,
    .acked_bytes = kernel_acked_bytes,
};
