/*
 * SENDs on io_uring that post no completion when they took all: they are told all the same,
 * whatever else comes meanwhile, and however much of it.
 */
#include "backends/uring/uring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FLOOD_MAX = 200, TAKEN_MAX = 256, TURNS = 2000, NOBODY = 65534 };

static struct sluice_backend *be;
static struct sluice_op flood[FLOOD_MAX], quiet;
static int events[FLOOD_MAX], pair[2] = {-1, -1};
static int flood_count;
static int32_t sent; /* what the SEND came to */

static void never(struct sluice_op *op, int32_t result, bool more)
{
    (void)op, (void)result, (void)more;
    cr_assert_fail("a backend never calls done()");
}

static void open_pair(void)
{
    close(pair[0]);
    close(pair[1]);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void open_backend(uint32_t ops_max)
{
    const struct sluice_backend_config cfg = {.ops_max = ops_max};
    if (uring_caps()->error || !uring_caps()->quiet)
        cr_skip_test("io_uring: none, or none on which a SEND can be quiet");
    cr_assert_eq(sluice_backend_create(&be, &sluice_backend_uring, &cfg), 0);
    open_pair();
}

static void open_flood(int count, bool is_ready, uint16_t flags)
{
    flood_count = count;
    for (int i = 0; i < count; i++) {
        events[i] = eventfd(is_ready, EFD_CLOEXEC | EFD_NONBLOCK);
        sluice_op_init(&flood[i], SLUICE_OP_POLL, never);
        flood[i].fd = events[i];
        flood[i].flags = flags;
        flood[i].poll.events = POLLIN;
        cr_assert_eq(be->ops->submit(be, &flood[i]), 0);
    }
}

static void send_quietly(void)
{
    static const uint8_t bytes[64];
    sluice_op_init(&quiet, SLUICE_OP_SEND, never);
    quiet.fd = pair[0];
    quiet.flags = SLUICE_OP_WAITALL | SLUICE_OP_NOWAIT;
    quiet.send.addr = bytes;
    quiet.send.bytes = sizeof(bytes);
    cr_assert_eq(be->ops->submit(be, &quiet), 0);
}

/* What ended is submitted anew. True: the SEND was told. */
static bool turn(int max)
{
    struct sluice_completion out[TAKEN_MAX];
    bool told = false;
    int n = be->ops->poll(be, 0, out, max);
    cr_assert_geq(n, 0);
    for (int i = 0; i < n; i++) {
        if (out[i].op == &quiet)
            sent = out[i].result;
        else if (!out[i].more)
            cr_assert_eq(be->ops->submit(be, out[i].op), 0);
        told |= out[i].op == &quiet;
    }
    return told;
}

static void close_all(void)
{
    for (int i = 0; i < flood_count; i++)
        be->ops->cancel(be, &flood[i]);
    for (int i = 0; i < TURNS && be->in_flight; i++) {
        struct sluice_completion out[TAKEN_MAX];
        cr_assert_geq(be->ops->poll(be, 0, out, TAKEN_MAX), 0);
    }
    cr_assert_eq(be->in_flight, 0);
    sluice_backend_destroy(be);
    for (int i = 0; i < flood_count; i++)
        close(events[i]);
    close(pair[0]);
    close(pair[1]);
}

/* Always as many as are taken at a time, put there by any system call. */
static void told_in_a_flood(void)
{
    enum { FLOOD = 4 };
    open_backend(64);
    open_flood(FLOOD, false, SLUICE_OP_MULTI);
    turn(FLOOD);
    send_quietly();
    bool told = false;
    for (int i = 0; i < TURNS && !told; i++) {
        told = turn(FLOOD);
        for (int k = 0; k < FLOOD; k++)
            cr_assert_eq(eventfd_write(events[k], 1), 0);
    }
    cr_assert(told);
    cr_expect_eq(sent, (int32_t)quiet.send.bytes);
    close_all();
}

static void set_up_as(unsigned flags)
{
    ((struct uring_caps *)uring_caps())->setup_flags = flags;
}

Test(quiet, told_in_a_flood)
{
    told_in_a_flood();
}

/* As before 6.1. */
Test(quiet, told_in_a_flood_without_deferred_task_work)
{
    set_up_as(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
    told_in_a_flood();
}

Test(quiet, told_in_a_flood_on_plain_rings)
{
    set_up_as(0);
    told_in_a_flood();
}

/* More is always ready than the CQ has places for. */
Test(quiet, told_while_the_queue_overflows)
{
    const struct rlimit little = {64 << 10, 64 << 10};
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &little), 0);
    if (geteuid() == 0) /* root's memory is not counted */
        cr_assert_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
    prctl(PR_SET_DUMPABLE, 1); /* for LeakSanitizer */
    open_backend(4 * FLOOD_MAX);
    if (!strstr(be->detail, "a small ring"))
        cr_skip_test("this kernel counts no memory of rings: %s", be->detail);
    open_flood(FLOOD_MAX, true, 0);
    for (int i = 0; i < 3; i++)
        turn(TAKEN_MAX);
    for (int i = 0; i < 20; i++) {
        bool told = false, fails = i % 2;
        if (fails)
            cr_assert_eq(shutdown(pair[0], SHUT_WR), 0);
        send_quietly();
        for (int k = 0; k < TURNS && !told; k++)
            told = turn(TAKEN_MAX);
        cr_assert(told);
        cr_expect_eq(sent, fails ? -EPIPE : (int32_t)quiet.send.bytes);
        if (fails)
            open_pair();
    }
    close_all();
}
