/*
 * A backend's creation, the kernel's clock. No backend lives here.
 */
#include "backends/backend.h"
#include "base/bits.h"
#include "base/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- the pool ---- */

static int pool_init(struct sluice_pool *pool, uint32_t bufs, uint32_t bytes)
{
    if (bufs == 0)
        return 0;
    if (bufs > SLUICE_POOL_MAX || bytes == 0 || bytes > INT_MAX)
        return -EINVAL;
    pool->count = pool->free_count = sluice_round_up_power(bufs);
    pool->bytes = bytes;
    pool->free = calloc(pool->count, sizeof(*pool->free));
    void *base = NULL;
    if (!pool->free || posix_memalign(&base, 4096, (size_t)pool->count * bytes))
        return -ENOMEM;
    pool->base = base;
    for (uint32_t i = 0; i < pool->count; i++)
        pool->free[i] = (uint16_t)(pool->count - 1 - i);
    return 0;
}

static void pool_fini(struct sluice_pool *pool)
{
    free(pool->base);
    free(pool->free);
}

int sluice_pool_take(struct sluice_pool *pool)
{
    return pool->free_count > 0 ? pool->free[--pool->free_count] : -ENOBUFS;
}

void sluice_pool_put(struct sluice_backend *be, uint16_t buffer)
{
    struct sluice_pool *pool = &be->pool;
    SLUICE_CHECK(buffer < pool->count);
    SLUICE_CHECK(pool->free_count < pool->count);
    pool->free[pool->free_count++] = buffer;
}

/* ---- life ---- */

int sluice_backend_create(struct sluice_backend **out, const struct sluice_backend_ops *ops,
                          const struct sluice_backend_config *cfg)
{
    *out = NULL;
    struct sluice_backend *be = calloc(1, ops->state_bytes);
    if (!be)
        return -ENOMEM;
    be->ops = ops;
    be->ops_max = cfg->ops_max;
    be->fd_limit = INT_MAX;
    snprintf(be->name, sizeof(be->name), "%s", ops->name);
    int err = pool_init(&be->pool, cfg->pool_bufs, cfg->pool_buf_bytes);
    if (!err)
        err = ops->init(be, cfg);
    if (err) {
        pool_fini(&be->pool);
        free(be);
        return err;
    }
    *out = be;
    return 0;
}

void sluice_backend_destroy(struct sluice_backend *be)
{
    if (!be)
        return;
    SLUICE_CHECK(be->in_flight == 0);
    be->ops->fini(be);
    pool_fini(&be->pool);
    free(be);
}

uint64_t sluice_kernel_now_ns(struct sluice_backend *be)
{
    (void)be;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
