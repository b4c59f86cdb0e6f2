/*
 * Checks that stay on in release: our own bugs abort with a message. What the world does wrong
 * (peers, kernels, other processes) is an error code and never comes here.
 */
#ifndef SLUICE_BASE_CHECK_H
#define SLUICE_BASE_CHECK_H

#include <stddef.h>
#include <stdnoreturn.h>

#define SLUICE_CHECK(cond)                                            \
    do {                                                              \
        if (__builtin_expect(!(cond), 0))                             \
            sluice_check_failed(#cond, __FILE__, __LINE__, __func__); \
    } while (0)

#define SLUICE_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

noreturn void sluice_check_failed(const char *cond, const char *file, int line, const char *func);

#endif
