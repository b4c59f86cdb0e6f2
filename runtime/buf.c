/*
 * Leases: who has a receive buffer, until it goes back to the backend's pool.
 */
#include "conns.h"
#include "base/check.h"

struct sluice_lease *sluice_lease_take(struct sluice_conns *conns, uint16_t buffer, size_t bytes)
{
    struct sluice_lease *lease = &conns->leases[buffer];
    SLUICE_CHECK(lease->refs == 0);
    *lease = (struct sluice_lease){
        .buf = {.data = sluice_pool_at(&conns->loop->be->pool, buffer), .bytes = bytes},
        .conns = conns,
        .refs = 1,
        .buffer = buffer};
    conns->leased++;
    return lease;
}

static struct sluice_lease *lease_of(struct sluice_buf *buf)
{
    struct sluice_lease *lease = SLUICE_CONTAINER_OF(buf, struct sluice_lease, buf);
    SLUICE_CHECK(lease->refs > 0); /* released more often than retained */
    return lease;
}

void sluice_buf_retain(struct sluice_buf *buf)
{
    lease_of(buf)->refs++;
}

void sluice_buf_release(struct sluice_buf *buf)
{
    struct sluice_lease *lease = lease_of(buf);
    struct sluice_conns *conns = lease->conns;
    if (--lease->refs > 0)
        return;
    conns->leased--;
    conns->loop->be->ops->pool_put(conns->loop->be, lease->buffer);
    sluice_conns_feed(conns);
}
