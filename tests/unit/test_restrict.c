/*
 * A ring of ours does what it is for and nothing else, also when somebody else fills in the SQE.
 */
#include "backends/uring/uring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct sluice_backend *be;
static struct io_uring *ring;

static void set_up(void)
{
    const struct sluice_backend_config cfg = {.ops_max = 64};
    struct sluice_completion done[1];
    if (sluice_backend_create(&be, &sluice_backend_uring, &cfg))
        return;
    be->ops->poll(be, 0, done, 1); /* which enables it */
    ring = &((struct uring *)(void *)be)->ring;
}

static void tear_down(void)
{
    sluice_backend_destroy(be);
}

TestSuite(restrict_, .init = set_up, .fini = tear_down, .timeout = 10);

static void need_uring(void)
{
    if (!be)
        cr_skip_test("no io_uring here");
}

static int32_t result_of(const struct io_uring_sqe *sqe)
{
    struct io_uring_cqe *cqe;
    (void)sqe;
    cr_assert_eq(io_uring_submit_and_wait(ring, 1), 1);
    cr_assert_eq(io_uring_peek_cqe(ring, &cqe), 0);
    int32_t result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

Test(restrict_, opens_reads_and_writes_nothing)
{
    static char bytes[16];
    need_uring();
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
    cr_expect_eq(result_of(sqe), -EACCES);
    sqe = io_uring_get_sqe(ring);
    io_uring_prep_read(sqe, 0, bytes, sizeof(bytes), 0);
    cr_expect_eq(result_of(sqe), -EACCES);
    sqe = io_uring_get_sqe(ring);
    io_uring_prep_write(sqe, 1, bytes, sizeof(bytes), 0);
    cr_expect_eq(result_of(sqe), -EACCES);
    sqe = io_uring_get_sqe(ring);
    io_uring_prep_nop(sqe);
    cr_expect_eq(result_of(sqe), -EACCES);
}

Test(restrict_, links_and_drains_nothing)
{
    int pair[2];
    need_uring();
    cr_assert_eq(pipe(pair), 0);
    close(pair[1]);
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_poll_add(sqe, pair[0], 1);
    cr_expect_gt(result_of(sqe), 0);
    sqe = io_uring_get_sqe(ring);
    io_uring_prep_poll_add(sqe, pair[0], 1);
    sqe->flags |= IOSQE_IO_DRAIN;
    cr_expect_eq(result_of(sqe), -EACCES);
    close(pair[0]);
}

Test(restrict_, takes_no_other_credentials)
{
    need_uring();
    cr_expect_eq(
        syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_PERSONALITY, NULL, 0), -1);
    cr_expect_eq(errno, EACCES);
}
