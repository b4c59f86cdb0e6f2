/*
 * What this kernel's io_uring does, and does correctly: asked once per process by trying it over a
 * socketpair, never by version. 6.13.11 to 6.14.8, say, take incremental buffers but reorder them.
 */
#include "backends/uring/uring.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFERRED                                                                           \
    (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | \
     IORING_SETUP_SUBMIT_ALL)
#define COOPERATIVE \
    (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL)

#define TRIAL_SLICE 4096u
#define TRIAL_BYTES (2ull * TRIAL_SLICE)

static struct uring_caps caps;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint8_t pattern(unsigned i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* EINVAL: this kernel is older than the flags; try fewer. */
static int open_ring(struct io_uring *ring)
{
    static const unsigned ladder[] = {DEFERRED, COOPERATIVE, 0};
    int err = -EINVAL;
    for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]) && err == -EINVAL; i++) {
        err = uring_setup(ring, 8, ladder[i], 0);
        caps.setup_flags = ladder[i];
    }
    return err;
}

static bool send_in_odd_pieces(int fd)
{
    static const size_t pieces[] = {1000, 3001, 999, 1, 3191};
    uint8_t bytes[TRIAL_BYTES];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = pattern(i);
    size_t at = 0;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        if (send(fd, bytes + at, pieces[i], MSG_NOSIGNAL) != (ssize_t)pieces[i])
            return false;
        at += pieces[i];
    }
    return at == sizeof(bytes);
}

struct trial {
    struct sluice_region region;
    uint64_t got;
    bool ended, in_order;
};

static void take_cqes(struct trial *t, struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        n++;
        int32_t res = uring_region_result(&t->region, cqe);
        if (res > 0)
            t->got += (uint64_t)res;
        else if (res != -ENOBUFS)
            t->in_order = false;
        if (!(cqe->flags & IORING_CQE_F_MORE))
            t->ended = true;
    }
    io_uring_cq_advance(ring, n);
}

/* Receive all of it; true if every byte is where it belongs. */
static bool receive(struct trial *t, struct uring *u, int fd)
{
    struct sluice_op op = {
        .kind = SLUICE_OP_RECV, .flags = SLUICE_OP_MULTI, .fd = fd, .region = &t->region};
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    uring_region_prep(u, sqe, &op);
    for (int turns = 0; turns < 20 && !t->ended; turns++) {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec ts = {.tv_nsec = 10000000};
        io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
        take_cqes(t, &u->ring);
        if (t->got == TRIAL_BYTES && !u->caps.credit)
            break; /* without credit it ends when more comes and no buffer is left */
    }
    if (t->got != TRIAL_BYTES || !t->in_order)
        return false;
    for (unsigned i = 0; i < TRIAL_BYTES; i++)
        if (t->region.base[i] != pattern(i))
            return false;
    return true;
}

/* One trial of a multishot receive into two slices; with_credit: it must end by itself. */
static bool try_region(bool with_credit)
{
    struct uring u = {.caps = caps};
    struct trial t = {.in_order = true};
    static uint8_t memory[TRIAL_BYTES];
    int pair[2];
    bool good = false;
    if (uring_setup(&u.ring, 8, caps.setup_flags, 0))
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        io_uring_queue_exit(&u.ring);
        return false;
    }
    memset(memory, 0, sizeof(memory));
    t.region = (struct sluice_region){.base = memory, .bytes = TRIAL_BYTES};
    u.caps.credit = with_credit;
    if (uring_region_open_inc(&u, &t.region, TRIAL_SLICE) == 0) {
        u.regions[0] = &t.region;
        uring_region_lend(&u.base, &t.region, TRIAL_BYTES);
        good = send_in_odd_pieces(pair[1]) && receive(&t, &u, pair[0]);
        if (with_credit)
            good = good && t.ended;
        uring_region_close(&u.base, &t.region);
    }
    close(pair[0]);
    close(pair[1]);
    io_uring_queue_exit(&u.ring);
    return good;
}

/* Two sends, a buffer each, of one receive. */
static bool try_pool(void)
{
    struct uring u = {.caps = caps};
    int pair[2], got = 0;
    if (uring_setup(&u.ring, 8, caps.setup_flags, 0))
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        io_uring_queue_exit(&u.ring);
        return false;
    }
    static uint8_t memory[TRIAL_BYTES];
    u.base.pool = (struct sluice_pool){.base = memory, .count = 2, .bytes = TRIAL_SLICE};
    u.caps.pool_multi = true;
    if (uring_pool_open(&u) == 0) {
        const struct sluice_op op = {
            .kind = SLUICE_OP_RECV, .flags = SLUICE_OP_MULTI | SLUICE_OP_POOLED, .fd = pair[0]};
        uring_pool_prep(&u, io_uring_get_sqe(&u.ring), &op);
        for (; got < 2 && send(pair[1], "x", 1, MSG_NOSIGNAL) == 1; got++) {
            struct io_uring_cqe *cqe;
            struct __kernel_timespec ts = {.tv_nsec = 10000000};
            io_uring_submit_and_wait_timeout(&u.ring, &cqe, 1, &ts, NULL);
            if (io_uring_peek_cqe(&u.ring, &cqe) || cqe->res != 1 ||
                !(cqe->flags & IORING_CQE_F_MORE) || !(cqe->flags & IORING_CQE_F_BUFFER))
                break;
            io_uring_cqe_seen(&u.ring, cqe);
        }
        uring_pool_close(&u);
    }
    close(pair[0]);
    close(pair[1]);
    io_uring_queue_exit(&u.ring);
    return got == 2;
}

static void find_out(void)
{
    struct io_uring ring;
    caps.error = open_ring(&ring);
    if (caps.error)
        return;
    caps.quiet = ring.features & IORING_FEAT_CQE_SKIP;
    caps.files = io_uring_register_files_sparse(&ring, 1) == 0;
    io_uring_queue_exit(&ring);
    caps.inc_buffers = try_region(false);
    caps.credit = caps.inc_buffers && try_region(true);
    caps.pool_multi = try_pool();
}

const struct uring_caps *uring_caps(void)
{
    pthread_once(&once, find_out);
    return &caps;
}

static int add(struct sluice_backend_feature *out, int n, int max, const char *name, bool have,
               const char *detail)
{
    if (n >= max)
        return n;
    out[n].name = name;
    out[n].have = have;
    snprintf(out[n].detail, sizeof(out[n].detail), "%s", detail);
    return n + 1;
}

int uring_features(struct sluice_backend_feature *out, int max)
{
    const struct uring_caps *c = uring_caps();
    bool up = c->error == 0;
    int n = add(out, 0, max, "io_uring", up,
                up                    ? "usable"
                : c->error == -ENOSYS ? "ENOSYS: not in this kernel, or hidden by seccomp"
                : c->error == -EPERM  ? "EPERM: kernel.io_uring_disabled or seccomp refuses it"
                : c->error == -ENOMEM ? "ENOMEM: raise RLIMIT_MEMLOCK"
                                      : strerror(-c->error));
    n = add(out, n, max, "io_uring.defer_taskrun",
            up && (c->setup_flags & IORING_SETUP_DEFER_TASKRUN),
            "completions run when the loop asks (Linux 6.1)");
    n = add(out, n, max, "io_uring.coop_taskrun",
            up && (c->setup_flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)),
            "no interrupts for completions (Linux 5.19)");
    n = add(out, n, max, "io_uring.inc_buffers", c->inc_buffers,
            "multishot receive straight into the inbox, tried and in order (Linux 6.12)");
    n = add(out, n, max, "io_uring.receive_credit", c->credit,
            "a multishot receive ends by itself when the inbox is full");
    n = add(out, n, max, "io_uring.quiet_sends", c->quiet,
            "one system call sends and waits for the answer (Linux 5.17)");
    n = add(out, n, max, "io_uring.multishot_receive", c->pool_multi,
            "one receive per connection into a shared pool of buffers (Linux 6.0)");
    return add(out, n, max, "io_uring.registered_files", c->files, "direct descriptors");
}
