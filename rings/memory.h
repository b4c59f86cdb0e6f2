/*
 * Shared memory that can be handed over: sealed memfds on Linux (memory_linux.c), objects that
 * nobody seals in the portable build (memory_posix.c). What lies in it is layout.h's.
 */
#ifndef SLUICE_RINGS_MEMORY_H
#define SLUICE_RINGS_MEMORY_H

#include <stdint.h>

/* A descriptor of memory of that size, close-on-exec, still to be sealed; or negative errno. */
int sluice_memory_create(const char *name, uint64_t bytes);

/* Nobody can resize it from now on. */
int sluice_memory_seal_size(int fd);

/* Nobody can map or write it anew from now on: only mappings that exist still write. */
int sluice_memory_seal_writes(int fd);

/* 0 if it cannot shrink and has at least these bytes, or -EPROTO. */
int sluice_memory_check(int fd, uint64_t bytes);

/* Its size, or negative errno. */
int64_t sluice_memory_size(int fd);

/* The memory of the channel of that name in another process, read-only, or negative errno. */
int sluice_memory_of_process(int pid, const char *name);

/* LATER: pages come as they are touched; the other two have them at once, and take their time. */
enum memory_map { MAP_TO_READ, MAP_TO_WRITE, MAP_TO_READ_LATER };

void *sluice_memory_map(int fd, uint64_t at, uint64_t bytes, enum memory_map how);

/* The same bytes twice, back to back: no reader ever sees the wrap. NULL with errno on failure. */
void *sluice_memory_map_twice(int fd, uint64_t at, uint64_t bytes, enum memory_map how);

void sluice_memory_unmap(const void *addr, uint64_t bytes); /* NULL is fine */

#endif
