/*
 * The rx path away from home. There it receives, publishes and looks for room; all else it brings
 * home, where rx.c goes on as if the receive had ended there.
 */
#include "away.h"

#include "paths.h"
#include "thread.h"
#include "base/check.h"

#include <errno.h>

#define SHOW_NS (100 * SLUICE_NS_PER_MS) /* its cursors, for those who look on */

static struct sluice_rx *of_source(struct sluice_source *src)
{
    return SLUICE_CONTAINER_OF(src, struct sluice_rx, away.source);
}

/* ---- on the thread ---- */

static bool is_recalled(const struct sluice_rx *rx)
{
    return atomic_load_explicit(&rx->away.recalled, memory_order_relaxed);
}

static bool must_go(const struct sluice_rx *rx)
{
    return rx->away.ended || is_recalled(rx) || (sluice_rx_takes_inbox(rx) && rx->ch->inbox.lied);
}

static void unpark(struct sluice_source *src)
{
    struct sluice_rx *rx = of_source(src);
    if (sluice_rx_takes_inbox(rx))
        sluice_inbox_sleep(rx->ch, false);
    else
        atomic_store_explicit(&rx->away.wants_room, false, memory_order_relaxed);
}

/* Nothing of it is in flight here. Whatever the loop has of the descriptor (libev takes it out of
 * its set when it polls next) is given up before home may close it: hence one turn more. */
static void go_home(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->loop->be;
    unpark(&rx->away.source);
    sluice_loop_remove_source(rx->loop, &rx->away.source);
    if (sluice_rx_takes_inbox(rx))
        sluice_inbox_flush(rx->ch);
    be->ops->region_close(be, sluice_rx_region(rx));
    if (rx->away.file >= 0)
        be->ops->file_remove(be, rx->away.file);
    rx->away.polled = false;
    sluice_loop_post(rx->loop, &rx->away.go);
}

static bool work(struct sluice_source *src)
{
    struct sluice_rx *rx = of_source(src);
    bool did = sluice_rx_takes_inbox(rx) && rx->ch->inbox.has_pending &&
               sluice_inbox_flush_pending(rx->ch);
    if (!must_go(rx))
        return sluice_rx_arm(rx) || did;
    if (!rx->armed) {
        go_home(rx);
        return true;
    }
    if (!rx->away.cancelled)
        rx->loop->be->ops->cancel(rx->loop->be, &rx->op);
    rx->away.cancelled = true;
    return true;
}

static void settle(struct sluice_source *src)
{
    struct sluice_rx *rx = of_source(src);
    if (!sluice_rx_takes_inbox(rx))
        return;
    sluice_inbox_flush(rx->ch);
    if (rx->loop->now_ns - rx->away.shown_ns <= SHOW_NS)
        return;
    rx->away.shown_ns = rx->loop->now_ns;
    sluice_inbox_show(rx->ch);
}

static void park(struct sluice_source *src)
{
    struct sluice_rx *rx = of_source(src);
    if (sluice_rx_takes_inbox(rx)) {
        sluice_inbox_show(rx->ch);
        sluice_inbox_flush(rx->ch);
        sluice_inbox_sleep(rx->ch, sluice_rx_is_stalled(rx));
    } else {
        atomic_store_explicit(&rx->away.wants_room, rx->raw_full, memory_order_relaxed);
    }
}

static bool pending(struct sluice_source *src)
{
    return must_go(of_source(src)) || work(src);
}

static void arrive(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->loop->be;
    struct sluice_region *region = sluice_rx_region(rx);
    int err = be->ops->region_open(be, region);
    SLUICE_CHECK(err != -ENOBUFS); /* it is the only one here */
    int file = be->ops->file_add(be, rx->away.fd);
    rx->away.file = file < 0 ? -1 : file;
    if (err)
        sluice_away_ended(rx, err);
    rx->away.source = (struct sluice_source){
        .work = work, .settle = settle, .park = park, .pending = pending, .unpark = unpark};
    sluice_loop_add_source(rx->loop, &rx->away.source);
    work(&rx->away.source);
}

void sluice_away_ended(struct sluice_rx *rx, int32_t result)
{
    rx->away.ended = true;
    rx->away.result = result;
}

void sluice_away_tell(struct sluice_rx *rx)
{
    atomic_store_explicit(&rx->away.seen_cycle, rx->loop->poll_cycle, memory_order_relaxed);
    atomic_store_explicit(&rx->away.stamp_ns, rx->packets.last_ns, memory_order_relaxed);
    sluice_loop_nudge(rx->life->loop);
}

/* ---- going and coming ---- */

static void came_back(struct sluice_rx *rx)
{
    struct sluice_life *life = rx->life;
    struct sluice_backend *be = life->loop->be;
    struct sluice_region *region = sluice_rx_region(rx);
    rx->away.out = false;
    rx->loop = life->loop;
    int err = be->ops->region_open(be, region);
    if (rx->ch->inbox.away) {
        sluice_inbox_came_back(rx->ch);
        rx->events->home(rx->user);
    }
    if (err)
        rx->events->failed(rx->user, -err);
    else if (rx->away.ended)
        sluice_rx_ended(rx, rx->away.result);
    sluice_rx_arm(rx);
    sluice_life_end(life);
}

static void on_back(struct sluice_post *post)
{
    came_back(SLUICE_CONTAINER_OF(post, struct sluice_rx, away.back));
}

static void on_gone(struct sluice_post *post)
{
    struct sluice_rx *rx = SLUICE_CONTAINER_OF(post, struct sluice_rx, away.go);
    if (!rx->away.out) /* the loop had broken; this runs when it is destroyed */
        return;
    if (rx->away.polled)
        sluice_loop_post(rx->life->loop, &rx->away.back);
    else
        sluice_loop_post(rx->loop, &rx->away.go);
    rx->away.polled = true;
}

static void on_arrival(struct sluice_post *post)
{
    struct sluice_rx *rx = SLUICE_CONTAINER_OF(post, struct sluice_rx, away.go);
    post->call = on_gone; /* when it is posted next */
    if (rx->away.out)     /* else as in on_gone() */
        arrive(rx);
}

void sluice_away_leave(struct sluice_rx *rx)
{
    struct sluice_backend *be = rx->loop->be;
    struct sluice_away *away = &rx->away;
    SLUICE_CHECK(!away->out && !rx->armed);
    sluice_life_hold(rx->life);
    be->ops->region_close(be, sluice_rx_region(rx));
    away->out = true;
    away->ended = away->cancelled = false;
    away->fd = rx->life->fd;
    away->go.call = on_arrival;
    away->back.call = on_back;
    atomic_store_explicit(&away->recalled, false, memory_order_relaxed);
    rx->raw_full = false;
    if (sluice_rx_takes_inbox(rx))
        sluice_inbox_leave(rx->ch);
    rx->loop = away->thread->loop;
    sluice_loop_post(rx->loop, &away->go);
}

void sluice_away_recall(struct sluice_rx *rx)
{
    if (!rx->away.out || is_recalled(rx))
        return;
    atomic_store_explicit(&rx->away.recalled, true, memory_order_relaxed);
    sluice_loop_nudge(rx->loop);
}

void sluice_away_use(struct sluice_rx *rx, struct sluice_thread *thread)
{
    rx->away.thread = thread;
    sluice_rx_stop(rx);
}

void sluice_away_release(struct sluice_rx *rx)
{
    atomic_thread_fence(memory_order_seq_cst); /* its half is park() */
    if (atomic_load_explicit(&rx->away.wants_room, memory_order_relaxed))
        sluice_loop_nudge(rx->loop);
}

/* The thread is no more: all of it is home's. */
void sluice_away_lost(struct sluice_rx *rx, int error)
{
    struct sluice_loop *loop = rx->away.thread->loop;
    rx->away.thread = NULL;
    if (!rx->away.out)
        return;
    if (rx->armed)
        sluice_op_end(loop->be, &rx->op);
    rx->armed = false;
    sluice_loop_remove_source(loop, &rx->away.source);
    unpark(&rx->away.source);
    sluice_away_ended(rx, error);
    came_back(rx);
}
