/*
 * The other side of the conformance cases on the simulation: its own network, driven through sim.h.
 */
#include "backends/sim/sim.h"
#include "tests/conformance/cases.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

/* Of five seeds three have the default faults, one has none, one has many. */
static void sim_start(struct fixture *f, uint64_t seed)
{
    const struct sluice_sim_faults many = {.short_ppm = 900 * 1000,
                                           .delay_ppm = 800 * 1000,
                                           .enobufs_ppm = 300 * 1000,
                                           .lost_more_ppm = 300 * 1000,
                                           .cancel_race_ppm = 700 * 1000,
                                           .delay_max_ns = 200 * 1000,
                                           .turn_ns = 1000};
    if (seed % 5 == 3)
        sluice_sim_set_faults(f->be, &sluice_sim_faults_none);
    if (seed % 5 == 4)
        sluice_sim_set_faults(f->be, &many);
}

static void next_address(struct fixture *f, int family, struct address *addr)
{
    in_port_t port = htons((in_port_t)(1000 + f->dead_ports++ % 60000));
    memset(addr, 0, sizeof(*addr));
    addr->storage.ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&addr->storage;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = port;
        addr->bytes = sizeof(*in);
        return;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->storage;
    in6->sin6_addr = in6addr_loopback;
    in6->sin6_port = port;
    addr->bytes = sizeof(*in6);
}

static int listen_as(struct fixture *f, int family, struct address *addr,
                     enum sluice_sim_listen_mode mode)
{
    next_address(f, family, addr);
    return sluice_sim_listen(f->be, (struct sockaddr *)&addr->storage, addr->bytes, mode);
}

static int sim_listen(struct fixture *f, int family, struct address *addr)
{
    return listen_as(f, family, addr, SLUICE_SIM_OPEN);
}

static void sim_close(struct fixture *f, int fd)
{
    f->be->ops->sockets->close(f->be, fd);
}

static void sim_dead_address(struct fixture *f, struct address *addr)
{
    next_address(f, AF_INET, addr);
}

static void sim_unreachable_address(struct fixture *f, struct address *addr)
{
    EXPECT(listen_as(f, AF_INET, addr, SLUICE_SIM_UNREACHABLE) >= 0);
}

static int sim_black_hole(struct fixture *f, struct address *addr)
{
    return listen_as(f, AF_INET, addr, SLUICE_SIM_BLACK_HOLE);
}

static int sim_accept(struct fixture *f, int listener)
{
    return sluice_sim_accept(f->be, listener);
}

static int sim_dial(struct fixture *f, int listener)
{
    return sluice_sim_dial(f->be, listener);
}

static ssize_t sim_send(struct fixture *f, int peer, const void *from, size_t bytes)
{
    return sluice_sim_peer_send(f->be, peer, from, bytes);
}

static ssize_t sim_recv(struct fixture *f, int peer, void *to, size_t bytes)
{
    return sluice_sim_peer_recv(f->be, peer, to, bytes);
}

static void sim_fin(struct fixture *f, int peer)
{
    sluice_sim_peer_shutdown(f->be, peer);
}

static void sim_reset(struct fixture *f, int peer)
{
    sluice_sim_peer_reset(f->be, peer);
}

const struct fixture_ops fixture_sim = {
    .virtual_time = true,
    .start = sim_start,
    .listen = sim_listen,
    .close_listener = sim_close,
    .dead_address = sim_dead_address,
    .unreachable_address = sim_unreachable_address,
    .black_hole = sim_black_hole,
    .accept = sim_accept,
    .dial = sim_dial,
    .send = sim_send,
    .recv = sim_recv,
    .fin = sim_fin,
    .reset = sim_reset,
    .close = sim_close,
};
