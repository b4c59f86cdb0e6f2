/*
 * OpenSSL's memory.
 */
#include "tests/tls/heap.h"

#include <openssl/crypto.h>
#include <stdlib.h>

static void *take(size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return heap_take(NULL, bytes);
}

static void *take_again(void *old, size_t bytes, const char *file, int line)
{
    (void)file, (void)line;
    return heap_take(old, bytes);
}

static void give(void *old, const char *file, int line)
{
    (void)file, (void)line;
    heap_give(old);
}

/* Before OpenSSL's first allocation: its own constructors make none. */
__attribute__((constructor)) static void hook(void)
{
    if (!CRYPTO_set_mem_functions(take, take_again, give))
        abort();
}
