/*
 * The wheel. Starting and stopping touch one slot. A slot is spread over the levels below when the
 * first of it is due, and the base is then that time: a timer alone in its slot goes down once,
 * however far away it was, and none more often than there are levels.
 */
#include "wheel.h"
#include "base/check.h"

#include <stddef.h>

#define DIGIT_BITS 6u
#define FIRE_MAX   64  /* in a turn: completions wait behind them */
#define LOOK_MAX   64u /* timers looked at to find the first of a slot */

static uint32_t slot_of(const struct sluice_wheel *wheel, uint64_t due_ns)
{
    uint64_t differs = due_ns ^ wheel->base_ns;
    uint32_t level = differs ? (63u - (uint32_t)__builtin_clzll(differs)) / DIGIT_BITS : 0;
    uint32_t digit = (uint32_t)(due_ns >> (level * DIGIT_BITS)) & (WHEEL_SLOTS - 1);
    return level * WHEEL_SLOTS + digit;
}

/* Of a wheel that is not empty. */
static uint32_t first_slot(const struct sluice_wheel *wheel)
{
    uint32_t level = (uint32_t)__builtin_ctz(wheel->levels);
    return level * WHEEL_SLOTS + (uint32_t)__builtin_ctzll(wheel->used[level]);
}

static void mark_empty(struct sluice_wheel *wheel, uint32_t index)
{
    uint32_t level = index / WHEEL_SLOTS;
    wheel->used[level] &= ~(1ull << (index % WHEEL_SLOTS));
    if (!wheel->used[level])
        wheel->levels &= ~(1u << level);
}

static void append(struct sluice_wheel *wheel, struct sluice_timer *timer)
{
    uint32_t index = slot_of(wheel, timer->due_ns);
    struct sluice_wheel_slot *slot = &wheel->slots[index];
    timer->slot = (uint16_t)index;
    timer->next = NULL;
    timer->prev = slot->last;
    if (slot->last) {
        slot->last->next = timer;
        if (timer->due_ns < slot->least_ns)
            slot->least_ns = timer->due_ns;
    } else {
        slot->first = timer;
        slot->least_ns = timer->due_ns;
        wheel->used[index / WHEEL_SLOTS] |= 1ull << (index % WHEEL_SLOTS);
        wheel->levels |= 1u << (index / WHEEL_SLOTS);
    }
    slot->last = timer;
}

static void take_out(struct sluice_wheel *wheel, struct sluice_timer *timer)
{
    struct sluice_wheel_slot *slot = &wheel->slots[timer->slot];
    if (timer->next)
        timer->next->prev = timer->prev;
    else
        slot->last = timer->prev;
    if (timer->prev)
        timer->prev->next = timer->next;
    else
        slot->first = timer->next;
    if (!slot->first)
        mark_empty(wheel, timer->slot);
}

void sluice_timer_stop(struct sluice_timer *timer)
{
    struct sluice_wheel *wheel = timer->wheel;
    if (!timer->runs)
        return;
    take_out(wheel, timer);
    timer->runs = false;
    wheel->refs -= !timer->unref;
}

/* Where no slot holds now, timers that are started from now on stand lower, and go down less often.
 */
static void advance(struct sluice_wheel *wheel)
{
    if (wheel->levels) {
        uint32_t index = first_slot(wheel);
        uint32_t shift = index / WHEEL_SLOTS * DIGIT_BITS;
        if (wheel->slots[index].least_ns >> shift <= wheel->now_ns >> shift)
            return;
    }
    if (wheel->now_ns > wheel->base_ns)
        wheel->base_ns = wheel->now_ns;
}

void sluice_wheel_start(struct sluice_wheel *wheel, struct sluice_timer *timer, uint64_t due_ns)
{
    sluice_timer_stop(timer);
    if (wheel->base_ns != wheel->now_ns)
        advance(wheel);
    timer->wheel = wheel;
    timer->due_ns = due_ns > wheel->base_ns ? due_ns : wheel->base_ns;
    timer->runs = true;
    wheel->refs += !timer->unref;
    if (!wheel->levels || timer->due_ns < wheel->next_ns)
        wheel->next_ns = timer->due_ns;
    append(wheel, timer);
}

/* The first slot, when its first timer is due: all levels below are empty. */
static void spread(struct sluice_wheel *wheel, uint32_t index)
{
    struct sluice_wheel_slot *slot = &wheel->slots[index];
    struct sluice_timer *timer = slot->first;
    wheel->base_ns = slot->least_ns;
    slot->first = slot->last = NULL;
    mark_empty(wheel, index);
    while (timer) {
        struct sluice_timer *next = timer->next;
        append(wheel, timer);
        timer = next;
    }
}

/* The one that is due first, if it is due; NULL: none. */
static struct sluice_timer *first_due(struct sluice_wheel *wheel, uint64_t now_ns)
{
    while (wheel->levels) {
        uint32_t index = first_slot(wheel);
        const struct sluice_wheel_slot *slot = &wheel->slots[index];
        if (slot->least_ns > now_ns)
            return NULL;
        if (index < WHEEL_SLOTS) { /* one nanosecond each */
            wheel->base_ns = slot->least_ns;
            return slot->first;
        }
        spread(wheel, index);
    }
    return NULL;
}

/* A timer that repeats keeps its grid; what was missed of it is not made up for. */
static void fire(struct sluice_wheel *wheel, struct sluice_timer *timer, uint64_t now_ns)
{
    uint64_t due_ns = timer->due_ns;
    sluice_timer_stop(timer);
    if (timer->repeat_ns) {
        uint64_t last_ns = now_ns - (now_ns - due_ns) % timer->repeat_ns;
        sluice_wheel_start(wheel, timer, sluice_wheel_add(last_ns, timer->repeat_ns));
    }
    timer->fire(timer);
}

bool sluice_wheel_run(struct sluice_wheel *wheel, uint64_t now_ns)
{
    struct sluice_timer *timer = NULL;
    wheel->now_ns = now_ns;
    if (!wheel->levels || wheel->next_ns > now_ns)
        return false;
    bool any = false;
    for (int budget = FIRE_MAX; budget > 0; budget--) {
        timer = first_due(wheel, now_ns);
        if (!timer)
            break;
        fire(wheel, timer, now_ns);
        any = true;
    }
    wheel->next_ns = wheel->levels ? wheel->slots[first_slot(wheel)].least_ns : UINT64_MAX;
    return any;
}

/* A slot's least may be of a timer that was stopped. */
static uint64_t least_of(struct sluice_wheel_slot *slot)
{
    uint64_t least_ns = UINT64_MAX;
    const struct sluice_timer *timer = slot->first;
    for (uint32_t looked = 0; timer && looked < LOOK_MAX; looked++, timer = timer->next) {
        if (timer->due_ns == slot->least_ns)
            return slot->least_ns;
        if (timer->due_ns < least_ns)
            least_ns = timer->due_ns;
    }
    if (!timer)
        slot->least_ns = least_ns;
    return slot->least_ns;
}

uint64_t sluice_wheel_next(struct sluice_wheel *wheel)
{
    if (!wheel->levels)
        return UINT64_MAX;
    wheel->next_ns = least_of(&wheel->slots[first_slot(wheel)]);
    return wheel->next_ns;
}
