/*
 * State of the io_uring backend, shared by uring.c (ops), region.c (receiving into a ring) and
 * preflight.c (what this kernel can do). Nothing outside this folder includes it.
 */
#ifndef SLUICE_URING_H
#define SLUICE_URING_H

#include "backends/backend.h"
#include "backends/uring/uapi.h"

#define URING_REGIONS_MAX 32u
#define URING_ENTRIES_MAX 4096u

/* What the kernel does, and does correctly; found out once per process. */
struct uring_caps {
    int error;            /* of the first io_uring_setup: 0, -ENOSYS, -EPERM, ... */
    unsigned setup_flags; /* the best it takes */
    bool inc_buffers;     /* incremental provided buffers, in order (6.12) */
    bool credit;          /* sqe->optlen ends a multishot receive (6.17) */
    bool files;           /* registered files */
    bool quiet;           /* a SEND that took all at once need not say so (5.17) */
    bool pool_multi;      /* a multishot receive into provided buffers (6.0) */
};

struct uring {
    struct sluice_backend base; /* first */
    struct io_uring ring;
    struct uring_caps caps;
    bool enabled;   /* by the thread that runs it */
    bool has_event; /* somebody else's loop waits for ours on event_fd */
    int event_fd;
    struct sluice_op *cancels; /* asked for while there was no room for an SQE */
    /* SENDs that say something only if they did not take all; and those of them that did so by this
     * place of the CQ and by the last mark, or never */
    struct sluice_op *quiet, *quiet_sent;
    unsigned quiet_end, marks;    /* that have yet to come */
    unsigned sends, sends_before; /* since the last system call for completions, and before */
    bool quiet_wanted;            /* one of them was cancelled */
    uint32_t files_max;
    uint8_t *file_used;
    struct sluice_region *regions[URING_REGIONS_MAX];
    struct io_uring_buf_ring *pool; /* NULL: none was asked for */
};

const struct uring_caps *uring_caps(void);
int uring_setup(struct io_uring *ring, unsigned entries, unsigned flags, unsigned sqpoll_idle_ms);
int uring_restrict(struct io_uring *ring, bool reads); /* of one that is not enabled yet */
int uring_features(struct sluice_backend_feature *out, int max);

int uring_region_open(struct sluice_backend *be, struct sluice_region *region);
int uring_region_open_inc(struct uring *u, struct sluice_region *region, uint32_t slice);
void uring_region_close(struct sluice_backend *be, struct sluice_region *region);
uint64_t uring_region_lend(struct sluice_backend *be, struct sluice_region *region, uint64_t limit);
void uring_region_prep(const struct uring *u, struct io_uring_sqe *sqe, const struct sluice_op *op);
int32_t uring_region_result(struct sluice_region *region, const struct io_uring_cqe *cqe);

int uring_pool_open(struct uring *u);
void uring_pool_close(struct uring *u);
void uring_pool_put(struct sluice_backend *be, uint16_t buffer);
void uring_pool_prep(const struct uring *u, struct io_uring_sqe *sqe, const struct sluice_op *op);
void uring_pool_result(struct uring *u, const struct io_uring_cqe *cqe,
                       struct sluice_completion *out);

#endif
