/*
 * The simulated network as tests of transports want it: where a peer listens, and real sockets
 * (those of a channel's clients), which it does not see by itself.
 */
#ifndef SLUICE_TESTS_SIM_NET_H
#define SLUICE_TESTS_SIM_NET_H

#include "backends/sim/sim.h"
#include "rings/engine.h"

#include <netinet/in.h>
#include <poll.h>

/* At tcp://10.0.0.HOST:PORT; as sluice_sim_listen(). */
static inline int sim_listen(struct sluice_backend *be, uint8_t host, uint16_t port,
                             enum sluice_sim_listen_mode mode)
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_port = htons(port),
                                     .sin_addr.s_addr = htonl(0x0a000000u + host)};
    return sluice_sim_listen(be, (const struct sockaddr *)&addr, sizeof(addr), mode);
}

/* Clients that rang or left: to be heard in the next turns. */
static inline void sim_show_clients(struct sluice_backend *be, const struct sluice_channel *ch)
{
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++) {
        struct pollfd pfd = {.fd = ch->links[i].fd, .events = POLLIN};
        if (ch->links[i].state != LINK_FREE && poll(&pfd, 1, 0) > 0)
            sluice_sim_wake(be, pfd.fd, POLLIN);
    }
}

#endif
