/*
 * Datagrams: public (installs as sluice/udp.h). Sockets of one loop, connected or not, and the
 * multicast groups they belong to.
 */
#ifndef SLUICE_UDP_H
#define SLUICE_UDP_H

#include "channel.h"

#include <stdbool.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sluice_loop;
struct sluice_udp;

struct sluice_udp_config {
    const struct sockaddr
        *local; /* to bind to; borrowed for the call. Its family is the socket's */
    socklen_t local_bytes;
    bool reuse_address;    /* several sockets on one port: receivers of multicast */
    uint32_t rcvbuf_bytes; /* SO_RCVBUF, 0: the system's */
    uint32_t sndbuf_bytes; /* SO_SNDBUF, 0: the system's */
};

/** Called by the loop; each may destroy the socket, and any may be NULL. */
struct sluice_udp_events {
    /** One datagram, whole and in the order of arrival. Data and address are borrowed for the call.
     */
    void (*on_datagram)(struct sluice_udp *u, const void *data, size_t bytes,
                        const struct sockaddr *from, socklen_t from_bytes, void *user);
    /** What the kernel had to say instead, as a negative errno: -ECONNREFUSED nobody listens where
     *  a connected socket sent to. The socket goes on. */
    void (*on_error)(struct sluice_udp *u, int error, void *user);
};

/**
 * Open a socket and receive. It keeps the loop running until it is destroyed.
 *
 * @param out  receives the socket, NULL on failure.
 * @return 0, or -EADDRINUSE, -EADDRNOTAVAIL, -EACCES as bind(2); -EAGAIN the loop has no room for
 * one more operation; -ERANGE the descriptor is too high for select; -ECHILD a child of fork; other
 * negated errno values.
 */
SLUICE_API int sluice_udp_create(struct sluice_udp **out, struct sluice_loop *loop,
                                 const struct sluice_udp_config *cfg,
                                 const struct sluice_udp_events *events, void *user);

/** Close. No callback comes any more. NULL is fine. Thread: the loop's. */
SLUICE_API void sluice_udp_destroy(struct sluice_udp *u);

/** From now on only this peer's datagrams are received, and sends need no address. 0 or negative
 *  errno. */
SLUICE_API int sluice_udp_connect(struct sluice_udp *u, const struct sockaddr *peer,
                                  socklen_t peer_bytes);

/**
 * Send one datagram now, whole or not at all. Copies it, never waits.
 *
 * @param to  where to; NULL on a connected socket. Borrowed for the call.
 * @return 0, or -EAGAIN the socket's send buffer is full; -EMSGSIZE too long for one datagram;
 * -EDESTADDRREQ it is not connected; other negated errno values.
 */
SLUICE_API int sluice_udp_send(struct sluice_udp *u, const void *data, size_t bytes,
                               const struct sockaddr *to, socklen_t to_bytes);

/**
 * Join a multicast group, or leave it.
 *
 * @param group      its address, of the socket's family; the port says nothing.
 * @param source     take only what this one sends there (RFC 4607); NULL: everybody.
 * @param interface  index of the interface, see if_nametoindex(3); 0: as the routes say.
 * @return 0, or -ENODEV no such interface; -EADDRINUSE a member already; -EADDRNOTAVAIL not a
 * member; other negated errno values.
 */
SLUICE_API int sluice_udp_join(struct sluice_udp *u, const struct sockaddr *group,
                               const struct sockaddr *source, unsigned interface);
SLUICE_API int sluice_udp_leave(struct sluice_udp *u, const struct sockaddr *group,
                                const struct sockaddr *source, unsigned interface);

/** The address it is bound to: 0 or negative errno. */
SLUICE_API int sluice_udp_local(const struct sluice_udp *u, struct sockaddr_storage *out);

/** Datagrams the kernel threw away because the receive buffer was full, as it said with the newest
 *  one received; 0 where it does not say. */
SLUICE_API uint64_t sluice_udp_dropped(const struct sluice_udp *u);

#ifdef __cplusplus
}
#endif
#endif
