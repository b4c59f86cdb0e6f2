/*
 * Shared memory: mappings, once and twice. Where it comes from: memory_linux.c, memory_posix.c.
 */
#include "rings/memory.h"
#include "rings/memory_guard.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MAP_POPULATE /* Linux; elsewhere pages come as they are touched */
#define MAP_POPULATE 0
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

int64_t sluice_memory_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? -errno : (int64_t)st.st_size;
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
    if (addr == MAP_FAILED)
        return NULL;
    sluice_memory_guard(addr, bytes);
    return addr;
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
    sluice_memory_guard(base, 2 * bytes);
    return base;
}

void sluice_memory_unmap(const void *addr, uint64_t bytes)
{
    if (!addr)
        return;
    sluice_memory_unguard(addr);
    munmap((void *)(uintptr_t)addr, bytes);
}
