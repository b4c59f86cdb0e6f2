/*
 * system.h with what POSIX has: for the portable build.
 */
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static int set_flags(int fd, bool nonblocking)
{
    int flags = fcntl(fd, F_GETFL);
    bool ok = fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && flags >= 0 &&
              (!nonblocking || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    if (ok)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

int sluice_system_socket(int family, int type, bool nonblocking)
{
    int fd = socket(family, type, 0);
    return fd < 0 ? -errno : set_flags(fd, nonblocking);
}

int sluice_system_accept(int fd, bool nonblocking)
{
    int got = accept(fd, NULL, NULL);
    return got < 0 ? -errno : set_flags(got, nonblocking);
}

static int both(int pair[2])
{
    int first = set_flags(pair[0], true);
    int second = set_flags(pair[1], true);
    if (first >= 0 && second >= 0)
        return 0;
    if (first >= 0)
        close(first);
    if (second >= 0)
        close(second);
    return first < 0 ? first : second;
}

int sluice_system_pair(int type, int pair[2])
{
    return socketpair(AF_UNIX, type, 0, pair) ? -errno : both(pair);
}

void sluice_system_refuse_rights(int fd)
{
    (void)fd;
}

void sluice_system_block(int fd)
{
    (void)fd;
}

/* POSIX knows nobody at the other end. The directory, which is this user's alone, keeps others out;
 * where there is getpeereid() it says so once more. */
int sluice_system_peer(int fd, unsigned *uid, int *pid)
{
    *uid = geteuid();
    *pid = 0;
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
    gid_t gid;
    uid_t theirs;
    if (getpeereid(fd, &theirs, &gid))
        return -errno;
    *uid = theirs;
#else
    (void)fd;
#endif
    return 0;
}

/* A file of its own, for POSIX locks what was opened to be written. It stays. */
int sluice_system_lock(int directory_fd, bool wait)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(directory_fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    while (fcntl(fd, wait ? F_SETLKW : F_SETLK, &all)) {
        if (errno == EINTR)
            continue;
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

void sluice_system_unlock(int lock_fd)
{
    close(lock_fd);
}

int sluice_system_random(void *to, size_t bytes)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, to, bytes);
    close(fd);
    return n == (ssize_t)bytes ? 0 : -EIO;
}

void sluice_system_wipe(void *secret, size_t bytes)
{
    volatile unsigned char *at = secret;
    while (bytes-- > 0)
        *at++ = 0;
}

bool sluice_system_is_privileged(void)
{
    return geteuid() != getuid() || getegid() != getgid();
}

int sluice_bell_open(struct sluice_bell *bell)
{
    int pair[2];
    bell->fd = bell->ring_fd = -1;
    int err = pipe(pair) ? -errno : both(pair);
    if (err)
        return err;
    bell->fd = pair[0];
    bell->ring_fd = pair[1];
    return 0;
}

void sluice_bell_ring(const struct sluice_bell *bell)
{
    if (write(bell->ring_fd, "", 1) < 0) {
        /* full: it is readable all the same */
    }
}

void sluice_bell_clear(const struct sluice_bell *bell)
{
    char rung[64];
    while (read(bell->fd, rung, sizeof(rung)) == (ssize_t)sizeof(rung)) {
        /* to the end */
    }
}

void sluice_bell_close(struct sluice_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    if (bell->ring_fd >= 0)
        close(bell->ring_fd);
    bell->fd = bell->ring_fd = -1;
}

int sluice_system_cores(struct sluice_cores *out)
{
    *out = (struct sluice_cores){0};
    return -ENOTSUP;
}

int sluice_system_set_cores(const struct sluice_cores *cores)
{
    (void)cores;
    return -ENOTSUP;
}

void sluice_system_name_thread(const char *name)
{
    (void)name;
}
