/*
 * SENDs on another thread's loop. Posts carry them over and back; a connection is not closed before
 * the thread has let go of its descriptor.
 */
#include "remote.h"

#include "thread.h"
#include "base/check.h"

#include <errno.h>

/* Later than anything else that the kernel waits for: where it has to set its clock anew, as for a
 * millisecond, each sleep costs many times what it is worth. */
#define LATE_NS (100 * SLUICE_NS_PER_MS)

static void on_sent(struct sluice_op *op, int32_t result, bool more);
static void send_there(struct sluice_post *post);
static void ended(struct sluice_post *post);
static void stop_there(struct sluice_post *post);
static void gone(struct sluice_post *post);

void sluice_remote_init(struct sluice_remote *r, struct sluice_life *life)
{
    *r = (struct sluice_remote){.life = life,
                                .send.call = send_there,
                                .end.call = ended,
                                .stop.call = stop_there,
                                .gone.call = gone};
    sluice_op_init(&r->op, SLUICE_OP_SEND, on_sent);
}

/* ---- at home ---- */

int sluice_remote_send(struct sluice_remote *r, struct sluice_op *asked)
{
    SLUICE_CHECK(!r->asked);
    if (r->stopping)
        return -EAGAIN;
    if (!r->open) {
        sluice_life_hold(r->life); /* until the thread has let go of the descriptor */
        r->open = true;
        r->fd = r->life->fd;
        r->file = -1;
        r->cancelled = r->polled = false;
    }
    sluice_life_hold(r->life);
    r->asked = asked;
    r->op.send.addr = asked->send.addr;
    r->op.send.bytes = asked->send.bytes;
    r->op.flags = asked->flags;
    atomic_store_explicit(&r->done, false, memory_order_relaxed);
    sluice_loop_post(r->thread->loop, &r->send);
    return 0;
}

bool sluice_remote_look(struct sluice_remote *r)
{
    struct sluice_op *asked = r->asked;
    if (!asked || !atomic_load_explicit(&r->done, memory_order_acquire))
        return false;
    r->asked = NULL;
    asked->done(asked, r->result, false); /* counts it as ended on the connection, too */
    return true;
}

static void ended(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, end);
    atomic_store(&r->told, false);
    sluice_remote_look(r);
}

void sluice_remote_want(struct sluice_remote *r, bool wanted)
{
    atomic_store_explicit(&r->wanted, wanted, memory_order_relaxed);
}

void sluice_remote_stop(struct sluice_remote *r)
{
    if (!r->open || r->stopping)
        return;
    r->stopping = true;
    sluice_loop_post(r->thread->loop, &r->stop);
}

static void gone(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, gone);
    r->open = r->stopping = false;
    sluice_life_end(r->life);
}

void sluice_remote_lost(struct sluice_remote *r, int error)
{
    if (r->op.state == SLUICE_OP_IN_FLIGHT)
        sluice_op_end(r->thread->loop->be, &r->op);
    if (r->asked && !sluice_remote_look(r)) {
        r->result = error;
        atomic_store(&r->done, true);
        sluice_remote_look(r);
    }
    if (r->open)
        gone(&r->gone);
    r->thread = NULL;
}

/* ---- on the thread ---- */

/* A post that reached a loop which had broken runs when that loop is destroyed: nobody waits for
 * it. */
static bool is_lost(const struct sluice_remote *r)
{
    return r->thread == NULL;
}

static void send_there(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, send);
    if (is_lost(r))
        return;
    struct sluice_backend *be = r->thread->loop->be;
    sluice_timer_stop(&r->late);
    if (r->file < 0)
        r->file = be->ops->file_add(be, r->fd);
    r->op.fd = r->fd;
    r->op.file = r->file < 0 ? -1 : r->file;
    int err = be->ops->submit(be, &r->op);
    SLUICE_CHECK(err == 0); /* the thread has no other ops than these */
}

static void tell(struct sluice_remote *r)
{
    if (!atomic_exchange(&r->told, true))
        sluice_loop_post(r->life->loop, &r->end);
}

static void tell_late(struct sluice_timer *timer)
{
    tell(SLUICE_CONTAINER_OF(timer, struct sluice_remote, late));
}

/* An end that changes nothing for anybody need not wake a sleeper: what comes next does, or a
 * timer. Home's half of this is sluice_remote_want(). */
static void on_sent(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(op, struct sluice_remote, op);
    bool whole = result >= 0 && (size_t)result == op->send.bytes; /* r is home's after done */
    (void)more;
    r->result = result;
    atomic_store_explicit(&r->done, true, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (!whole || atomic_load_explicit(&r->wanted, memory_order_relaxed))
        tell(r);
    else
        sluice_loop_start_timer(r->thread->loop, &r->late, LATE_NS, tell_late);
}

/* Whatever the thread has of the descriptor (libev takes it out of its set when it polls next) is
 * given up before anybody closes it and its number is another's. */
static void stop_there(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, stop);
    if (is_lost(r))
        return;
    struct sluice_backend *be = r->thread->loop->be;
    if (r->op.state == SLUICE_OP_IN_FLIGHT) {
        if (!r->cancelled)
            be->ops->cancel(be, &r->op);
        r->cancelled = true;
    } else if (r->polled) {
        sluice_loop_post(r->life->loop, &r->gone);
        return;
    } else {
        sluice_timer_stop(&r->late);
        tell(r); /* the end of the last one comes before */
        if (r->file >= 0)
            be->ops->file_remove(be, r->file);
        r->file = -1;
        r->polled = true;
    }
    sluice_loop_post(r->thread->loop, &r->stop); /* the next turn */
}
