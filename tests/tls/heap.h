/*
 * The libraries' own heap memory, seen through the hooks that they offer.
 */
#ifndef SLUICE_TESTS_TLS_HEAP_H
#define SLUICE_TESTS_TLS_HEAP_H

#include <stddef.h>

/* The test's, called by the hooks. */
void *heap_take(void *old, size_t bytes);
void heap_give(void *old);

#endif
