/*
 * Sending on a connection: a bounded queue of copies, one SEND at a time, and what comes behind the
 * last byte: FIN or close. Reading the files that are sent is conn_file.c's.
 */
#include "conns.h"
#include "base/check.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define SPAN_MAX (1u << 30) /* a completion's result is an int32_t */

static void on_send(struct sluice_op *op, int32_t result, bool more);
static void on_room(struct sluice_op *op, int32_t result, bool more);

/* ---- the queue ---- */

/* TLS has it encrypted, in a ring of its own. */
static size_t queued(const struct sluice_conn *c)
{
    const struct sluice_tls_session *s = c->tls && sluice_conn_seals(c) ? c->tls->session : NULL;
    return s ? (size_t)(s->out_tail - s->out_head) : c->queue.tail - c->queue.head;
}

/* What a writer has to wait for: of the caller's own only what it left to us. */
static size_t waiting(const struct sluice_conn *c)
{
    return queued(c) + c->lease_bytes;
}

/* The one used last is the one in the caches. */
static void lend_queue(struct sluice_conn *c)
{
    struct sluice_conns *conns = c->conns;
    SLUICE_CHECK(conns->queue_free_count > 0); /* there is one for each connection */
    uint32_t i = conns->queue_free[--conns->queue_free_count];
    c->queue = (struct conn_queue){.base = conns->queues + (size_t)i * conns->queue_bytes};
}

static void drop_queue(struct sluice_conn *c)
{
    struct sluice_conns *conns = c->conns;
    if (!c->queue.base)
        return;
    size_t at = (size_t)(c->queue.base - conns->queues);
    conns->queue_free[conns->queue_free_count++] =
        (uint32_t)(at >> __builtin_ctz(conns->queue_bytes)); /* a power of two */
    c->queue = (struct conn_queue){0};
}

/* All of it, where nothing waits in it. */
struct iovec sluice_conn_queue_room(struct sluice_conn *c)
{
    SLUICE_CHECK(c->queue.head == c->queue.tail);
    if (!c->queue.base)
        lend_queue(c);
    c->queue.head = c->queue.tail = 0;
    return (struct iovec){.iov_base = c->queue.base, .iov_len = c->conns->queue_bytes};
}

static void put(struct sluice_conn *c, const uint8_t *data, size_t bytes)
{
    if (!c->queue.base)
        lend_queue(c);
    uint32_t size = c->conns->queue_bytes;
    uint32_t at = c->queue.tail & (size - 1);
    size_t first = bytes < size - at ? bytes : size - at; /* the rest from its beginning */
    memcpy(c->queue.base + at, data, first);
    if (bytes > size - at)
        memcpy(c->queue.base, data + first, bytes - first);
    c->queue.tail += (uint32_t)bytes;
}

/* ---- what leaves next ---- */

/* The caller's bytes stand at a place in the queue's: those before it leave first. */
static bool is_senders_turn(const struct sluice_conn *c)
{
    return c->sends && c->sends->data && !sluice_conn_seals(c) && c->sends->at == c->queue.head;
}

/* Its first bytes, up to this place in it. */
static size_t queue_span(const struct sluice_conn *c, uint32_t end, const uint8_t **data)
{
    uint32_t size = c->conns->queue_bytes;
    uint32_t at = c->queue.head & (size - 1), bytes = end - c->queue.head;
    *data = c->queue.base + at;
    return bytes < size - at ? bytes : size - at;
}

static size_t next_span(const struct sluice_conn *c, const uint8_t **data)
{
    if (sluice_conn_seals(c))
        return c->tls->session ? sluice_tls_output(c->tls->session, data) : 0;
    if (is_senders_turn(c)) {
        *data = (const uint8_t *)c->sends->data + c->sends->taken;
        size_t left = c->sends->bytes - c->sends->taken;
        return left < SPAN_MAX ? left : SPAN_MAX;
    }
    bool is_before = c->sends && c->sends->data;
    return queue_span(c, is_before ? c->sends->at : c->queue.tail, data);
}

/* It is the caller's again. */
void sluice_conn_end_send(struct sluice_conn *c, int result)
{
    struct sluice_send *send = c->sends;
    c->sends = send->next;
    if (!c->sends)
        c->sends_end = &c->sends;
    send->done(send, result);
}

/* These left. */
static void taken(struct sluice_conn *c, size_t bytes)
{
    if (c->tls && !sluice_conn_seals(c))
        sluice_offload_sent(&c->tls->offload, bytes, true);
    if (sluice_conn_seals(c)) {
        sluice_tls_sent(c->tls->session, bytes);
        if (c->tls->output_full)
            sluice_conns_due(c, DUE_RECEIVE);
    } else if (is_senders_turn(c)) {
        c->sends->taken += bytes;
        if (c->sends->taken == c->sends->bytes)
            sluice_conn_end_send(c, 0);
    } else {
        c->queue.head += (uint32_t)bytes;
    }
    if (!c->sends && queued(c) == 0)
        drop_queue(c);
}

/* With TLS of ours those of the caller leave as records; done when the last one was made. */
static void pull_sends(struct sluice_conn *c)
{
    while (sluice_conn_seals(c) && c->sends && c->sends->data && sluice_life_is_live(&c->life) &&
           sluice_conn_tls_pull(c, c->sends))
        sluice_conn_end_send(c, 0);
}

void sluice_conn_end_sends(struct sluice_conn *c)
{
    while (c->sends)
        sluice_conn_end_send(c, -ECANCELED);
    drop_queue(c);
}

/* ---- sending ---- */

/* Everything that was written has left. TLS says its end first. */
static void end_sending(struct sluice_conn *c)
{
    if (c->out == OUT_OPEN || c->out == OUT_OVER)
        return;
    if (c->tls && sluice_conn_tls_notify(c)) {
        sluice_conn_flush(c);
        return;
    }
    if (c->out == OUT_CLOSE_DUE) {
        sluice_conn_finish(c);
    } else if (c->out == OUT_FIN_DUE) {
        c->out = OUT_OVER;
        sluice_life_shutdown(&c->life);
        if (c->in == IN_OVER)
            sluice_conn_finish(c);
    }
}

/* The kernel's TLS has no room for a record that is no data. */
static void await_room(struct sluice_conn *c)
{
    sluice_op_init(&c->send_op, SLUICE_OP_POLL, on_room);
    c->send_op.poll.events = POLLOUT;
    c->sending = sluice_life_begin(&c->life, &c->send_op) == 0;
    if (c->sending)
        return;
    sluice_conn_send_again(c);
    sluice_conns_due(c, DUE_SEND);
}

/* Its end changes nothing for anybody but what is written meanwhile, which hurries it. */
static bool may_be_late(const struct sluice_conn *c)
{
    return !c->tls && !c->sends && c->out == OUT_OPEN && !c->wants_drain && !c->waits &&
           c->send_op.send.bytes == queued(c) && c->send_op.send.bytes <= SLUICE_NOWAIT_BYTES_MAX;
}

/* Kernel TLS refuses WAITALL. */
static uint16_t send_flags(const struct sluice_conn *c)
{
    if (c->tls && !sluice_conn_seals(c))
        return 0;
    return may_be_late(c) ? SLUICE_OP_WAITALL | SLUICE_OP_NOWAIT : SLUICE_OP_WAITALL;
}

/* It is next; with TLS that failed nothing is. */
static bool has_file(const struct sluice_conn *c)
{
    return c->sends && !c->sends->data && !(c->tls && c->tls->error.reason);
}

/* What is to be sent waits for what is to be read; but for TLS that failed. */
static bool must_read_first(const struct sluice_conn *c)
{
    return c->sends && c->tls && c->tls->reads_first && !c->tls->error.reason;
}

/* But for what TLS says at its end. */
static bool all_left(const struct sluice_conn *c)
{
    return queued(c) == 0 && !(c->sends && c->sends->data) && !has_file(c);
}

static void send_span(struct sluice_conn *c, const uint8_t *data, size_t bytes)
{
    c->send_op.send.addr = data;
    c->send_op.send.bytes = bytes;
    c->send_op.flags = send_flags(c);
    if (sluice_life_begin(&c->life, &c->send_op))
        sluice_conns_due(c, DUE_SEND); /* no room now: in the next turn */
    else
        c->sending = true;
}

/* Its end is waited for; not where it was sent just now, with all that is due. */
static void hurry(struct sluice_conn *c)
{
    if (!(c->send_op.flags & SLUICE_OP_NOWAIT) || c->hurries || may_be_late(c))
        return;
    c->hurries = true;
    c->conns->hurried++;
}

/* Nothing but bytes of the queue can be next. */
static bool is_simple(const struct sluice_conn *c)
{
    return !c->tls && !c->sends;
}

void sluice_conn_flush(struct sluice_conn *c)
{
    if (c->sending)
        hurry(c);
    if (c->sending || !sluice_life_receives(&c->life))
        return;
    if (is_simple(c) && c->queue.head != c->queue.tail) {
        const uint8_t *data;
        size_t bytes = queue_span(c, c->queue.tail, &data);
        send_span(c, data, bytes);
        return;
    }
    if (c->tls && sluice_conn_offload_say(c, all_left(c))) {
        await_room(c);
        return;
    }
    pull_sends(c);
    const uint8_t *data = NULL;
    size_t bytes = next_span(c, &data);
    if (bytes == 0 && must_read_first(c))
        return;
    if (bytes == 0 && has_file(c)) {
        sluice_conn_read_file(c);
        return;
    }
    if (bytes == 0) {
        if (!c->tls || !sluice_conn_offload_start(c))
            end_sending(c);
        return;
    }
    send_span(c, data, bytes);
}

void sluice_conn_tell_drained(struct sluice_conn *c)
{
    bool has_room = !c->files && !(sluice_conn_seals(c) && (c->sends || c->tls->reads_first)) &&
                    waiting(c) <= c->conns->queue_bytes / 2;
    if (!c->wants_drain || !has_room || c->out != OUT_OPEN || !sluice_life_is_live(&c->life))
        return;
    c->wants_drain = false;
    if (c->events->on_drain)
        c->events->on_drain(c, c->user);
}

/* What TLS failed with is why it ends, also when nobody takes the alert that says so. */
static void send_failed(struct sluice_conn *c, int err)
{
    if (c->tls && err == -EBADMSG)
        sluice_conn_offload_refused(c);
    if (c->tls && c->tls->error.reason)
        sluice_conn_finish(c);
    else
        sluice_life_close(&c->life, sluice_life_reason(-err), -err);
}

/* All that there was to send, and nothing follows. */
static bool left_alone(const struct sluice_conn *c, int32_t result)
{
    return result > 0 && (uint32_t)result == c->queue.tail - c->queue.head && is_simple(c) &&
           c->out == OUT_OPEN && !c->wants_drain;
}

static void on_send(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_conn *c = SLUICE_CONTAINER_OF(op, struct sluice_conn, send_op);
    (void)more;
    c->sending = false;
    c->conns->hurried -= c->hurries;
    c->hurries = false;
    if (left_alone(c, result)) {
        c->waits = false;
        drop_queue(c);
        sluice_life_end(&c->life);
        return;
    }
    c->waits = result == -EAGAIN || (result > 0 && (size_t)result < op->send.bytes);
    if (sluice_life_receives(&c->life) && result < 0 && result != -EAGAIN) {
        send_failed(c, result);
    } else if (sluice_life_receives(&c->life)) {
        taken(c, result > 0 ? (size_t)result : 0);
        sluice_conn_tell_drained(c);
        sluice_conn_flush(c);
    }
    sluice_life_end(&c->life);
}

static void on_room(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_conn *c = SLUICE_CONTAINER_OF(op, struct sluice_conn, send_op);
    (void)result, (void)more;
    sluice_conn_send_again(c);
    sluice_conn_flush(c);
    sluice_life_end(&c->life);
}

/* The op served for something else. */
void sluice_conn_send_again(struct sluice_conn *c)
{
    c->sending = false;
    sluice_op_init(&c->send_op, SLUICE_OP_SEND, on_send);
}

void sluice_conn_send_init(struct sluice_conn *c)
{
    c->queue = (struct conn_queue){0};
    c->sends = NULL;
    c->sends_end = &c->sends;
    c->files = c->lease_bytes = 0;
    c->waits = c->hurries = false;
    sluice_op_init(&c->send_op, SLUICE_OP_SEND, on_send);
}

/* ---- writing ---- */

int sluice_conn_may_send(const struct sluice_conn *c)
{
    SLUICE_CHECK(c->magic == CONN_MAGIC); /* a call after on_close */
    if (c->life.state < SLUICE_CONN_OPEN)
        return -ENOTCONN;
    return c->life.state != SLUICE_CONN_OPEN || c->out != OUT_OPEN ? -EPIPE : 0;
}

int sluice_conn_may_write(struct sluice_conn *c, size_t bytes)
{
    int err = sluice_conn_may_send(c);
    if (err)
        return err;
    if (bytes > c->conns->queue_bytes)
        return -EMSGSIZE;
    /* Encrypted now, or queued where a file is to be, it would overtake that. */
    bool overtakes = c->files || (sluice_conn_seals(c) && c->sends);
    bool fits = sluice_conn_seals(c) ? sluice_conn_tls_has_room(c, bytes)
                                     : bytes <= c->conns->queue_bytes - waiting(c);
    if (fits && !overtakes)
        return 0;
    c->wants_drain = true;
    sluice_conns_due(c, DUE_SEND);
    return -EAGAIN;
}

static void put_all(struct sluice_conn *c, const struct iovec *iov, int iov_count)
{
    for (int i = 0; i < iov_count; i++)
        put(c, iov[i].iov_base, iov[i].iov_len);
}

/* Several pieces are put together in the queue, where nothing is: as one message they are encrypted
 * whole or not at all. */
static int seal(struct sluice_conn *c, const struct iovec *iov, int iov_count, size_t bytes)
{
    const uint8_t *data = iov->iov_base;
    if (iov_count > 1) {
        data = sluice_conn_queue_room(c).iov_base;
        put_all(c, iov, iov_count);
        c->queue.head = c->queue.tail;
    }
    ssize_t n = sluice_conn_tls_write(c, data, bytes);
    if (n < 0)
        return (int)n;
    c->wants_drain |= n == 0;
    SLUICE_CHECK(n == 0 || (size_t)n == bytes); /* there was room */
    return n ? 0 : -EAGAIN;
}

int sluice_conn_writev(struct sluice_conn *c, const struct iovec *iov, int iov_count)
{
    size_t bytes = 0;
    for (int i = 0; i < iov_count; i++)
        bytes += iov[i].iov_len;
    int err = sluice_conn_may_write(c, bytes);
    if (err || bytes == 0)
        return err;
    if (sluice_conn_seals(c))
        err = seal(c, iov, iov_count, bytes);
    else
        put_all(c, iov, iov_count);
    sluice_conns_due(c, DUE_SEND);
    return err;
}

int sluice_conn_write(struct sluice_conn *c, const void *data, size_t bytes)
{
    uint32_t room = c->conns->queue_bytes - (c->queue.tail - c->queue.head);
    if (sluice_conn_may_send(c) == 0 && is_simple(c) && bytes > 0 && bytes <= room) {
        put(c, data, bytes);
        sluice_conns_due(c, DUE_SEND);
        return 0;
    }
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    return sluice_conn_writev(c, &iov, 1);
}

void sluice_conn_append(struct sluice_conn *c, struct sluice_send *send)
{
    send->next = NULL;
    send->taken = 0;
    send->at = c->queue.tail;
    *c->sends_end = send;
    c->sends_end = &send->next;
    sluice_conns_due(c, DUE_SEND);
}

int sluice_conn_send(struct sluice_conn *c, struct sluice_send *send)
{
    int err = sluice_conn_may_send(c);
    if (err)
        return err;
    if (send->bytes == 0 || !send->data || !send->done)
        return -EINVAL;
    sluice_conn_append(c, send);
    return 0;
}

size_t sluice_conn_queued(const struct sluice_conn *c)
{
    SLUICE_CHECK(c->magic == CONN_MAGIC);
    size_t bytes = queued(c);
    for (const struct sluice_send *send = c->sends; send; send = send->next)
        bytes += send->bytes - send->taken;
    return bytes;
}
