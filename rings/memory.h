/*
 * Shared memory: memfds, their seals, mappings once and twice. What lies in it is layout.h's.
 */
#ifndef SLUICE_RINGS_MEMORY_H
#define SLUICE_RINGS_MEMORY_H

#include <stdint.h>

/* A memfd of that size, close-on-exec, still to be sealed; or negative errno. */
int sluice_memory_create(const char *name, uint64_t bytes);

/* Nobody can resize it from now on. */
int sluice_memory_seal_size(int fd);

/* Nobody can map or write it anew from now on: only mappings that exist still write. */
int sluice_memory_seal_writes(int fd);

/* 0 if fd is a memfd that cannot shrink and has at least these bytes, or -EPROTO. */
int sluice_memory_check(int fd, uint64_t bytes);

/* Size of the memfd, or negative errno. */
int64_t sluice_memory_size(int fd);

/* LATER: pages come as they are touched; the other two have them at once, and take their time. */
enum memory_map { MAP_TO_READ, MAP_TO_WRITE, MAP_TO_READ_LATER };

void *sluice_memory_map(int fd, uint64_t at, uint64_t bytes, enum memory_map how);

/* The same bytes twice, back to back: no reader ever sees the wrap. NULL with errno on failure. */
void *sluice_memory_map_twice(int fd, uint64_t at, uint64_t bytes, enum memory_map how);

void sluice_memory_unmap(const void *addr, uint64_t bytes); /* NULL is fine */

#endif
