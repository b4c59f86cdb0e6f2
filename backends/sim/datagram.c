/*
 * Datagrams of the simulated network: whole, in order, over IPv4. One is lost where the receiver's
 * buffer is full, or by seed; that nobody is there is heard by a connected sender.
 */
#include "backends/sim/net.h"
#include "base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum {
    BYTES_MAX = 65507,       /* IPv4: 65535 less two headers */
    PORT_FIRST = 49152,      /* RFC 6335, 6 */
    ROOM_BYTES = 200 * 1000, /* of a receiver, as Linux has it; SO_RCVBUF */
    COSTS_BYTES = 256,       /* what each takes of it besides */
};

struct parcel {
    struct parcel *next;
    struct sockaddr_in from;
    uint32_t dropped; /* before it came */
    size_t bytes;
    uint8_t data[];
};

struct net_datagrams {
    struct sockaddr_in local, peer; /* sin_family 0: none */
    struct parcel *first, **end;
    size_t used, room; /* bytes */
    uint32_t dropped;
    int error; /* errno, told once */
};

static struct net_datagrams *datagrams_of(struct sluice_backend *be, int fd)
{
    const struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    return end ? end->datagrams : NULL;
}

static bool is_any(const struct sockaddr_in *a)
{
    return a->sin_addr.s_addr == htonl(INADDR_ANY);
}

/* Where it goes to, or comes from. */
static bool is_at(const struct sockaddr_in *at, const struct sockaddr_in *addr)
{
    return at->sin_family && at->sin_port == addr->sin_port &&
           (is_any(at) || at->sin_addr.s_addr == addr->sin_addr.s_addr);
}

static bool is_taken(const struct net *net, const struct sockaddr_in *addr)
{
    for (int i = 0; i < NET_FDS_MAX; i++) {
        const struct net_datagrams *d = net->ends[i] ? net->ends[i]->datagrams : NULL;
        if (d && (is_at(&d->local, addr) || (is_any(addr) && is_at(addr, &d->local))))
            return true;
    }
    return false;
}

static int take_error(struct net_datagrams *d)
{
    int error = d->error;
    d->error = 0;
    return -error;
}

/* ---- the calls ---- */

static int sim_open(struct sluice_backend *be, int family)
{
    if (family != AF_INET)
        return -EAFNOSUPPORT;
    struct net_datagrams *d = calloc(1, sizeof(*d));
    SLUICE_CHECK(d != NULL); /* a test's backend may say so */
    int fd = sluice_net_open(sluice_net_of(be), family);
    if (fd < 0) {
        free(d);
        return fd;
    }
    d->end = &d->first;
    d->room = ROOM_BYTES;
    struct net_end *end = sluice_net_end(sluice_net_of(be), fd);
    end->state = NET_DATAGRAMS;
    end->datagrams = d;
    return fd;
}

static int bind_to(const struct net *net, struct net_datagrams *d, struct sockaddr_in at)
{
    bool is_free = !is_taken(net, &at);
    if (at.sin_port == 0) {
        for (unsigned port = PORT_FIRST; port < 65536 && (at.sin_port == 0 || !is_free); port++) {
            at.sin_port = htons((uint16_t)port);
            is_free = !is_taken(net, &at);
        }
    }
    if (!is_free)
        return -EADDRINUSE;
    d->local = at;
    return 0;
}

static int sim_bind(struct sluice_backend *be, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    struct net_datagrams *d = datagrams_of(be, fd);
    struct sockaddr_in at;
    if (!d)
        return -EBADF;
    if (addr->sa_family != AF_INET || bytes < sizeof(at) || d->local.sin_family)
        return -EINVAL;
    memcpy(&at, addr, sizeof(at));
    return bind_to(sluice_net_of(be), d, at);
}

/* A sender has an address, whether it asked for one or not. */
static int bind_any(struct sluice_backend *be, struct net_datagrams *d)
{
    const struct sockaddr_in any = {.sin_family = AF_INET};
    return d->local.sin_family ? 0 : bind_to(sluice_net_of(be), d, any);
}

static int sim_connect(struct sluice_backend *be, int fd, const struct sockaddr *addr,
                       socklen_t bytes)
{
    struct net_datagrams *d = datagrams_of(be, fd);
    if (!d)
        return -EBADF;
    if (addr->sa_family != AF_INET || bytes < sizeof(d->peer))
        return -EINVAL;
    memcpy(&d->peer, addr, sizeof(d->peer));
    return bind_any(be, d);
}

static struct net_end *receiver_of(const struct net *net, const struct sockaddr_in *from,
                                   const struct sockaddr_in *to)
{
    for (int i = 0; i < NET_FDS_MAX; i++) {
        const struct net_datagrams *d = net->ends[i] ? net->ends[i]->datagrams : NULL;
        if (d && is_at(&d->local, to) && (!d->peer.sin_family || is_at(&d->peer, from)))
            return net->ends[i];
    }
    return NULL;
}

static void deliver(struct net_end *end, const struct sockaddr_in *from, const void *data,
                    size_t bytes)
{
    struct net_datagrams *d = end->datagrams;
    if (d->used + bytes + COSTS_BYTES > d->room) {
        d->dropped++;
        return;
    }
    struct parcel *parcel = malloc(sizeof(*parcel) + bytes);
    SLUICE_CHECK(parcel != NULL);
    *parcel = (struct parcel){.from = *from, .dropped = d->dropped, .bytes = bytes};
    memcpy(parcel->data, data, bytes);
    *d->end = parcel;
    d->end = &parcel->next;
    d->used += bytes + COSTS_BYTES;
    end->changes++;
}

static int sim_send(struct sluice_backend *be, int fd, const void *data, size_t bytes,
                    const struct sockaddr *to, socklen_t to_bytes)
{
    struct net_datagrams *d = datagrams_of(be, fd);
    struct sockaddr_in target, from;
    if (!d)
        return -EBADF;
    if (d->error)
        return take_error(d);
    if (!to && !d->peer.sin_family)
        return -EDESTADDRREQ;
    if (to && (to->sa_family != AF_INET || to_bytes < sizeof(target)))
        return -EINVAL;
    if (bytes > BYTES_MAX)
        return -EMSGSIZE;
    int err = bind_any(be, d);
    if (err)
        return err;
    memcpy(&target, to ? to : (const struct sockaddr *)&d->peer, sizeof(target));
    from = d->local;
    if (is_any(&from))
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct net_end *receiver = receiver_of(sluice_net_of(be), &from, &target);
    if (receiver && !sluice_net_loses(be)) {
        deliver(receiver, &from, data, bytes);
    } else if (!receiver && d->peer.sin_family) { /* ICMP: RFC 1122, 4.1.3.3 */
        d->error = ECONNREFUSED;
        sluice_net_end(sluice_net_of(be), fd)->changes++;
    }
    return 0;
}

static ssize_t sim_recv(struct sluice_backend *be, int fd, void *to, size_t room,
                        struct sluice_datagram *about)
{
    struct net_datagrams *d = datagrams_of(be, fd);
    if (!d)
        return -EBADF;
    if (d->error)
        return take_error(d);
    struct parcel *parcel = d->first;
    if (!parcel)
        return -EAGAIN;
    size_t bytes = parcel->bytes < room ? parcel->bytes : room;
    memcpy(to, parcel->data, bytes);
    memcpy(&about->from, &parcel->from, sizeof(parcel->from));
    about->from_bytes = sizeof(parcel->from);
    about->dropped = parcel->dropped;
    d->used -= parcel->bytes + COSTS_BYTES;
    d->first = parcel->next;
    if (!d->first)
        d->end = &d->first;
    free(parcel);
    return (ssize_t)bytes;
}

/* ---- what the network asks ---- */

bool sluice_net_datagrams_ready(const struct net_datagrams *d, bool *has_error)
{
    *has_error = d->error != 0;
    return d->first != NULL;
}

int sluice_net_datagrams_address(const struct net_datagrams *d, bool of_peer,
                                 struct sockaddr_storage *out)
{
    const struct sockaddr_in *at = of_peer ? &d->peer : &d->local;
    if (of_peer && !at->sin_family)
        return -ENOTCONN;
    memcpy(out, at, sizeof(*at));
    return 0;
}

/* Its groups are the kernel's business; here there are none. */
int sluice_net_datagrams_option(struct net_datagrams *d, int level, int name, const void *value)
{
    int bytes;
    if (level != SOL_SOCKET)
        return -ENOPROTOOPT;
    if (name != SO_RCVBUF)
        return 0;
    memcpy(&bytes, value, sizeof(bytes));
    d->room = (size_t)bytes;
    return 0;
}

void sluice_net_datagrams_free(struct net_datagrams *d)
{
    while (d && d->first) {
        struct parcel *parcel = d->first;
        d->first = parcel->next;
        free(parcel);
    }
    free(d);
}

const struct sluice_datagram_ops sluice_sim_datagrams = {
    .open = sim_open,
    .bind = sim_bind,
    .connect = sim_connect,
    .send = sim_send,
    .recv = sim_recv,
};
