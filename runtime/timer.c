/*
 * Timers of one loop: a list sorted by due time.
 */
#include "timer.h"

#include <stddef.h>

void sluice_timer_stop(struct sluice_timer *timer)
{
    if (!timer->link)
        return;
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->link = NULL;
    timer->next = NULL;
}

void sluice_timer_start(struct sluice_timers *timers, struct sluice_timer *timer, uint64_t due_ns,
                        void (*fire)(struct sluice_timer *timer))
{
    sluice_timer_stop(timer);
    timer->due_ns = due_ns;
    timer->fire = fire;
    struct sluice_timer **at = &timers->first;
    while (*at && (*at)->due_ns <= due_ns)
        at = &(*at)->next;
    timer->next = *at;
    timer->link = at;
    if (timer->next)
        timer->next->link = &timer->next;
    *at = timer;
}

bool sluice_timers_run(struct sluice_timers *timers, uint64_t now_ns)
{
    bool any = false;
    /* One that is started again inside its call is due later than now, or the next turn's. */
    for (int budget = 64; budget > 0; budget--) {
        struct sluice_timer *timer = timers->first;
        if (!timer || timer->due_ns > now_ns)
            break;
        sluice_timer_stop(timer);
        timer->fire(timer);
        any = true;
    }
    return any;
}

uint64_t sluice_timers_next(const struct sluice_timers *timers)
{
    return timers->first ? timers->first->due_ns : UINT64_MAX;
}
