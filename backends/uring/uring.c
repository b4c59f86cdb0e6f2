/*
 * Ops on io_uring: an op becomes one SQE, a CQE becomes one completion. Submitting, waiting and
 * reaping are one system call, and none is made while nothing is due.
 */
#include "backends/uring/uring.h"
#include "base/check.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* user_data: the op's address (48 bits on x86-64 and arm64 user space) and its generation. */
#define GENERATION_SHIFT 48
#define ADDRESS_MASK     ((1ull << GENERATION_SHIFT) - 1)
#define NOBODY           0ull /* of a cancel that found nothing */
#define MARK             1ull /* see mark_quiet() */

#define QUIET_SENDS_MAX 3u /* of one system call, and of the one before */

static struct uring *uring_of(struct sluice_backend *be)
{
    SLUICE_CHECK(be->ops == &sluice_backend_uring);
    return (struct uring *)be;
}

static uint64_t user_data_of(const struct sluice_op *op)
{
    return (uint64_t)(uintptr_t)op | (uint64_t)op->generation << GENERATION_SHIFT;
}

/*
 * io_uring_setup(2): CQSIZE, for multishot ops complete more often than they are submitted. No
 * child of fork(2) gets the rings: none may use them, and user-mode-linux 6.12 loses count of their
 * pages.
 */
int uring_setup(struct io_uring *ring, unsigned entries, unsigned flags, unsigned sqpoll_idle_ms)
{
    struct io_uring_params p = {.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                                .cq_entries = entries * 4,
                                .sq_thread_idle = sqpoll_idle_ms};
    int err = io_uring_queue_init_params(entries, ring, &p);
    if (err)
        return err;
    err = io_uring_ring_dontfork(ring);
    if (err)
        io_uring_queue_exit(ring);
    return err;
}

static int init_files(struct uring *u, uint32_t files_max)
{
    if (!u->caps.files || !files_max)
        return 0;
    if (io_uring_register_files_sparse(&u->ring, files_max))
        return 0; /* plain descriptors serve as well */
    u->file_used = calloc(files_max, 1);
    if (!u->file_used)
        return -ENOMEM;
    u->files_max = files_max;
    return 0;
}

static void describe(struct uring *u, uint32_t napi_us, bool small)
{
    unsigned f = u->caps.setup_flags;
    snprintf(u->base.detail, sizeof(u->base.detail), "%s%s%s%s%s%s",
             f & IORING_SETUP_SQPOLL          ? "a thread of the kernel's submits"
             : f & IORING_SETUP_DEFER_TASKRUN ? "deferred task work"
             : f & IORING_SETUP_COOP_TASKRUN  ? "cooperative task work"
                                              : "plain set-up",
             u->caps.inc_buffers ? ", incremental buffers" : "",
             u->caps.credit ? ", receive credit" : "", napi_us ? ", NAPI busy polling" : "",
             u->files_max ? ", registered files" : "",
             small ? ", a small ring (RLIMIT_MEMLOCK)" : "");
}

/* Task work is that thread's then, and a SEND says itself that it took all: the heads of the rings
 * are moved beside us. */
static void submit_by_thread(struct uring_caps *caps)
{
    caps->setup_flags &= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL;
    caps->setup_flags |= IORING_SETUP_SQPOLL;
    caps->quiet = false;
}

static int poll_nic(struct uring *u, uint32_t busy_poll_us)
{
    struct uring_napi napi = {.busy_poll_us = busy_poll_us, .prefer_busy_poll = 1};
    if (!busy_poll_us)
        return 0;
    if (syscall(__NR_io_uring_register, u->ring.ring_fd, URING_REGISTER_NAPI, &napi, 1) == 0)
        return 0;
    return errno == EINVAL || errno == EOPNOTSUPP ? -ENOTSUP : -errno;
}

static void uring_fini(struct sluice_backend *be)
{
    struct uring *u = uring_of(be);
    uring_pool_close(u);
    io_uring_queue_exit(&u->ring);
    if (u->has_event)
        close(u->event_fd);
    free(u->file_used);
}

static int uring_init(struct sluice_backend *be, const struct sluice_backend_config *cfg)
{
    struct uring *u = uring_of(be);
    u->caps = *uring_caps();
    be->edge = true;
    if (u->caps.error)
        return u->caps.error;
    if (cfg->sqpoll_idle_ms)
        submit_by_thread(&u->caps);
    /* Disabled: with SINGLE_ISSUER its owner is the task that enables it, which may be another than
     * the one that creates it. */
    unsigned flags = u->caps.setup_flags | IORING_SETUP_R_DISABLED;
    /* More ops than entries are submitted in several calls. */
    unsigned entries = cfg->ops_max < URING_ENTRIES_MAX ? cfg->ops_max : URING_ENTRIES_MAX;
    int err = uring_setup(&u->ring, entries, flags, cfg->sqpoll_idle_ms);
    bool small = err == -ENOMEM;
    if (small) /* charged to RLIMIT_MEMLOCK: once more, smaller */
        err = uring_setup(&u->ring, 16, flags, cfg->sqpoll_idle_ms);
    if (err)
        return err;
    err = init_files(u, cfg->files_max);
    if (!err)
        err = uring_pool_open(u);
    if (!err)
        err = poll_nic(u, cfg->napi_busy_poll_us);
    if (!err)
        err = uring_restrict(&u->ring, cfg->reads);
    if (err) {
        uring_fini(be);
        return err;
    }
    describe(u, cfg->napi_busy_poll_us, small);
    return 0;
}

/* By the thread that submits: it owns the ring and its registered descriptor from now on. */
static int enable(struct uring *u)
{
    if (u->enabled)
        return 0;
    /* Debian's liburing 2.3 declares io_uring_enable_rings() but does not export it. */
    if (syscall(__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
        return -errno;
    io_uring_register_ring_fd(&u->ring); /* saves a descriptor look-up per enter; may fail */
    u->enabled = true;
    return 0;
}

static struct io_uring_sqe *get_sqe(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe)
        return sqe;
    if (enable(u) || io_uring_submit(&u->ring) < 0)
        return NULL;
    return io_uring_get_sqe(&u->ring);
}

static void prep_recv(const struct uring *u, struct io_uring_sqe *sqe, const struct sluice_op *op)
{
    if (op->region)
        uring_region_prep(u, sqe, op);
    else if (op->flags & SLUICE_OP_POOLED)
        uring_pool_prep(u, sqe, op);
    else
        io_uring_prep_recv(sqe, op->fd, op->recv.addr, op->recv.bytes, 0);
}

/* An op is in one list at most: u->cancels, u->quiet or u->quiet_sent. */
static void link_op(struct sluice_op **list, struct sluice_op *op)
{
    op->next = *list;
    op->link = list;
    if (op->next)
        op->next->link = &op->next;
    *list = op;
}

static void unlink_op(struct sluice_op *op)
{
    if (!op->link)
        return;
    *op->link = op->next;
    if (op->next)
        op->next->link = op->link;
    op->link = NULL;
}

/* ---- quiet SENDs ----
 * One that takes all within the submission posts no completion: whoever waits sleeps on until
 * something else happens. With MSG_WAITALL anything less is a failure to io_uring, and told. */

/* Where one system call carries many it is cheaper to be told of each. */
static bool may_be_quiet(const struct uring *u, const struct sluice_op *op)
{
    const unsigned both = SLUICE_OP_NOWAIT | SLUICE_OP_WAITALL;
    return (op->flags & both) == both && u->caps.quiet && u->sends <= QUIET_SENDS_MAX &&
           u->sends_before <= QUIET_SENDS_MAX;
}

static void be_quiet(struct uring *u, struct io_uring_sqe *sqe, struct sluice_op *op)
{
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    link_op(&u->quiet, op);
}

/* Nobody has it: that it was not found stands behind everything that failed before. */
static bool mark_quiet(struct uring *u)
{
    struct io_uring_sqe *sqe = get_sqe(u);
    if (!sqe)
        return false;
    io_uring_prep_cancel64(sqe, MARK, 0);
    sqe->user_data = MARK;
    u->marks++;
    return true;
}

/* All SQEs were submitted: what failed of them stands in the CQ by now, before this place; or in
 * what overflowed, and for as long as more does, before the last mark. */
static void note_quiet(struct uring *u)
{
    const struct io_uring_sq *sq = &u->ring.sq;
    if (!u->quiet || u->quiet_sent || IO_URING_READ_ONCE(*sq->khead) != sq->sqe_tail)
        return;
    bool overflows = IO_URING_READ_ONCE(*sq->kflags) & IORING_SQ_CQ_OVERFLOW;
    if (overflows && !mark_quiet(u))
        return;
    u->quiet_sent = u->quiet;
    u->quiet_sent->link = &u->quiet_sent;
    u->quiet = NULL;
    u->quiet_end = io_uring_smp_load_acquire(u->ring.cq.ktail);
}

/* Every CQE before that was taken: what is still quiet took all. The newest first: each is another
 * descriptor's. */
static int tell_quiet(struct uring *u, struct sluice_completion *out, int max)
{
    int n = 0;
    bool sent = u->quiet_sent && !u->marks && (int)(*u->ring.cq.khead - u->quiet_end) >= 0;
    while (sent && u->quiet_sent && n < max) {
        struct sluice_op *op = u->quiet_sent;
        out[n++] = (struct sluice_completion){.op = op, .result = (int32_t)op->send.bytes};
        unlink_op(op);
        sluice_op_end(&u->base, op);
    }
    u->quiet_wanted &= u->quiet || u->quiet_sent;
    return n;
}

static void prep(const struct uring *u, struct io_uring_sqe *sqe, const struct sluice_op *op)
{
    bool multi = op->flags & SLUICE_OP_MULTI;
    switch ((enum sluice_op_kind)op->kind) {
    case SLUICE_OP_ACCEPT:
        io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
        if (multi)
            sqe->ioprio |= IORING_ACCEPT_MULTISHOT;
        break;
    case SLUICE_OP_CONNECT:
        io_uring_prep_connect(sqe, op->fd, op->connect.addr, op->connect.bytes);
        break;
    case SLUICE_OP_RECV:
        prep_recv(u, sqe, op);
        break;
    case SLUICE_OP_SEND:
        io_uring_prep_send(sqe, op->fd, op->send.addr, op->send.bytes,
                           MSG_NOSIGNAL | (op->flags & SLUICE_OP_WAITALL ? MSG_WAITALL : 0) |
                               (op->flags & SLUICE_OP_NOWAIT ? MSG_DONTWAIT : 0));
        break;
    case SLUICE_OP_POLL:
        io_uring_prep_poll_add(sqe, op->fd, op->poll.events);
        if (multi)
            sqe->len |= IORING_POLL_ADD_MULTI;
        break;
    case SLUICE_OP_READ:
        io_uring_prep_read(sqe, op->fd, op->read.addr,
                           op->read.bytes > INT_MAX ? INT_MAX : (unsigned)op->read.bytes,
                           op->read.offset);
        break;
    case SLUICE_OP_KINDS:
        SLUICE_CHECK(op->kind < SLUICE_OP_KINDS);
    }
    if (op->file >= 0) {
        sqe->fd = op->file;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
}

static int uring_submit(struct sluice_backend *be, struct sluice_op *op)
{
    struct uring *u = uring_of(be);
    if (be->in_flight >= be->ops_max)
        return -EAGAIN;
    struct io_uring_sqe *sqe = get_sqe(u);
    if (!sqe)
        return -EAGAIN;
    sluice_op_begin(be, op);
    prep(u, sqe, op);
    sqe->user_data = user_data_of(op);
    if (op->kind != SLUICE_OP_SEND)
        return 0;
    u->sends++;
    op->backend_word = may_be_quiet(u, op);
    if (op->backend_word)
        be_quiet(u, sqe, op);
    return 0;
}

/* A cancel that found its op is not heard of again. */
static bool try_cancel(struct uring *u, struct sluice_op *op)
{
    struct io_uring_sqe *sqe = get_sqe(u);
    if (!sqe)
        return false;
    io_uring_prep_cancel64(sqe, user_data_of(op), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = NOBODY;
    return true;
}

/* The SQ is full and the CQ too: the next poll takes completions first, then tries again. */
static void uring_cancel(struct sluice_backend *be, struct sluice_op *op)
{
    struct uring *u = uring_of(be);
    if (op->state != SLUICE_OP_IN_FLIGHT)
        return;
    if (op->kind == SLUICE_OP_SEND && op->backend_word)
        u->quiet_wanted = true; /* it ends in the next poll, which must not wait */
    else if (!op->link && !try_cancel(u, op))
        link_op(&u->cancels, op);
}

static void retry_cancels(struct uring *u)
{
    while (u->cancels && try_cancel(u, u->cancels))
        unlink_op(u->cancels);
}

/* False: not a completion of a living op. */
static bool take(struct sluice_backend *be, const struct io_uring_cqe *cqe,
                 struct sluice_completion *out)
{
    struct sluice_op *op = (struct sluice_op *)(uintptr_t)(cqe->user_data & ADDRESS_MASK);
    if (cqe->user_data <= MARK) {
        uring_of(be)->marks -= cqe->user_data == MARK;
        return false;
    }
    SLUICE_CHECK(op->magic == SLUICE_OP_MAGIC);
    if (op->generation != (uint16_t)(cqe->user_data >> GENERATION_SHIFT))
        return false;
    bool more = cqe->flags & IORING_CQE_F_MORE;
    out->op = op;
    out->result = op->region ? uring_region_result(op->region, cqe) : cqe->res;
    out->more = more;
    if (op->flags & SLUICE_OP_POOLED)
        uring_pool_result(uring_of(be), cqe, out);
    if (!more) {
        unlink_op(op);
        sluice_op_end(be, op);
    }
    return true;
}

static int take_ready(struct uring *u, struct sluice_completion *out, int max)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    int n = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        if (n == max)
            break;
        seen++;
        n += take(&u->base, cqe, &out[n]);
    }
    io_uring_cq_advance(&u->ring, seen);
    return n;
}

/* SENDs that left are told before what came meanwhile, if there is room for all of it: the answer
 * to what came finds its connection free to send. */
static int reap(struct uring *u, struct sluice_completion *out, int max)
{
    note_quiet(u);
    int told = tell_quiet(u, out, max);
    if (told)
        return told + take_ready(u, out + told, max - told);
    unsigned ready = io_uring_cq_ready(&u->ring), quiet = 0;
    if (ready == 0)
        return 0;
    for (const struct sluice_op *op = u->quiet_sent; op; op = op->next)
        quiet++;
    if (ready + quiet > (unsigned)max)
        return take_ready(u, out, max);
    int n = take_ready(u, out + quiet, (int)ready);
    told = tell_quiet(u, out, (int)quiet);
    if (told < (int)quiet) /* it is not their turn yet, or one has failed, which was told */
        memmove(out + told, out + quiet, (size_t)n * sizeof(*out));
    return n + told;
}

/* With deferred task work completions appear only in an enter; the flag says when one is worth it.
 */
static bool enter_is_due(const struct uring *u)
{
    unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) || io_uring_sq_ready(&u->ring);
}

static int wait(struct uring *u, int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return io_uring_submit_and_wait(&u->ring, 1);
    struct io_uring_cqe *cqe;
    struct __kernel_timespec ts = {.tv_sec = timeout_ns / 1000000000,
                                   .tv_nsec = timeout_ns % 1000000000};
    return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
}

/* EBUSY: the CQ is full, reap first. The others: nothing was lost, the next call goes on. */
static bool passing(int err)
{
    return err == -EINTR || err == -ETIME || err == -EBUSY || err == -EAGAIN;
}

static int uring_poll(struct sluice_backend *be, int64_t timeout_ns, struct sluice_completion *out,
                      int max)
{
    struct uring *u = uring_of(be);
    int err = enable(u);
    if (err)
        return err;
    int n = reap(u, out, max);
    if (n == max)
        return n;
    retry_cancels(u);
    bool waits = n == 0 && timeout_ns != 0 && !u->quiet_wanted && !u->cancels;
    if (!waits && !enter_is_due(u))
        return n;
    u->sends_before = u->sends;
    u->sends = 0;
    err = waits ? wait(u, timeout_ns) : io_uring_submit_and_get_events(&u->ring);
    if (err < 0 && !passing(err))
        return n ? n : err;
    return n + reap(u, out + n, max - n);
}

/* Not the ring's own descriptor: nobody who waits on that is woken by deferred task work (seen on
 * 6.18), only a registered eventfd is. */
static int open_event(struct uring *u)
{
    if (u->has_event)
        return 0;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int err = io_uring_register_eventfd(&u->ring, fd);
    if (err) {
        close(fd);
        return err;
    }
    u->event_fd = fd;
    u->has_event = true;
    return 0;
}

static int uring_pollable(struct sluice_backend *be, bool *due)
{
    struct uring *u = uring_of(be);
    eventfd_t count;
    int err = enable(u);
    if (!err)
        err = open_event(u);
    if (err)
        return err;
    eventfd_read(u->event_fd, &count);
    retry_cancels(u);
    err = io_uring_submit(&u->ring);
    if (err < 0 && !passing(err))
        return err;
    *due = u->quiet_wanted || u->cancels || io_uring_cq_ready(&u->ring) ||
           enter_is_due(u); /* told before */
    return u->event_fd;
}

static int uring_file_add(struct sluice_backend *be, int fd)
{
    struct uring *u = uring_of(be);
    for (uint32_t i = 0; i < u->files_max; i++) {
        if (u->file_used[i])
            continue;
        int n = io_uring_register_files_update(&u->ring, i, &fd, 1);
        if (n != 1)
            return n < 0 ? n : -EIO;
        u->file_used[i] = 1;
        return (int)i;
    }
    return -ENFILE;
}

/* The slot holds the file: until it is cleared close(2) sends no FIN. */
static void uring_file_remove(struct sluice_backend *be, int file)
{
    struct uring *u = uring_of(be);
    int none = -1;
    SLUICE_CHECK((uint32_t)file < u->files_max && u->file_used[file]);
    io_uring_register_files_update(&u->ring, (unsigned)file, &none, 1);
    u->file_used[file] = 0;
}

const struct sluice_backend_ops sluice_backend_uring = {
    .name = "uring",
    .state_bytes = sizeof(struct uring),
    .init = uring_init,
    .fini = uring_fini,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .poll = uring_poll,
    .now_ns = sluice_kernel_now_ns,
    .file_add = uring_file_add,
    .file_remove = uring_file_remove,
    .region_open = uring_region_open,
    .region_close = uring_region_close,
    .region_lend = uring_region_lend,
    .pool_put = uring_pool_put,
    .pollable = uring_pollable,
    .sockets = &sluice_kernel_sockets,
    .features = uring_features,
};
