/*
 * Shared memory with what POSIX has: objects of shm_open, unlinked at once. Nothing seals them: a
 * process that was handed one can write it and shrink it. It belongs to the same user, for nobody
 * else gets one, and what it makes smaller is memory of zeros from then on (memory_guard.c).
 */
#include "rings/memory.h"
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_unnamed(void)
{
    for (int tries = 0; tries < 100; tries++) {
        unsigned long long random;
        char path[32]; /* macOS takes 31 bytes at most */
        int err = sluice_system_random(&random, sizeof(random));
        if (err)
            return err;
        snprintf(path, sizeof(path), "/sluice-%016llx", random);
        int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd >= 0) {
            shm_unlink(path);
            return fd;
        }
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

int sluice_memory_create(const char *name, uint64_t bytes)
{
    (void)name;
    int fd = open_unnamed();
    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_SETFD, FD_CLOEXEC)) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int sluice_memory_seal_size(int fd)
{
    (void)fd;
    return 0;
}

int sluice_memory_seal_writes(int fd)
{
    (void)fd;
    return 0;
}

int sluice_memory_check(int fd, uint64_t bytes)
{
    int64_t size = sluice_memory_size(fd);
    return size < 0 || (uint64_t)size < bytes ? -EPROTO : 0;
}

int sluice_memory_of_process(int pid, const char *name)
{
    (void)pid, (void)name;
    return -ETIMEDOUT;
}
