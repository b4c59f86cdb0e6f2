/*
 * The socket calls of the simulation: struct sluice_socket_ops over the network of net.c. The ops
 * are sim.c's.
 */
#include "backends/sim/net.h"
#include "base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

static int sim_open(struct sluice_backend *be, int family)
{
    return sluice_net_open(sluice_net_of(be), family);
}

/* Port 0 is one of those that nobody has. */
static int sim_listen(struct sluice_backend *be, const struct sockaddr *addr, socklen_t bytes,
                      int backlog, bool reuse_port)
{
    struct sockaddr_in at;
    (void)backlog, (void)reuse_port;
    if (addr->sa_family != AF_INET || bytes < sizeof(at))
        return -EAFNOSUPPORT;
    memcpy(&at, addr, sizeof(at));
    if (at.sin_port != 0)
        return sluice_sim_listen(be, addr, bytes, SLUICE_SIM_OPEN);
    int fd = -EADDRINUSE;
    for (unsigned port = 49152; port < 65536 && fd == -EADDRINUSE; port++) { /* RFC 6335 6 */
        at.sin_port = htons((uint16_t)port);
        fd = sluice_sim_listen(be, (struct sockaddr *)&at, sizeof(at), SLUICE_SIM_OPEN);
    }
    return fd;
}

/* Ends of connections have no address here, only listeners and those of datagrams do. */
static int sim_address(struct sluice_backend *be, int fd, bool of_peer, struct sockaddr *out,
                       socklen_t *bytes)
{
    const struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    struct sockaddr_storage at = {.ss_family = AF_INET};
    int err = end && (end->datagrams || (end->state == NET_LISTENING && !of_peer)) ? 0 : -ENOTCONN;
    if (!err && end->datagrams)
        err = sluice_net_datagrams_address(end->datagrams, of_peer, &at);
    else if (!err)
        at = end->addr;
    if (err)
        return err;
    socklen_t whole =
        at.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memcpy(out, &at, *bytes < whole ? *bytes : whole);
    *bytes = whole;
    return 0;
}

/* Like a kernel without the tls module. */
static int sim_set_option(struct sluice_backend *be, int fd, int level, int name, const void *value,
                          socklen_t bytes)
{
    const struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    (void)bytes;
    if (level == IPPROTO_TCP && name == TCP_ULP)
        return -ENOENT;
    if (end && end->datagrams)
        return sluice_net_datagrams_option(end->datagrams, level, name, value);
    return end ? 0 : -EBADF;
}

static ssize_t sim_send_record(struct sluice_backend *be, int fd, unsigned type, const void *data,
                               size_t bytes)
{
    (void)be, (void)fd, (void)type, (void)data, (void)bytes;
    return -ENOTSUP;
}

static ssize_t sim_recv_record(struct sluice_backend *be, int fd, unsigned *type, void *buf,
                               size_t bytes)
{
    (void)be, (void)fd, (void)type, (void)buf, (void)bytes;
    return -ENOTSUP;
}

static int sim_shutdown(struct sluice_backend *be, int fd, int how)
{
    struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    return end ? sluice_net_shutdown(end, how) : -EBADF;
}

static int sim_reset_on_close(struct sluice_backend *be, int fd)
{
    struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    if (!end)
        return -EBADF;
    end->reset_on_close = true;
    return 0;
}

static void sim_close(struct sluice_backend *be, int fd)
{
    struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    SLUICE_CHECK(end != NULL); /* closed twice, or never open */
    sluice_net_close(sluice_net_of(be), end);
}

static bool sim_was_reset(struct sluice_backend *be, int fd)
{
    const struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    return end && end->reset;
}

static int sim_stamp(struct sluice_backend *be, int fd, bool hardware)
{
    (void)be, (void)fd, (void)hardware;
    return -ENOTSUP; /* its packets have no time */
}

static bool sim_segments(struct sluice_backend *be, int fd, uint64_t *bytes, uint32_t *segments)
{
    (void)be, (void)fd;
    *bytes = *segments = 0;
    return false;
}

static uint64_t sim_acked_bytes(struct sluice_backend *be, int fd)
{
    const struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    return end ? sluice_net_acked_bytes(end) : UINT64_MAX;
}

const struct sluice_socket_ops sluice_sim_sockets = {
    .open = sim_open,
    .listen = sim_listen,
    .address = sim_address,
    .set_option = sim_set_option,
    .shutdown = sim_shutdown,
    .reset_on_close = sim_reset_on_close,
    .close = sim_close,
    .was_reset = sim_was_reset,
    .acked_bytes = sim_acked_bytes,
    .stamp = sim_stamp,
    .segments = sim_segments,
    .send_record = sim_send_record,
    .recv_record = sim_recv_record,
    .datagrams = &sluice_sim_datagrams,
};
