/*
 * One connection: its life as the user hears of it, and receiving. Sending is conn_write.c's.
 */
#include "conns.h"
#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct sluice_conn *of_life(struct sluice_life *life)
{
    return SLUICE_CONTAINER_OF(life, struct sluice_conn, life);
}

static struct sluice_backend *backend_of(const struct sluice_conn *c)
{
    return c->conns->loop->be;
}

static void check(const struct sluice_conn *c)
{
    SLUICE_CHECK(c->magic == CONN_MAGIC); /* a call after on_close */
}

/* ---- the end ---- */

static void ended_first(struct sluice_conn *c, enum sluice_reason by)
{
    if (c->end == SLUICE_REASON_NONE)
        c->end = by;
}

void sluice_conn_finish(struct sluice_conn *c)
{
    sluice_life_close(&c->life, c->end, 0);
}

static void drop_held(struct sluice_conn *c)
{
    while (c->held) {
        struct sluice_lease *lease = c->held;
        c->held = lease->next;
        sluice_buf_release(&lease->buf);
    }
    c->held_end = &c->held;
}

/* With TLS there may be something behind it. */
void sluice_conn_told_end(struct sluice_conn *c)
{
    c->in = IN_OVER;
    drop_held(c);
    ended_first(c, SLUICE_REASON_PEER_CLOSE);
    if (c->out == OUT_OVER)
        sluice_conn_finish(c);
    else if (c->events->on_eof)
        c->events->on_eof(c, c->user);
    else
        sluice_conn_close(c);
}

/* ---- silence ---- */

static void on_silence(struct sluice_timer *timer);

static void watch_silence(struct sluice_conn *c)
{
    uint64_t now = c->conns->loop->now_ns;
    uint64_t due = c->heard_ns + c->read_timeout_ns;
    sluice_loop_start_timer(c->conns->loop, &c->timer, due > now ? due - now : 0, on_silence);
}

/* Bytes only note when they came: the timer looks when it is due. */
static void on_silence(struct sluice_timer *timer)
{
    struct sluice_conn *c = SLUICE_CONTAINER_OF(timer, struct sluice_conn, timer);
    uint64_t now = c->conns->loop->now_ns;
    if (c->paused || c->in != IN_OPEN)
        c->heard_ns = now;
    if (now - c->heard_ns < c->read_timeout_ns)
        watch_silence(c);
    else
        sluice_life_close(&c->life, SLUICE_REASON_TIMED_OUT, ETIMEDOUT);
}

/* ---- receiving ---- */

static void stop_receiving(struct sluice_conn *c)
{
    backend_of(c)->ops->cancel(backend_of(c), &c->recv_op);
}

static void hold(struct sluice_conn *c, struct sluice_lease *lease)
{
    lease->next = NULL;
    *c->held_end = lease;
    c->held_end = &lease->next;
}

struct sluice_lease *sluice_conn_unhold(struct sluice_conn *c)
{
    struct sluice_lease *lease = c->held;
    c->held = lease->next;
    if (!c->held)
        c->held_end = &c->held;
    return lease;
}

void sluice_conn_deliver(struct sluice_conn *c, struct sluice_lease *lease)
{
    if (c->events->on_data)
        c->events->on_data(c, &lease->buf, c->user);
    sluice_buf_release(&lease->buf);
}

static void deliver_held(struct sluice_conn *c)
{
    while (c->held && !c->paused) /* dropped when it leaves */
        sluice_conn_deliver(c, sluice_conn_unhold(c));
}

/* The end that came: a failure of the socket, or the peer's; or a record without data. */
static void end_receiving(struct sluice_conn *c)
{
    if (c->tls && c->in_error && sluice_conn_offload_ended(c))
        return;
    if (c->in_error)
        sluice_life_close(&c->life, sluice_life_reason(-c->in_error), -c->in_error);
    else if (c->tls)
        sluice_conn_tls_eof(c);
    else
        sluice_conn_told_end(c);
}

/* Received, or decrypted, and not delivered: TLS may have it wait for a buffer or for room. */
bool sluice_conn_has_unread(const struct sluice_conn *c)
{
    return c->held || (sluice_conn_seals(c) && (c->tls->output_full || c->tls->session->pending));
}

/* Ciphertext waits until its peer takes what is sent, or until a buffer is free: more of it would
 * take the buffers of others. */
static bool is_stuck(const struct sluice_conn *c)
{
    return sluice_conn_seals(c) && (c->tls->output_full || c->starved_link);
}

static void arm(struct sluice_conn *c)
{
    if (c->receiving || c->starved_link || (c->tls && !sluice_conn_offload_arm(c)))
        return;
    if (sluice_life_begin(&c->life, &c->recv_op))
        sluice_conns_due(c, DUE_RECEIVE); /* no room now: in the next turn */
    else
        c->receiving = true;
}

void sluice_conn_receive(struct sluice_conn *c)
{
    if (sluice_conn_seals(c))
        sluice_conn_tls_receive(c);
    else
        deliver_held(c);
    if (c->receiving && is_stuck(c))
        stop_receiving(c);
    bool is_paused = c->paused && sluice_life_is_live(&c->life); /* a handshake goes on */
    if (sluice_conn_has_unread(c) || is_paused || sluice_conn_is_leaving(c))
        return;
    if (c->in == IN_ENDING)
        end_receiving(c);
    if (c->in == IN_OPEN && !sluice_conn_is_leaving(c))
        arm(c);
}

/* A reset that a SEND heard of looks like an end: backend.h, 10. */
static void note_end(struct sluice_conn *c, int32_t result)
{
    if (result == 0 && c->out != OUT_OVER &&
        sluice_loop_sockets(c->conns->loop)->was_reset(backend_of(c), c->life.fd))
        result = -ECONNRESET;
    c->in = IN_ENDING;
    c->in_error = result;
}

/* Nothing has to be done with the bytes, and nobody waits before them. */
static bool delivers_at_once(const struct sluice_conn *c)
{
    return !c->tls && !c->held && !c->paused && c->in == IN_OPEN && !sluice_conn_is_leaving(c);
}

static void on_recv(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_conn *c = SLUICE_CONTAINER_OF(op, struct sluice_conn, recv_op);
    if (result > 0 && more && delivers_at_once(c)) {
        c->heard_ns = c->conns->loop->now_ns;
        sluice_conn_deliver(c, sluice_lease_wire(c->conns, op->pooled.buffer, (size_t)result));
        return;
    }
    bool wanted = !sluice_conn_is_leaving(c);
    c->receiving = more;
    if (result > 0) {
        struct sluice_lease *lease = sluice_lease_wire(c->conns, op->pooled.buffer, (size_t)result);
        c->heard_ns = c->conns->loop->now_ns;
        if (wanted && c->tls)
            sluice_conn_offload_note(c, &lease->buf);
        if (wanted && c->in != IN_OVER)
            hold(c, c->paused || is_stuck(c) ? sluice_lease_set_aside(lease) : lease);
        else
            sluice_buf_release(&lease->buf);
    } else if (wanted && result == -ENOBUFS) {
        sluice_conn_starve(c, LEASE_WIRE);
    } else if (wanted && result != -ECANCELED && c->in != IN_OVER) {
        note_end(c, result);
    }
    if (wanted)
        sluice_conn_receive(c);
    if (!more)
        sluice_life_end(&c->life);
}

/* ---- life ---- */

/* Nothing of it is asked for any more. */
static const struct sluice_life_config past_cfg;

static void forget_dial(struct sluice_conn *c)
{
    free(c->life.dial);
    c->life.dial = NULL;
    c->life.cfg = &past_cfg;
}

static void on_life_secure(struct sluice_life *life)
{
    struct sluice_conn *c = of_life(life);
    char host[URL_HOST_MAX] = "";
    if (life->dial)
        memcpy(host, life->dial->url.host, sizeof(host));
    forget_dial(c);
    sluice_conn_tls_begin(c, host[0] ? host : NULL);
}

static void on_life_state(struct sluice_life *life)
{
    (void)life;
}

static void on_life_open(struct sluice_life *life)
{
    struct sluice_conn *c = of_life(life);
    forget_dial(c);
    c->heard_ns = life->loop->now_ns;
    if (c->read_timeout_ns)
        watch_silence(c);
    if (c->paused) /* it was already, but the handshake went on */
        stop_receiving(c);
    if (c->events->on_open)
        c->events->on_open(c, c->user);
    sluice_conns_due(c, DUE_RECEIVE); /* not in here: TLS may be reading just now */
}

static void on_quiesce(struct sluice_life *life)
{
    struct sluice_conn *c = of_life(life);
    sluice_timer_stop(&c->timer);
    sluice_conn_unstarve(c);
    stop_receiving(c);
    backend_of(c)->ops->cancel(backend_of(c), &c->send_op);
    drop_held(c);
}

static void on_life_closed(struct sluice_life *life)
{
    struct sluice_conn *c = of_life(life);
    forget_dial(c);
    sluice_conn_end_sends(c);
    life->loop->active--;
    if (c->events->on_close)
        c->events->on_close(c, life->reason, life->os_error, c->user);
    sluice_conn_tls_end(c);
    sluice_conns_put_back(c);
}

static const struct sluice_life_events life_events = {.state = on_life_state,
                                                      .secure = on_life_secure,
                                                      .open = on_life_open,
                                                      .quiesce = on_quiesce,
                                                      .closed = on_life_closed};

void sluice_conn_init(struct sluice_conn *c, struct sluice_conns *conns,
                      const struct sluice_conn_events *events, void *user)
{
    /* The ops remember which life of theirs is this. */
    c->magic = CONN_MAGIC;
    c->due = 0;
    c->in = IN_OPEN;
    c->out = OUT_OPEN;
    c->paused = c->wants_drain = c->sending = c->receiving = false;
    c->conns = conns;
    c->events = events;
    c->user = user;
    c->tls_ctx = NULL;
    c->ktls = SLUICE_KTLS_AUTO;
    c->tls = NULL;
    c->held = NULL;
    c->held_end = &c->held;
    c->in_error = 0;
    c->end = SLUICE_REASON_NONE;
    c->starved_link = NULL;
    sluice_life_init(&c->life, conns->loop, &past_cfg, &life_events);
    sluice_op_init(&c->recv_op, SLUICE_OP_RECV, on_recv);
    c->recv_op.flags = SLUICE_OP_MULTI | SLUICE_OP_POOLED;
    sluice_conn_send_init(c);
    conns->loop->active++;
}

void sluice_conn_undo(struct sluice_conn *c)
{
    forget_dial(c);
    c->conns->loop->active--;
    sluice_conns_put_back(c);
}

void sluice_conn_adopt(struct sluice_listener *l, struct sluice_conn *c, int fd)
{
    sluice_conn_init(c, l->conns, l->events, l->user);
    c->read_timeout_ns = l->read_timeout_ns;
    c->tls_ctx = l->tls;
    c->ktls = (uint8_t)l->ktls;
    c->life.is_tls = l->tls != NULL;
    c->life.cfg = &l->life_cfg;
    sluice_life_adopt(&c->life, fd);
}

/* ---- what may be asked of it ---- */

void sluice_conn_pause(struct sluice_conn *c)
{
    check(c);
    if (c->paused)
        return;
    c->paused = true;
    if (!sluice_life_is_live(&c->life))
        return;
    sluice_conn_unstarve(c);
    stop_receiving(c);
}

void sluice_conn_resume(struct sluice_conn *c)
{
    check(c);
    if (!c->paused)
        return;
    c->paused = false;
    c->heard_ns = c->conns->loop->now_ns;
    if (sluice_life_is_live(&c->life))
        sluice_conns_due(c, DUE_RECEIVE);
}

int sluice_conn_shutdown(struct sluice_conn *c)
{
    check(c);
    if (c->life.state < SLUICE_CONN_OPEN)
        return -ENOTCONN;
    if (sluice_conn_is_leaving(c))
        return -EPIPE;
    if (c->out != OUT_OPEN)
        return 0;
    ended_first(c, SLUICE_REASON_LOCAL_CLOSE);
    c->out = OUT_FIN_DUE;
    sluice_conns_due(c, DUE_SEND);
    return 0;
}

static void close_timed_out(struct sluice_timer *timer)
{
    struct sluice_conn *c = SLUICE_CONTAINER_OF(timer, struct sluice_conn, timer);
    sluice_conn_finish(c);
}

void sluice_conn_leave(struct sluice_conn *c, uint64_t timeout_ns)
{
    c->out = OUT_CLOSE_DUE;
    sluice_conn_unstarve(c);
    stop_receiving(c);
    drop_held(c);
    sluice_conns_due(c, DUE_SEND);
    sluice_loop_start_timer(c->conns->loop, &c->timer, timeout_ns, close_timed_out);
}

void sluice_conn_close(struct sluice_conn *c)
{
    check(c);
    ended_first(c, SLUICE_REASON_LOCAL_CLOSE);
    if (!sluice_life_is_live(&c->life))
        sluice_conn_finish(c);
    else if (c->out != OUT_CLOSE_DUE)
        sluice_conn_leave(c, c->conns->close_timeout_ns);
}

void sluice_conn_abort(struct sluice_conn *c)
{
    check(c);
    c->life.reset |= c->life.state < SLUICE_CONN_CLOSING;
    sluice_life_close(&c->life, SLUICE_REASON_LOCAL_CLOSE, 0);
}

void sluice_conn_set_read_timeout(struct sluice_conn *c, uint64_t timeout_ns)
{
    check(c);
    c->read_timeout_ns = timeout_ns;
    if (sluice_conn_is_leaving(c) || !sluice_life_is_live(&c->life))
        return;
    c->heard_ns = c->conns->loop->now_ns;
    sluice_timer_stop(&c->timer);
    if (timeout_ns)
        watch_silence(c);
}

void sluice_conn_set_user(struct sluice_conn *c, void *user)
{
    check(c);
    c->user = user;
}

void *sluice_conn_user(const struct sluice_conn *c)
{
    check(c);
    return c->user;
}

void sluice_conn_set_events(struct sluice_conn *c, const struct sluice_conn_events *events)
{
    check(c);
    c->events = events;
}

enum sluice_conn_state sluice_conn_state(const struct sluice_conn *c)
{
    check(c);
    return c->out == OUT_CLOSE_DUE && sluice_life_is_live(&c->life) ? SLUICE_CONN_CLOSING
                                                                    : c->life.state;
}

struct sluice_loop *sluice_conn_loop(const struct sluice_conn *c)
{
    check(c);
    return c->conns->loop;
}

static int address(const struct sluice_conn *c, bool of_peer, struct sockaddr *out,
                   socklen_t *bytes)
{
    check(c);
    if (c->life.fd < 0)
        return -ENOTCONN;
    return sluice_loop_sockets(c->conns->loop)
        ->address(backend_of(c), c->life.fd, of_peer, out, bytes);
}

int sluice_conn_local(const struct sluice_conn *c, struct sockaddr *out, socklen_t *bytes)
{
    return address(c, false, out, bytes);
}

int sluice_conn_peer(const struct sluice_conn *c, struct sockaddr *out, socklen_t *bytes)
{
    return address(c, true, out, bytes);
}
