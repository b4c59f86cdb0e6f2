/*
 * SO_TIMESTAMPING: see stamp.h.
 */
#include "backends/stamp.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <linux/ethtool.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull

struct msghdr *sluice_stamp_prepare(struct sluice_stamp *s, void *to, size_t bytes)
{
    s->iov = (struct iovec){.iov_base = to, .iov_len = bytes};
    s->msg = (struct msghdr){.msg_iov = &s->iov,
                             .msg_iovlen = 1,
                             .msg_control = s->control,
                             .msg_controllen = sizeof(s->control)};
    return &s->msg;
}

/* Software's stands first, the NIC's own last; only one was asked for. */
void sluice_stamp_take(struct sluice_stamp *s)
{
    s->ns = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&s->msg); c; c = CMSG_NXTHDR(&s->msg, c)) {
        struct scm_timestamping t;
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPING ||
            c->cmsg_len < CMSG_LEN(sizeof(t)))
            continue;
        memcpy(&t, CMSG_DATA(c), sizeof(t));
        const struct timespec *given = t.ts[2].tv_sec ? &t.ts[2] : &t.ts[0];
        s->ns = (uint64_t)given->tv_sec * NS_PER_S + (uint64_t)given->tv_nsec;
    }
}

int sluice_stamp_enable(int fd, bool hardware)
{
    unsigned flags = hardware ? SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE
                              : SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)) ? -errno : 0;
}

/* ---- hardware ---- */

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (!a || a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
    return a->sa_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

/* The one that has the socket's own address. */
static bool find_interface(int fd, char name[IFNAMSIZ])
{
    struct sockaddr_storage own = {0};
    socklen_t bytes = sizeof(own);
    struct ifaddrs *all;
    bool found = false;
    if (getsockname(fd, (struct sockaddr *)&own, &bytes) || getifaddrs(&all))
        return false;
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        found = same_address(i->ifa_addr, (const struct sockaddr *)&own);
        if (found)
            snprintf(name, IFNAMSIZ, "%s", i->ifa_name);
    }
    freeifaddrs(all);
    return found;
}

static bool ask(int fd, unsigned long request, const char *name, void *answer)
{
    struct ifreq ifr = {.ifr_data = answer};
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    return ioctl(fd, request, &ifr) == 0;
}

int sluice_stamp_check_hardware(int fd, char *why, size_t why_bytes)
{
    char name[IFNAMSIZ] = "?";
    struct ethtool_ts_info can = {.cmd = ETHTOOL_GET_TS_INFO};
    struct hwtstamp_config is = {0};
    const unsigned both = SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
    const char *what = NULL;
    if (!find_interface(fd, name))
        what = "its interface is not known";
    else if (!ask(fd, SIOCETHTOOL, name, &can) || (can.so_timestamping & both) != both)
        what = "it does not stamp what it receives";
    else if (!ask(fd, SIOCGHWTSTAMP, name, &is) || is.rx_filter == HWTSTAMP_FILTER_NONE)
        what = "its stamping is switched off (hwstamp_ctl, ptp4l)";
    if (!what)
        return 0;
    snprintf(why, why_bytes, "--timestamps hardware: interface %s: %s: take software", name, what);
    return -ENOTSUP;
}
