/*
 * A loop's timers as its users see them. In what order they fire is the wheel's.
 */
#include "timer.h"
#include "loop.h"
#include "base/check.h"

_Static_assert(sizeof(struct sluice_timer) == 64, "users embed it: its size is part of the ABI");

void sluice_timer_init(struct sluice_timer *timer, struct sluice_loop *loop,
                       void (*fire)(struct sluice_timer *timer), void *user)
{
    *timer = (struct sluice_timer){.wheel = &loop->wheel, .fire = fire, .user = user};
}

void sluice_timer_start(struct sluice_timer *timer, uint64_t in_ns, uint64_t repeat_ns)
{
    const struct sluice_loop *loop = SLUICE_CONTAINER_OF(timer->wheel, struct sluice_loop, wheel);
    timer->repeat_ns = repeat_ns;
    sluice_wheel_start(timer->wheel, timer, sluice_wheel_add(sluice_loop_now_ns(loop), in_ns));
}

static void set_unref(struct sluice_timer *timer, bool unref)
{
    if (timer->runs)
        timer->wheel->refs += (uint32_t)timer->unref - (uint32_t)unref;
    timer->unref = unref;
}

void sluice_timer_unref(struct sluice_timer *timer)
{
    set_unref(timer, true);
}

void sluice_timer_ref(struct sluice_timer *timer)
{
    set_unref(timer, false);
}
