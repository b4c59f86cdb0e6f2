/*
 * How often this process asked for heap memory. A program that links heap.c has its calls counted,
 * also those of the shared libraries it uses.
 */
#ifndef BENCH_HEAP_H
#define BENCH_HEAP_H

#include <stdint.h>

/** Calls of malloc, calloc, realloc and the aligned ones so far, by all threads. */
uint64_t heap_calls(void);

#endif
