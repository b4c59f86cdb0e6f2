/*
 * Sealed memory cannot shrink: nothing to guard.
 */
#include "rings/memory_guard.h"

void sluice_memory_guard(const void *addr, uint64_t bytes)
{
    (void)addr, (void)bytes;
}

void sluice_memory_unguard(const void *addr)
{
    (void)addr;
}
