/*
 * A build without io_uring: it is refused as on a system that has none.
 */
#include "backends/backend.h"

#include <errno.h>
#include <stdio.h>

static int none_init(struct sluice_backend *be, const struct sluice_backend_config *cfg)
{
    (void)be, (void)cfg;
    return -ENOSYS;
}

static int none_features(struct sluice_backend_feature *out, int max)
{
    if (max < 1)
        return 0;
    out[0] = (struct sluice_backend_feature){.name = "io_uring"};
    snprintf(out[0].detail, sizeof(out[0].detail), "not in this build");
    return 1;
}

const struct sluice_backend_ops sluice_backend_uring = {
    .name = "uring",
    .state_bytes = sizeof(struct sluice_backend),
    .init = none_init,
    .sockets = &sluice_kernel_sockets,
    .features = none_features,
};
