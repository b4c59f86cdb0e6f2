/*
 * Descriptors that are watched, on the backends of this kernel: what happens when there is no room
 * for the op, or the poll fails, is not the end of it.
 */
#include "tests/support/loops.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define OPS_MAX 64

static struct {
    struct sluice_watch watch;
    struct sluice_op ops[OPS_MAX];
    int in[2], quiet[2];
    unsigned calls, gone;
    int32_t last;
    uint32_t taken; /* ops */
    bool take_all, stop;
} t;

static const struct sluice_loop_config small = {.ops_max = OPS_MAX, .idle = SLUICE_IDLE_SLEEP};

#define FOR_EACH_BACKEND FOR_EACH_LOOP(LOOPS_KERNEL, &small)

static void set_up(void)
{
    memset(&t, 0, sizeof(t));
    cr_assert_eq(pipe(t.in), 0);
    cr_assert_eq(pipe(t.quiet), 0);
}

static void tear_down(void)
{
    for (int i = 0; i < 2; i++) {
        close(t.in[i]);
        close(t.quiet[i]);
    }
}

static void turns_for(uint64_t ns)
{
    for (uint64_t end = sluice_loop_now_ns(loop) + ns; sluice_loop_now_ns(loop) < end;)
        cr_assert_geq(sluice_loop_turn(loop), 0);
}

static void ignore(struct sluice_op *op, int32_t result, bool more)
{
    (void)op, (void)result, (void)more;
}

static void take_all_ops(void)
{
    int err = 0;
    while (!err && t.taken < OPS_MAX) {
        struct sluice_op *op = &t.ops[t.taken];
        sluice_op_init(op, SLUICE_OP_POLL, ignore);
        op->fd = t.quiet[0];
        op->poll.events = POLLIN;
        err = loop->be->ops->submit(loop->be, op);
        t.taken += !err;
    }
    cr_assert_eq(err, -EAGAIN);
}

static void give_ops_back(void)
{
    for (uint32_t i = 0; i < t.taken; i++)
        loop->be->ops->cancel(loop->be, &t.ops[i]);
    t.taken = 0;
}

static void on_gone(struct sluice_watch *watch)
{
    cr_expect_eq(watch, &t.watch);
    cr_expect(!watch->telling);
    t.gone++;
}

static void on_ready(struct sluice_watch *watch, int32_t result)
{
    char byte;
    t.calls++;
    t.last = result;
    if (result > 0)
        cr_assert_eq(read(t.in[0], &byte, 1), 1);
    if (t.take_all)
        take_all_ops();
    t.take_all = false;
    if (t.stop)
        sluice_watch_stop(watch, on_gone);
}

static void put(void)
{
    cr_assert_eq(write(t.in[1], "x", 1), 1);
}

TestSuite(watch, .timeout = 60);

Test(watch, every_backend_is_there)
{
    loops_are_all_there();
}

Test(watch, goes_on_when_room_for_an_op_comes_back)
{
    FOR_EACH_BACKEND
    {
        set_up();
        cr_assert_eq(sluice_watch_start(&t.watch, loop, t.in[0], 0, on_ready), 0);
        t.take_all = true;
        put();
        turns_for(5 * SLUICE_NS_PER_MS);
        put();
        turns_for(5 * SLUICE_NS_PER_MS);
        cr_expect_eq(t.calls, 1, "%s: no op, yet told %u times", on, t.calls);
        give_ops_back();
        turns_for(100 * SLUICE_NS_PER_MS);
        cr_expect_eq(t.calls, 2, "%s: told %u times", on, t.calls);
        sluice_watch_stop(&t.watch, on_gone);
        turns_for(5 * SLUICE_NS_PER_MS);
        cr_expect_eq(t.gone, 1);
        tear_down();
    }
}

Test(watch, that_fails_is_told_and_tried_again_ever_more_rarely)
{
    FOR_EACH_BACKEND
    {
        set_up();
        int err = sluice_watch_start(&t.watch, loop, 1000, 0, on_ready); /* no such descriptor */
        turns_for(100 * SLUICE_NS_PER_MS);
        if (!err) {
            cr_expect_eq(t.last, -EBADF, "%s: %d", on, t.last);
            cr_expect(t.calls >= 2 && t.calls <= 8, "%s: %u times", on, t.calls);
        }
        sluice_watch_stop(&t.watch, on_gone);
        turns_for(5 * SLUICE_NS_PER_MS); /* the next try may just have begun */
        cr_expect_eq(t.gone, 1, "%s: gone %u times", on, t.gone);
        tear_down();
    }
}

Test(watch, may_be_stopped_by_what_it_tells)
{
    FOR_EACH_BACKEND
    {
        set_up();
        for (int multi = 0; multi < 2; multi++) {
            t.gone = t.calls = 0;
            t.stop = true;
            cr_assert_eq(
                sluice_watch_start(&t.watch, loop, t.in[0], multi ? SLUICE_OP_MULTI : 0, on_ready),
                0);
            put();
            turns_for(10 * SLUICE_NS_PER_MS);
            put();
            turns_for(10 * SLUICE_NS_PER_MS);
            cr_expect_eq(t.calls, 1, "%s: %u times", on, t.calls);
            cr_expect_eq(t.gone, 1, "%s: gone %u times", on, t.gone);
            char byte;
            cr_assert_eq(read(t.in[0], &byte, 1), 1);
        }
        tear_down();
    }
}
