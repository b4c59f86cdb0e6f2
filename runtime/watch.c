/*
 * Watching a descriptor. One failure is not the last word: room for an op comes back.
 */
#include "watch.h"
#include "loop.h"
#include "base/check.h"

#include <poll.h>

#define BACKOFF_MIN_NS (1 * SLUICE_NS_PER_MS)
#define BACKOFF_MAX_NS (1 * SLUICE_NS_PER_S)

static void on_retry(struct sluice_timer *timer);

static void end(struct sluice_watch *watch)
{
    sluice_timer_stop(&watch->timer);
    if (watch->gone)
        watch->gone(watch);
}

static int arm(struct sluice_watch *watch)
{
    int err = watch->loop->be->ops->submit(watch->loop->be, &watch->op);
    watch->armed = !err;
    return err;
}

static void arm_later(struct sluice_watch *watch)
{
    sluice_loop_start_timer(watch->loop, &watch->timer, watch->backoff_ns, on_retry);
    watch->backoff_ns =
        watch->backoff_ns * 2 < BACKOFF_MAX_NS ? watch->backoff_ns * 2 : BACKOFF_MAX_NS;
}

static void on_retry(struct sluice_timer *timer)
{
    struct sluice_watch *watch = SLUICE_CONTAINER_OF(timer, struct sluice_watch, timer);
    if (arm(watch))
        arm_later(watch);
}

static void on_done(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_watch *watch = SLUICE_CONTAINER_OF(op, struct sluice_watch, op);
    watch->armed = more;
    if (!watch->stopped) {
        watch->telling = true;
        watch->ready(watch, result);
        watch->telling = false;
    }
    if (more)
        return;
    if (result >= 0)
        watch->backoff_ns = BACKOFF_MIN_NS;
    if (watch->stopped)
        end(watch);
    else if (result < 0 || arm(watch))
        arm_later(watch);
}

int sluice_watch_start(struct sluice_watch *watch, struct sluice_loop *loop, int fd, uint16_t flags,
                       void (*ready)(struct sluice_watch *watch, int32_t result))
{
    *watch = (struct sluice_watch){.loop = loop, .ready = ready, .backoff_ns = BACKOFF_MIN_NS};
    sluice_op_init(&watch->op, SLUICE_OP_POLL, on_done);
    watch->op.fd = fd;
    watch->op.flags = flags;
    watch->op.poll.events = POLLIN;
    return arm(watch);
}

void sluice_watch_stop(struct sluice_watch *watch, void (*gone)(struct sluice_watch *watch))
{
    SLUICE_CHECK(!watch->stopped);
    watch->stopped = true;
    watch->gone = gone;
    if (watch->armed)
        watch->loop->be->ops->cancel(watch->loop->be, &watch->op);
    else if (!watch->telling)
        end(watch);
}
