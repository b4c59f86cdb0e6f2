/*
 * Receiving into a region: multishot into an incremental provided-buffer ring whose buffers are the
 * region's slices, or, where the kernel cannot, one RECV at a time straight at the next position.
 */
#include "backends/uring/uring.h"
#include "base/bits.h"
#include "base/check.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_MIN (16u << 10)
#define SLICE_MAX (256u << 10)

struct inc_ring {
    struct io_uring *ring;
    struct io_uring_buf_ring *bufs;
    unsigned entries;
    uint64_t next; /* where the next CQE's bytes must lie */
};

static int inc_register(struct inc_ring *inc, uint16_t id)
{
    size_t bytes = inc->entries * sizeof(struct io_uring_buf);
    void *mem;
    if (posix_memalign(&mem, 4096, bytes < 4096 ? 4096 : bytes))
        return -ENOMEM;
    memset(mem, 0, bytes);
    inc->bufs = mem;
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)mem, .ring_entries = inc->entries, .bgid = id};
    reg.pad = IOU_PBUF_RING_INC; /* called flags since liburing 2.4 */
    int err = io_uring_register_buf_ring(inc->ring, &reg, 0);
    if (err) {
        free(mem);
        return err;
    }
    io_uring_buf_ring_init(inc->bufs);
    return 0;
}

int uring_region_open_inc(struct uring *u, struct sluice_region *region, uint32_t slice)
{
    struct inc_ring *inc = calloc(1, sizeof(*inc));
    if (!inc)
        return -ENOMEM;
    inc->ring = &u->ring;
    inc->entries = sluice_round_up_power(region->bytes / slice + 1);
    inc->next = region->pos;
    int err = inc_register(inc, region->id);
    if (err) {
        free(inc);
        return err;
    }
    region->slice_bytes = slice;
    region->backend_data = inc;
    return 0;
}

static uint32_t slice_for(uint64_t bytes)
{
    uint64_t slice = bytes / 16;
    return (uint32_t)(slice < SLICE_MIN ? SLICE_MIN : slice > SLICE_MAX ? SLICE_MAX : slice);
}

int uring_region_open(struct sluice_backend *be, struct sluice_region *region)
{
    struct uring *u = (struct uring *)be;
    for (uint16_t id = 0; id < URING_REGIONS_MAX; id++) {
        if (u->regions[id])
            continue;
        region->id = id;
        region->lent = region->pos;
        region->slice_bytes = 1;
        region->backend_data = NULL;
        if (!region->one_shot && u->caps.inc_buffers && region->bytes >= 8ull * SLICE_MIN) {
            int err = uring_region_open_inc(u, region, slice_for(region->bytes));
            if (err)
                return err;
        }
        u->regions[id] = region;
        return 0;
    }
    return -ENOBUFS;
}

void uring_region_close(struct sluice_backend *be, struct sluice_region *region)
{
    struct uring *u = (struct uring *)be;
    struct inc_ring *inc = region->backend_data;
    if (u->regions[region->id] != region)
        return; /* it could not be opened */
    if (inc) {
        io_uring_unregister_buf_ring(&u->ring, region->id);
        free(inc->bufs);
        free(inc);
    }
    region->backend_data = NULL;
    u->regions[region->id] = NULL;
}

/* Whole slices; only the first may be a rest of one, when the region was opened inside it. */
static void lend_slices(struct inc_ring *inc, struct sluice_region *region, uint64_t limit)
{
    int added = 0;
    for (;;) {
        uint64_t at = region->lent & (region->bytes - 1);
        uint64_t bytes = region->slice_bytes - at % region->slice_bytes;
        if (limit - region->lent < bytes)
            break;
        unsigned short bid = (unsigned short)(at / region->slice_bytes);
        io_uring_buf_ring_add(inc->bufs, region->base + at, (unsigned)bytes, bid,
                              (int)inc->entries - 1, added++);
        region->lent += bytes;
    }
    io_uring_buf_ring_advance(inc->bufs, added);
}

uint64_t uring_region_lend(struct sluice_backend *be, struct sluice_region *region, uint64_t limit)
{
    (void)be;
    if (limit <= region->lent)
        return region->lent;
    if (region->backend_data)
        lend_slices(region->backend_data, region, limit);
    else
        region->lent = limit;
    return region->lent;
}

void uring_region_prep(const struct uring *u, struct io_uring_sqe *sqe, const struct sluice_op *op)
{
    const struct sluice_region *region = op->region;
    uint64_t room = region->lent - region->pos;
    SLUICE_CHECK(room > 0);
    SLUICE_CHECK((op->flags & SLUICE_OP_MULTI) || region->one_shot);
    unsigned credit = room > INT_MAX ? INT_MAX : (unsigned)room;
    if (region->stamp) {
        void *to = region->base + (region->pos & (region->bytes - 1));
        io_uring_prep_recvmsg(sqe, op->fd, sluice_stamp_prepare(region->stamp, to, credit), 0);
        return;
    }
    if (!region->backend_data) {
        io_uring_prep_recv(sqe, op->fd, region->base + (region->pos & (region->bytes - 1)), credit,
                           0);
        return;
    }
    io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = region->id;
    if (u->caps.credit)
        sqe->file_index = credit; /* the same bytes as optlen, which 2.3 has no name for */
}

/* A kernel that hands the slices out of order would corrupt the stream: that is an error, not data.
 * preflight.c refuses such kernels; this is the second lock. */
int32_t uring_region_result(struct sluice_region *region, const struct io_uring_cqe *cqe)
{
    struct inc_ring *inc = region->backend_data;
    if (region->stamp && cqe->res > 0)
        sluice_stamp_take(region->stamp);
    if (!inc || cqe->res <= 0)
        return cqe->res;
    unsigned bid = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    if (bid != (inc->next & (region->bytes - 1)) / region->slice_bytes)
        return -EIO;
    inc->next += (uint64_t)cqe->res;
    return cqe->res;
}
