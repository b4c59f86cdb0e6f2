/*
 * wolfSSL's memory.
 */
#include "tests/tls/heap.h"

#include <stdlib.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/memory.h>

static void *take(size_t bytes)
{
    return heap_take(NULL, bytes);
}

static void *take_again(void *old, size_t bytes)
{
    return heap_take(old, bytes);
}

__attribute__((constructor)) static void hook(void)
{
    if (wolfSSL_SetAllocators(take, heap_give, take_again))
        abort();
}
