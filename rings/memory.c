/*
 * Shared memory: memfds, their seals, mappings once and twice.
 */
#include "rings/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

int64_t sluice_memory_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? -errno : (int64_t)st.st_size;
}

int sluice_memory_check(int fd, uint64_t bytes)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return -EPROTO;
    int64_t size = sluice_memory_size(fd);
    return size < 0 || (uint64_t)size < bytes ? -EPROTO : 0;
}

static int prot_of(enum memory_map how)
{
    return how == MAP_TO_WRITE ? PROT_READ | PROT_WRITE : PROT_READ;
}

static int flags_of(enum memory_map how)
{
    return how == MAP_TO_READ_LATER ? MAP_SHARED : MAP_SHARED | MAP_POPULATE;
}

void *sluice_memory_map(int fd, uint64_t at, uint64_t bytes, enum memory_map how)
{
    void *addr = mmap(NULL, bytes, prot_of(how), flags_of(how), fd, (off_t)at);
    return addr == MAP_FAILED ? NULL : addr;
}

void *sluice_memory_map_twice(int fd, uint64_t at, uint64_t bytes, enum memory_map how)
{
    int prot = prot_of(how), flags = flags_of(how) | MAP_FIXED;
    char *base =
        mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    if (mmap(base, bytes, prot, flags, fd, (off_t)at) == MAP_FAILED ||
        mmap(base + bytes, bytes, prot, flags, fd, (off_t)at) == MAP_FAILED) {
        int err = errno;
        munmap(base, 2 * bytes);
        errno = err;
        return NULL;
    }
    return base;
}

void sluice_memory_unmap(const void *addr, uint64_t bytes)
{
    if (addr)
        munmap((void *)(uintptr_t)addr, bytes);
}
