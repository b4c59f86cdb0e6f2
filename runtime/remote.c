/*
 * SENDs on another thread's loop. Posts carry them over and back; a connection is not closed before
 * the thread has let go of its descriptor.
 */
#include "remote.h"

#include "thread.h"
#include "base/check.h"

#include <errno.h>

static void on_sent(struct sluice_op *op, int32_t result, bool more);
static void send_there(struct sluice_post *post);
static void ended(struct sluice_post *post);
static void stop_there(struct sluice_post *post);
static void gone(struct sluice_post *post);

void sluice_remote_init(struct sluice_remote *r, struct sluice_conn *conn)
{
    *r = (struct sluice_remote){.conn = conn,
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
        sluice_conn_hold(r->conn); /* until the thread has let go of the descriptor */
        r->open = true;
        r->fd = r->conn->fd;
        r->file = -1;
        r->cancelled = r->polled = false;
    }
    sluice_conn_hold(r->conn);
    r->asked = asked;
    r->op.send.addr = asked->send.addr;
    r->op.send.bytes = asked->send.bytes;
    r->op.flags = asked->flags;
    sluice_loop_post(r->thread->loop, &r->send);
    return 0;
}

static void ended(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, end);
    struct sluice_op *asked = r->asked;
    r->asked = NULL;
    asked->done(asked, r->result, false); /* counts it as ended on the connection, too */
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
    sluice_conn_end(r->conn);
}

void sluice_remote_lost(struct sluice_remote *r, int error)
{
    if (r->op.state == SLUICE_OP_IN_FLIGHT)
        sluice_op_end(r->thread->loop->be, &r->op);
    r->result = error;
    if (r->asked)
        ended(&r->end);
    if (r->open)
        gone(&r->gone);
    r->thread = NULL;
}

/* ---- on the thread ---- */

static void send_there(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, send);
    struct sluice_backend *be = r->thread->loop->be;
    if (r->file < 0)
        r->file = be->ops->file_add(be, r->fd);
    r->op.fd = r->fd;
    r->op.file = r->file < 0 ? -1 : r->file;
    int err = be->ops->submit(be, &r->op);
    SLUICE_CHECK(err == 0); /* the thread has no other ops than these */
}

static void on_sent(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(op, struct sluice_remote, op);
    (void)more;
    r->result = result;
    sluice_loop_post(r->conn->loop, &r->end);
}

/* Whatever the thread has of the descriptor (libev takes it out of its set when it polls next) is
 * given up before anybody closes it and its number is another's. */
static void stop_there(struct sluice_post *post)
{
    struct sluice_remote *r = SLUICE_CONTAINER_OF(post, struct sluice_remote, stop);
    struct sluice_backend *be = r->thread->loop->be;
    if (r->op.state == SLUICE_OP_IN_FLIGHT) {
        if (!r->cancelled)
            be->ops->cancel(be, &r->op);
        r->cancelled = true;
    } else if (r->polled) {
        sluice_loop_post(r->conn->loop, &r->gone);
        return;
    } else {
        if (r->file >= 0)
            be->ops->file_remove(be, r->file);
        r->file = -1;
        r->polled = true;
    }
    sluice_loop_post(r->thread->loop, &r->stop); /* the next turn */
}
