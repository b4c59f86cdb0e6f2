/*
 * What a test does to the simulated network from outside: time, faults, listeners, and the far ends
 * of connections, driven synchronously. The ops themselves go through backends/backend.h.
 */
#ifndef SLUICE_SIM_H
#define SLUICE_SIM_H

#include "backends/backend.h"

#include <sys/types.h>

/* Sim descriptors start here, so that a real one (an eventfd under POLL) is never taken for one. */
#define SLUICE_SIM_FD_FIRST 0x1000000

enum sluice_sim_listen_mode {
    SLUICE_SIM_OPEN,
    SLUICE_SIM_BLACK_HOLE, /* a CONNECT stays until it is cancelled */
    SLUICE_SIM_UNREACHABLE /* a CONNECT ends with -ENETUNREACH */
};

/** How often things go wrong, in parts per million of the chances they have. */
struct sluice_sim_faults {
    uint32_t short_ppm;       /* a RECV or SEND moves fewer bytes than it could */
    uint32_t delay_ppm;       /* a completion appears up to delay_max_ns late */
    uint32_t reset_ppm;       /* the connection breaks under a RECV or SEND */
    uint32_t enobufs_ppm;     /* a MULTI RECV ends with -ENOBUFS before its credit is used up */
    uint32_t lost_more_ppm;   /* a MULTI op ends without MORE although its result is good */
    uint32_t lose_ppm;        /* a datagram does not arrive */
    uint32_t cancel_race_ppm; /* a cancel comes too late if the op has something to report */
    uint32_t delay_max_ns;
    uint32_t turn_ns; /* what one poll costs, even one that does not wait */
};

/* short, delay and the races of MULTI and cancel on; resets off. */
extern const struct sluice_sim_faults sluice_sim_faults_default;
extern const struct sluice_sim_faults sluice_sim_faults_none;

void sluice_sim_set_faults(struct sluice_backend *be, const struct sluice_sim_faults *faults);
void sluice_sim_advance(struct sluice_backend *be, uint64_t ns);

/** Let POLL ops on a descriptor that is not the sim's (an eventfd) complete with these events; with
 * no such op in flight, the next one does. */
void sluice_sim_wake(struct sluice_backend *be, int fd, uint32_t events);

/** Listener's descriptor (ACCEPT takes it too; close it with sockets->close), or -EADDRINUSE. */
int sluice_sim_listen(struct sluice_backend *be, const struct sockaddr *addr, socklen_t addr_bytes,
                      enum sluice_sim_listen_mode mode);

/* The far ends. A peer is a descriptor like any other, moved by hand, without faults. */

/** Descriptor of the next connection, or -EAGAIN. */
int sluice_sim_accept(struct sluice_backend *be, int listener);
/** A new connection into the listener: the dialling end's descriptor, or -EAGAIN. */
int sluice_sim_dial(struct sluice_backend *be, int listener);
/** Bytes taken (as many as the other end's window has room for), -EAGAIN, -EPIPE, -ECONNRESET. */
ssize_t sluice_sim_peer_send(struct sluice_backend *be, int peer, const void *from, size_t bytes);
/** Bytes, 0 at the end of the stream, -EAGAIN, -ECONNRESET. */
ssize_t sluice_sim_peer_recv(struct sluice_backend *be, int peer, void *to, size_t bytes);
void sluice_sim_peer_shutdown(struct sluice_backend *be, int peer); /* FIN; may still receive */
void sluice_sim_peer_reset(struct sluice_backend *be, int peer);    /* RST; descriptor is closed */
bool sluice_sim_peer_saw_eof(struct sluice_backend *be, int peer);

/** How much this end holds before its sender must wait; before bytes arrive. Default 64 KiB. */
void sluice_sim_set_window(struct sluice_backend *be, int fd, size_t bytes);
/** The same for every connection made from now on. */
void sluice_sim_set_default_window(struct sluice_backend *be, size_t bytes);

#endif
