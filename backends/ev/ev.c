/*
 * Ops on readiness: an op is attempted, parked on a watcher where the kernel says "not yet",
 * attempted again when its descriptor is ready. All of it happens in poll(), but for the first
 * attempt of a SEND; libev's callbacks only queue the next attempt.
 */
#include "backends/ev/ev.h"
#include "base/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#define REFUSED_WITHIN_NS 10000000 /* told so late at most */

static struct libev *libev_of(struct sluice_backend *be)
{
    SLUICE_CHECK(be->ops == &sluice_backend_ev);
    return (struct libev *)be;
}

/* ---- what libev cannot mend ---- */

/* libev has one callback for all loops of the process; without one it prints and aborts. */
static _Thread_local int libev_errno;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void note_error(const char *what) EV_NOEXCEPT
{
    (void)what;
    libev_errno = errno;
}

static void take_errors(void)
{
    ev_set_syserr_cb(note_error);
}

/* ---- the queue of attempts ---- */

static void enqueue(struct libev *ev, struct libev_slot *slot)
{
    if (slot->queued)
        return;
    slot->queued = true;
    slot->next = NULL;
    *ev->queue_end = slot;
    ev->queue_end = &slot->next;
}

static struct libev_slot *dequeue(struct libev *ev)
{
    struct libev_slot *slot = ev->queue;
    ev->queue = slot->next;
    if (!ev->queue)
        ev->queue_end = &ev->queue;
    slot->queued = false;
    return slot;
}

/* EV_ERROR: the mechanism refused the descriptor, and libev has stopped the watcher. What was told
 * in this turn still stands, for its owner has yet to hear of it: not told twice. */
static void on_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct libev *ev = ev_userdata(loop);
    struct libev_slot *slot = (struct libev_slot *)watcher;
    if (events & EV_ERROR)
        slot->unwatched = true;
    else
        slot->ready = (short)((events & EV_READ ? POLLIN : 0) | (events & EV_WRITE ? POLLOUT : 0));
    if (events & EV_ERROR || slot->told_turn != ev->turn)
        enqueue(ev, slot);
}

static void park(struct libev *ev, struct libev_slot *slot)
{
    if (ev_is_active(&slot->watcher))
        return;
    ev->asked = true;
    ev_io_set(&slot->watcher, slot->op->fd, libev_interest(slot->op));
    ev_io_start(ev->loop, &slot->watcher);
}

/* ---- attempts ---- */

/* What has left has left, whatever ends the op. */
static enum libev_outcome give_up(const struct libev_slot *slot, int error, int32_t *result)
{
    *result = slot->sent_bytes > 0 ? (int32_t)slot->sent_bytes : -error;
    return LIBEV_END;
}

static enum libev_outcome attempt(struct libev *ev, struct libev_slot *slot,
                                  struct sluice_completion *out)
{
    if (slot->sent) {
        out->result = slot->sent_result;
        return LIBEV_END;
    }
    if (slot->cancelled)
        return give_up(slot, ECANCELED, &out->result);
    if (slot->op->kind != SLUICE_OP_READ && slot->op->fd >= ev->base.fd_limit)
        return give_up(slot, ERANGE, &out->result);
    enum libev_outcome outcome = libev_attempt(&ev->base.pool, slot, &out->result, &out->buffer);
    if (!slot->unwatched)
        return outcome;
    if (outcome == LIBEV_PARK) /* a limit of the kernel's; libev does not say which */
        return give_up(slot, ENOMEM, &out->result);
    return LIBEV_END;
}

static void end(struct libev *ev, struct libev_slot *slot)
{
    struct sluice_op *op = slot->op;
    ev_io_stop(ev->loop, &slot->watcher);
    slot->op = NULL;
    slot->next = ev->free;
    ev->free = slot;
    sluice_op_end(&ev->base, op);
}

/* True: there is a completion. */
static bool run(struct libev *ev, struct libev_slot *slot, struct sluice_completion *out)
{
    *out = (struct sluice_completion){.op = slot->op};
    enum libev_outcome outcome = attempt(ev, slot, out);
    out->more = outcome != LIBEV_END;
    switch (outcome) {
    case LIBEV_PARK:
        park(ev, slot);
        return false;
    case LIBEV_TELL:
        slot->told_turn = ev->turn;
        park(ev, slot);
        return true;
    case LIBEV_TELL_MORE:
        enqueue(ev, slot);
        return true;
    case LIBEV_END:
        end(ev, slot);
        return true;
    }
    return false;
}

static int run_queue(struct libev *ev, struct sluice_completion *out, int max)
{
    int n = 0;
    while (n < max && ev->queue)
        n += run(ev, dequeue(ev), &out[n]);
    return n;
}

/* It leaves now, whatever stands before the next poll(): a peer may be waiting for it. */
static void send_now(struct libev *ev, struct libev_slot *slot)
{
    struct sluice_completion c = {.op = slot->op};
    slot->sent = attempt(ev, slot, &c) == LIBEV_END;
    slot->sent_result = c.result;
    if (slot->sent)
        enqueue(ev, slot);
    else
        park(ev, slot);
}

/* ---- the contract ---- */

static int libev_submit(struct sluice_backend *be, struct sluice_op *op)
{
    struct libev *ev = libev_of(be);
    struct libev_slot *slot = ev->free;
    if (!slot)
        return -EAGAIN;
    sluice_op_begin(be, op);
    ev->free = slot->next;
    slot->op = op;
    slot->sent_bytes = 0;
    slot->told_turn = 0;
    slot->cancelled = slot->connecting = slot->unwatched = slot->sent = false;
    slot->ready = 0;
    op->backend_word = (uint64_t)(slot - ev->slots);
    if (op->kind == SLUICE_OP_RECV && op->region) {
        SLUICE_CHECK(op->region->lent > op->region->pos);
        SLUICE_CHECK((op->flags & SLUICE_OP_MULTI) || op->region->one_shot);
        slot->region_pos = op->region->pos;
    }
    if (op->kind == SLUICE_OP_SEND)
        send_now(ev, slot);
    else
        enqueue(ev, slot);
    return 0;
}

static void libev_cancel(struct sluice_backend *be, struct sluice_op *op)
{
    struct libev *ev = libev_of(be);
    if (op->state != SLUICE_OP_IN_FLIGHT)
        return;
    struct libev_slot *slot = &ev->slots[op->backend_word];
    SLUICE_CHECK(slot->op == op);
    slot->cancelled = true;
    enqueue(ev, slot);
}

/* Ask for what is ready: at once, or when there is something. */
static int look(struct libev *ev, int64_t timeout_ns)
{
    ev->timed_out = false;
    if (timeout_ns > 0) {
        ev_now_update(ev->loop); /* it counts from when it looked last */
        ev_timer_set(&ev->timer, (double)timeout_ns / 1e9, 0);
        ev_timer_start(ev->loop, &ev->timer);
    }
    libev_errno = 0;
    ev_run(ev->loop, timeout_ns == 0 ? EVRUN_NOWAIT : EVRUN_ONCE);
    ev_timer_stop(ev->loop, &ev->timer);
    return -libev_errno;
}

/* That the mechanism refuses a descriptor libev finds out on its way to sleep, and tells when it
 * wakes: for what was asked for since, the first sleep is a short one. */
static int sleep_until_ready(struct libev *ev, int64_t timeout_ns)
{
    bool in_two = ev->asked && (timeout_ns < 0 || timeout_ns > REFUSED_WITHIN_NS);
    ev->asked = false;
    int err = look(ev, in_two ? REFUSED_WITHIN_NS : timeout_ns);
    if (!in_two || err || !ev->timed_out || ev->queue)
        return err;
    return look(ev, timeout_ns < 0 ? timeout_ns : timeout_ns - REFUSED_WITHIN_NS);
}

static int libev_poll(struct sluice_backend *be, int64_t timeout_ns, struct sluice_completion *out,
                      int max)
{
    struct libev *ev = libev_of(be);
    ev->turn++;
    int n = run_queue(ev, out, max);
    ev->looked = n == 0 || !ev->looked; /* what ended at once is told at once, every other time */
    if (n == max || !ev->looked)
        return n;
    int err = n > 0 || timeout_ns == 0 ? look(ev, 0) : sleep_until_ready(ev, timeout_ns);
    n += run_queue(ev, out + n, max - n);
    return n > 0 ? n : err;
}

/* What changed is put to the kernel only when libev's loop runs. No descriptor speaks for what is
 * queued. */
static int libev_pollable(struct sluice_backend *be, bool *due)
{
    struct libev *ev = libev_of(be);
    int fd = libev_descriptor(ev);
    int err = fd < 0 ? fd : look(ev, 0);
    *due = ev->queue != NULL;
    return err ? err : fd;
}

static int libev_file_add(struct sluice_backend *be, int fd)
{
    (void)be, (void)fd;
    return -ENFILE; /* a descriptor is as short as it gets */
}

static void libev_file_remove(struct sluice_backend *be, int file)
{
    (void)be;
    SLUICE_CHECK(file < 0);
}

static int libev_region_open(struct sluice_backend *be, struct sluice_region *region)
{
    (void)be;
    region->lent = region->pos;
    region->slice_bytes = 1;
    return 0;
}

static void libev_region_close(struct sluice_backend *be, struct sluice_region *region)
{
    (void)be, (void)region;
}

static uint64_t libev_region_lend(struct sluice_backend *be, struct sluice_region *region,
                                  uint64_t limit)
{
    (void)be;
    if (limit > region->lent)
        region->lent = limit;
    return region->lent;
}

/* ---- life ---- */

static void on_time(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct libev *ev = ev_userdata(loop);
    (void)timer, (void)events;
    ev->timed_out = true;
}

/* libev's lists grow as they are used. Once at their longest they never allocate again, except
 * those by descriptor, when one is higher than any before. */
static void warm_up(struct libev *ev)
{
    for (uint32_t i = 0; i < ev->base.ops_max; i++) {
        ev_io *watcher = &ev->slots[i].watcher;
        ev_io_set(watcher, (int)i, EV_READ);
        ev_io_start(ev->loop, watcher);
        ev_feed_event(ev->loop, watcher, EV_READ);
    }
    for (uint32_t i = 0; i < ev->base.ops_max; i++) /* before libev has asked the kernel for any */
        ev_io_stop(ev->loop, &ev->slots[i].watcher);
    look(ev, 1);
}

static void init_slots(struct libev *ev)
{
    for (uint32_t i = ev->base.ops_max; i-- > 0;) {
        struct libev_slot *slot = &ev->slots[i];
        ev_init(&slot->watcher, on_ready);
        slot->next = ev->free;
        ev->free = slot;
    }
}

static int libev_init(struct sluice_backend *be, const struct sluice_backend_config *cfg)
{
    struct libev *ev = libev_of(be);
    if (cfg->napi_busy_poll_us || cfg->sqpoll_idle_ms)
        return -ENOTSUP;
    pthread_once(&once, take_errors);
    ev->slots = calloc(cfg->ops_max, sizeof(*ev->slots));
    if (!ev->slots)
        return -ENOMEM;
    int err = libev_open_loop(ev, cfg->event);
    if (err) {
        free(ev->slots);
        return err;
    }
    ev->queue_end = &ev->queue;
    ev_set_userdata(ev->loop, ev);
    ev_ref(ev->loop); /* it waits even where nothing is watched */
    ev_init(&ev->timer, on_time);
    init_slots(ev);
    warm_up(ev);
    return 0;
}

static void libev_fini(struct sluice_backend *be)
{
    struct libev *ev = libev_of(be);
    ev_loop_destroy(ev->loop);
    free(ev->slots);
}

const struct sluice_backend_ops sluice_backend_ev = {
    .name = "ev",
    .state_bytes = sizeof(struct libev),
    .init = libev_init,
    .fini = libev_fini,
    .submit = libev_submit,
    .cancel = libev_cancel,
    .poll = libev_poll,
    .now_ns = sluice_kernel_now_ns,
    .file_add = libev_file_add,
    .file_remove = libev_file_remove,
    .region_open = libev_region_open,
    .region_close = libev_region_close,
    .region_lend = libev_region_lend,
    .pool_put = sluice_pool_put,
    .pollable = libev_pollable,
    .sockets = &sluice_kernel_sockets,
    .features = libev_features,
};
