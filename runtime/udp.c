/*
 * Datagrams: a watch says when there are some, then they are received one after the other until
 * there are none. Which groups a socket belongs to is the kernel's.
 */
#include "udp.h"
#include "loop.h"
#include "base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define DATAGRAM_MAX 65536u
#define READS_MAX    64 /* in a turn; the op is armed again, and says at once that there are more */

struct sluice_udp {
    struct sluice_loop *loop;
    struct sluice_watch watch; /* one shot: while there is something left it says so again */
    struct sluice_udp_events events;
    void *user;
    int fd;
    uint32_t dropped_last; /* the kernel counts in 32 bits */
    uint64_t dropped;
    uint8_t data[DATAGRAM_MAX];
};

static const struct sluice_socket_ops *sockets_of(const struct sluice_udp *u)
{
    return sluice_loop_sockets(u->loop);
}

static void release(struct sluice_udp *u)
{
    if (u->fd >= 0)
        sockets_of(u)->close(u->loop->be, u->fd);
    free(u);
}

static void unwatched(struct sluice_watch *watch)
{
    release(SLUICE_CONTAINER_OF(watch, struct sluice_udp, watch));
}

/* False: there are no more. */
static bool read_one(struct sluice_udp *u)
{
    struct sluice_datagram about;
    ssize_t n =
        sockets_of(u)->datagrams->recv(u->loop->be, u->fd, u->data, sizeof(u->data), &about);
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        if (u->events.on_error)
            u->events.on_error(u, (int)n, u->user);
        return true;
    }
    if (about.dropped) {
        u->dropped += about.dropped - u->dropped_last;
        u->dropped_last = about.dropped;
    }
    if (u->events.on_datagram)
        u->events.on_datagram(u, u->data, (size_t)n, (const struct sockaddr *)&about.from,
                              about.from_bytes, u->user);
    return true;
}

static void on_readable(struct sluice_watch *watch, int32_t result)
{
    struct sluice_udp *u = SLUICE_CONTAINER_OF(watch, struct sluice_udp, watch);
    if (result < 0 && u->events.on_error)
        u->events.on_error(u, result, u->user);
    for (int reads = READS_MAX; reads > 0 && !watch->stopped && read_one(u); reads--) {
        /* the next one */
    }
}

static int set(const struct sluice_udp *u, int level, int name, const void *value, socklen_t bytes)
{
    return sockets_of(u)->set_option(u->loop->be, u->fd, level, name, value, bytes);
}

/* 0: as the system has it. */
static int set_socket(const struct sluice_udp *u, int name, uint32_t value)
{
    int v = (int)value;
    return value ? set(u, SOL_SOCKET, name, &v, sizeof(v)) : 0;
}

/* Linux: else it also hears groups that only others on this machine have joined. */
static void own_groups_only(const struct sluice_udp *u, int family)
{
    const int no = 0;
#ifdef IP_MULTICAST_ALL
    if (family == AF_INET)
        set(u, IPPROTO_IP, IP_MULTICAST_ALL, &no, sizeof(no));
#endif
#ifdef IPV6_MULTICAST_ALL
    if (family == AF_INET6)
        set(u, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &no, sizeof(no));
#endif
    (void)u, (void)family, (void)no;
}

static int open_socket(struct sluice_udp *u, const struct sluice_udp_config *cfg)
{
    const struct sluice_datagram_ops *datagrams = sockets_of(u)->datagrams;
    u->fd = datagrams->open(u->loop->be, cfg->local->sa_family);
    if (u->fd < 0)
        return u->fd;
    if (u->fd >= u->loop->be->fd_limit)
        return -ERANGE;
    int err = set_socket(u, SO_REUSEADDR, cfg->reuse_address);
    if (!err)
        err = set_socket(u, SO_RCVBUF, cfg->rcvbuf_bytes);
    if (!err)
        err = set_socket(u, SO_SNDBUF, cfg->sndbuf_bytes);
    if (err)
        return err;
    own_groups_only(u, cfg->local->sa_family);
    return datagrams->bind(u->loop->be, u->fd, cfg->local, cfg->local_bytes);
}

static int start(struct sluice_udp *u, const struct sluice_udp_config *cfg)
{
    if (sluice_loop_is_forked(u->loop))
        return -ECHILD;
    int err = open_socket(u, cfg);
    if (err)
        return err;
    return sluice_watch_start(&u->watch, u->loop, u->fd, 0, on_readable);
}

int sluice_udp_create(struct sluice_udp **out, struct sluice_loop *loop,
                      const struct sluice_udp_config *cfg, const struct sluice_udp_events *events,
                      void *user)
{
    *out = NULL;
    struct sluice_udp *u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    u->loop = loop;
    u->events = *events;
    u->user = user;
    u->fd = -1;
    int err = start(u, cfg);
    if (err) {
        release(u);
        return err;
    }
    loop->active++;
    *out = u;
    return 0;
}

void sluice_udp_destroy(struct sluice_udp *u)
{
    if (!u || u->watch.stopped)
        return;
    u->loop->active--;
    sluice_watch_stop(&u->watch, unwatched);
}

int sluice_udp_connect(struct sluice_udp *u, const struct sockaddr *peer, socklen_t peer_bytes)
{
    return sockets_of(u)->datagrams->connect(u->loop->be, u->fd, peer, peer_bytes);
}

int sluice_udp_send(struct sluice_udp *u, const void *data, size_t bytes, const struct sockaddr *to,
                    socklen_t to_bytes)
{
    return sockets_of(u)->datagrams->send(u->loop->be, u->fd, data, bytes, to, to_bytes);
}

static socklen_t bytes_of(const struct sockaddr *addr)
{
    return addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* RFC 3678: the same for both families. */
static int membership(const struct sluice_udp *u, int any, int of_source,
                      const struct sockaddr *group, const struct sockaddr *source,
                      unsigned interface)
{
    int level = group->sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
    struct group_source_req one = {.gsr_interface = interface};
    struct group_req all = {.gr_interface = interface};
    memcpy(&one.gsr_group, group, bytes_of(group));
    memcpy(&all.gr_group, group, bytes_of(group));
    if (!source)
        return set(u, level, any, &all, sizeof(all));
    memcpy(&one.gsr_source, source, bytes_of(source));
    return set(u, level, of_source, &one, sizeof(one));
}

int sluice_udp_join(struct sluice_udp *u, const struct sockaddr *group,
                    const struct sockaddr *source, unsigned interface)
{
    return membership(u, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP, group, source, interface);
}

int sluice_udp_leave(struct sluice_udp *u, const struct sockaddr *group,
                     const struct sockaddr *source, unsigned interface)
{
    return membership(u, MCAST_LEAVE_GROUP, MCAST_LEAVE_SOURCE_GROUP, group, source, interface);
}

int sluice_udp_local(const struct sluice_udp *u, struct sockaddr_storage *out)
{
    socklen_t bytes = sizeof(*out);
    return sockets_of(u)->address(u->loop->be, u->fd, false, (struct sockaddr *)out, &bytes);
}

uint64_t sluice_udp_dropped(const struct sluice_udp *u)
{
    return u->dropped;
}
