/*
 * For memory that nobody seals: when another process made it smaller, what is touched beyond its
 * end is a page of zeros instead of SIGBUS. The rings then see nonsense, and say so.
 */
#ifndef SLUICE_MEMORY_GUARD_H
#define SLUICE_MEMORY_GUARD_H

#include <stdint.h>

/* Where there is nothing to guard against, these do nothing. */
void sluice_memory_guard(const void *addr, uint64_t bytes);
void sluice_memory_unguard(const void *addr);

#endif
