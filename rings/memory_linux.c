/*
 * Shared memory on Linux: memfds and their seals.
 */
#include "rings/memory.h"
#include "rings/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1 */
#endif

int sluice_memory_create(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes)) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int sluice_memory_seal_size(int fd)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) ? -errno : 0;
}

/* A read-only descriptor or mode protects nothing: it is reopened through /proc/self/fd. */
int sluice_memory_seal_writes(int fd)
{
    return fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) ? -errno : 0;
}

int sluice_memory_check(int fd, uint64_t bytes)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return -EPROTO;
    int64_t size = sluice_memory_size(fd);
    return size < 0 || (uint64_t)size < bytes ? -EPROTO : 0;
}

/* Where /proc lists it, by the same user or root, and read-only is all that the seal leaves. */
int sluice_memory_of_process(int pid, const char *name)
{
    char dir[64], want[SLUICE_NAME_MAX + 40], path[320], target[256];
    snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
    snprintf(want, sizeof(want), "/memfd:sluice:%s (deleted)", name);
    DIR *d = opendir(dir);
    if (!d)
        return -errno;
    int fd = -ETIMEDOUT;
    for (struct dirent *e; fd < 0 && (e = readdir(d));) {
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n <= 0)
            continue;
        target[n] = 0;
        if (strcmp(target, want) == 0)
            fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    closedir(d);
    return fd < 0 ? -ETIMEDOUT : fd;
}
