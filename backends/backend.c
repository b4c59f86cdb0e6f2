/*
 * A backend's creation, the two ends of an op's life, the kernel's clock. No backend lives here.
 */
#include "backends/backend.h"
#include "base/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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
    int err = ops->init(be, cfg);
    if (err) {
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
    free(be);
}

uint64_t sluice_kernel_now_ns(struct sluice_backend *be)
{
    (void)be;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void sluice_op_begin(struct sluice_backend *be, struct sluice_op *op)
{
    SLUICE_CHECK(op->magic == SLUICE_OP_MAGIC);
    SLUICE_CHECK(op->kind < SLUICE_OP_KINDS);
    SLUICE_CHECK(op->state == SLUICE_OP_IDLE);
    op->state = SLUICE_OP_IN_FLIGHT;
    op->generation++;
    be->in_flight++;
}

void sluice_op_end(struct sluice_backend *be, struct sluice_op *op)
{
    SLUICE_CHECK(op->magic == SLUICE_OP_MAGIC);
    SLUICE_CHECK(op->state == SLUICE_OP_IN_FLIGHT);
    SLUICE_CHECK(be->in_flight > 0);
    op->state = SLUICE_OP_IDLE;
    be->in_flight--;
}
