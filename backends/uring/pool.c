/*
 * The pool of receive buffers as io_uring has it: a ring of provided buffers, from which the kernel
 * takes one when bytes are there. Regions, which are received into in order, are region.c's.
 */
#include "backends/uring/uring.h"
#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POOL_GROUP URING_REGIONS_MAX /* the first that no region has */

int uring_pool_open(struct uring *u)
{
    const struct sluice_pool *pool = &u->base.pool;
    void *mem;
    if (pool->count == 0)
        return 0;
    size_t bytes = pool->count * sizeof(struct io_uring_buf);
    if (posix_memalign(&mem, 4096, bytes < 4096 ? 4096 : bytes))
        return -ENOMEM;
    memset(mem, 0, bytes);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)mem, .ring_entries = pool->count, .bgid = POOL_GROUP};
    int err = io_uring_register_buf_ring(&u->ring, &reg, 0);
    if (err) {
        free(mem);
        return err;
    }
    u->pool = mem;
    io_uring_buf_ring_init(u->pool);
    for (uint32_t i = 0; i < pool->count; i++)
        uring_pool_put(&u->base, (uint16_t)i);
    return 0;
}

void uring_pool_close(struct uring *u)
{
    if (!u->pool)
        return;
    io_uring_unregister_buf_ring(&u->ring, POOL_GROUP);
    free(u->pool);
    u->pool = NULL;
}

void uring_pool_put(struct sluice_backend *be, uint16_t buffer)
{
    struct uring *u = (struct uring *)be;
    SLUICE_CHECK(buffer < be->pool.count);
    io_uring_buf_ring_add(u->pool, sluice_pool_at(&be->pool, buffer), be->pool.bytes, buffer,
                          (int)be->pool.count - 1, 0);
    io_uring_buf_ring_advance(u->pool, 1);
}

void uring_pool_prep(const struct uring *u, struct io_uring_sqe *sqe, const struct sluice_op *op)
{
    SLUICE_CHECK(u->pool != NULL);
    if ((op->flags & SLUICE_OP_MULTI) && u->caps.pool_multi)
        io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, op->fd, NULL, sluice_pool_room(&u->base.pool, op), 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = POOL_GROUP;
}

/* Some kernels use up a buffer for an end or an error too. */
void uring_pool_result(struct uring *u, const struct io_uring_cqe *cqe,
                       struct sluice_completion *out)
{
    if (!(cqe->flags & IORING_CQE_F_BUFFER))
        return;
    out->buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    if (cqe->res <= 0)
        uring_pool_put(&u->base, out->buffer);
}
