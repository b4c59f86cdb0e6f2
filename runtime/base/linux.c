/*
 * system.h on Linux.
 */
#include "base/system.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

_Static_assert(sizeof(struct sluice_cores) == sizeof(cpu_set_t), "the same bits");

static int flags_of(bool nonblocking)
{
    return SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0);
}

int sluice_system_socket(int family, int type, bool nonblocking)
{
    int fd = socket(family, type | flags_of(nonblocking), 0);
    return fd < 0 ? -errno : fd;
}

int sluice_system_accept(int fd, bool nonblocking)
{
    int got = accept4(fd, NULL, NULL, flags_of(nonblocking));
    return got < 0 ? -errno : got;
}

int sluice_system_pair(int type, int pair[2])
{
    return socketpair(AF_UNIX, type | flags_of(true), 0, pair) ? -errno : 0;
}

void sluice_system_refuse_rights(int fd)
{
    const int none = 0;
    setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));
}

/* signal(7): a receive with a time limit is never restarted. */
void sluice_system_block(int fd)
{
    const struct timeval limit = {.tv_sec = 3600};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0)
        fcntl(fd, F_SETFL, 0);
}

int sluice_system_peer(int fd, unsigned *uid, int *pid)
{
    struct ucred cred;
    socklen_t bytes = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &bytes))
        return -errno;
    *uid = cred.uid;
    *pid = cred.pid;
    return 0;
}

int sluice_system_lock(int directory_fd, bool wait)
{
    return flock(directory_fd, LOCK_EX | (wait ? 0 : LOCK_NB)) ? -errno : directory_fd;
}

void sluice_system_unlock(int lock_fd)
{
    flock(lock_fd, LOCK_UN);
}

int sluice_system_random(void *to, size_t bytes)
{
    return getrandom(to, bytes, 0) == (ssize_t)bytes ? 0 : -EIO;
}

void sluice_system_wipe(void *secret, size_t bytes)
{
    explicit_bzero(secret, bytes);
}

bool sluice_system_is_privileged(void)
{
    return getauxval(AT_SECURE) != 0;
}

int sluice_bell_open(struct sluice_bell *bell)
{
    bell->fd = bell->ring_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell->fd < 0 ? -errno : 0;
}

void sluice_bell_ring(const struct sluice_bell *bell)
{
    eventfd_write(bell->ring_fd, 1);
}

void sluice_bell_clear(const struct sluice_bell *bell)
{
    eventfd_t count;
    eventfd_read(bell->fd, &count);
}

void sluice_bell_close(struct sluice_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = bell->ring_fd = -1;
}

int sluice_system_cores(struct sluice_cores *out)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set))
        return -errno;
    memcpy(out, &set, sizeof(set));
    return 0;
}

int sluice_system_set_cores(const struct sluice_cores *cores)
{
    cpu_set_t set;
    memcpy(&set, cores, sizeof(set));
    return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

void sluice_system_name_thread(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}
