/*
 * How a transport's connection ends: in order within a limit, or at once; and its close record.
 */
#include "transport.h"
#include "describe.h"

#include <string.h>

#define ALERT_TIMEOUT (100 * SLUICE_NS_PER_MS)

/* Who was first. */
static enum sluice_reason reason_in_order(const struct sluice_transport *t)
{
    return t->rx.eof && !t->ending_first ? SLUICE_REASON_PEER_CLOSE : SLUICE_REASON_LOCAL_CLOSE;
}

/* One SEND may outlast the limit with a slow peer: its acknowledgements tell that it is not silent.
 */
static bool peer_takes_bytes(struct sluice_transport *t)
{
    uint64_t before = t->acked_seen;
    if (t->ending || !t->tx.sending || !sluice_life_is_live(&t->life))
        return false;
    t->acked_seen = sluice_loop_sockets(t->loop)->acked_bytes(t->loop->be, t->life.fd);
    return t->acked_seen != UINT64_MAX && t->acked_seen != before;
}

static void drain_over(struct sluice_timer *timer)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(timer, struct sluice_transport, drain);
    if (peer_takes_bytes(t)) {
        sluice_transport_restart_drain(t);
        return;
    }
    sluice_life_close(&t->life, reason_in_order(t), 0);
}

void sluice_transport_restart_drain(struct sluice_transport *t)
{
    sluice_loop_start_timer(t->loop, &t->drain, t->drain_timeout_ns, drain_over);
}

/* ---- silence ---- */

/* As published: another thread may be receiving. */
static uint64_t received_bytes(const struct sluice_transport *t)
{
    return atomic_load_explicit(&t->ch->shared->counters[SLUICE_COUNTER_received_bytes],
                                memory_order_relaxed);
}

/* The peer may wait for room: receiving stops at a slice below the brim, an eighth at most. */
static bool may_be_full(const struct sluice_transport *t, uint64_t received)
{
    uint64_t bytes = t->ch->inbox.bytes;
    uint64_t head = atomic_load_explicit(&t->ch->shared->inbox_head, memory_order_relaxed);
    return received - head >= bytes - bytes / 8;
}

static void look_for_silence(struct sluice_timer *timer)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(timer, struct sluice_transport, watch);
    uint64_t received = received_bytes(t), now_ns = t->loop->now_ns;
    if (!sluice_life_is_live(&t->life) || t->ending) /* an end has a limit of its own */
        return;
    if (received != t->silence_bytes || may_be_full(t, received) || t->rx.eof) {
        t->silence_bytes = received;
        t->silence_since_ns = now_ns;
    }
    if (now_ns - t->silence_since_ns >= t->silence_ns)
        sluice_life_close(&t->life, SLUICE_REASON_SILENT, 0);
    else
        sluice_loop_start_timer(t->loop, &t->watch, t->silence_ns / 4, look_for_silence);
}

void sluice_transport_watch(struct sluice_transport *t)
{
    if (!t->silence_ns)
        return;
    t->silence_bytes = received_bytes(t);
    t->silence_since_ns = t->loop->now_ns;
    sluice_loop_start_timer(t->loop, &t->watch, t->silence_ns / 4, look_for_silence);
}

/* ---- in order ---- */

static bool anybody_attached(const struct sluice_transport *t)
{
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++)
        if (t->ch->writers[i].state == WRITER_ATTACHED)
            return true;
    return false;
}

static void alert_over(struct sluice_timer *timer)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(timer, struct sluice_transport, drain);
    sluice_life_close(&t->life, t->secure.error.reason, 0);
}

void sluice_transport_wait_for_alert(struct sluice_transport *t)
{
    sluice_loop_start_timer(t->loop, &t->drain, ALERT_TIMEOUT, alert_over);
}

/* Both directions ended: over. Only ours: the peer's last bytes are awaited, without limit as long
 * as somebody is there to want them. Only the peer's: we may still send. A peer that takes no more
 * is not told an end, for then its reset could no longer be told from one (reset_unheard()). */
void sluice_transport_consider_end(struct sluice_transport *t)
{
    if (!sluice_life_is_live(&t->life) || t->tls_failed)
        return;
    bool in_ended = t->rx.eof;
    bool queue_empty = !t->tx.sending && !sluice_tx_pending(&t->tx);
    if (t->ending && !t->end_begun && queue_empty && !t->send_failed) {
        t->end_begun = true;
        sluice_tx_end(&t->tx);
        return; /* on_fin() considers it again */
    }
    if (in_ended && (t->fin_sent || (queue_empty && !anybody_attached(t))))
        sluice_life_close(&t->life, reason_in_order(t), 0);
    else if (!t->ending && !in_ended && anybody_attached(t))
        sluice_timer_stop(&t->drain); /* somebody came back in time */
    else if (!t->drain.runs)
        sluice_transport_restart_drain(t);
}

static void publish_end(struct sluice_transport *t, const struct sluice_close_record *r)
{
    const struct sluice_meta event = {.connection = r->connection,
                                      .reason = r->reason,
                                      .os_error = r->os_error,
                                      .tls_alert = r->tls_alert,
                                      .messages_sent = r->messages_sent,
                                      .half_sent_bytes = r->half_sent_bytes,
                                      .messages_left = r->messages_left,
                                      .event_cycle = sluice_cycles(),
                                      .event = SLUICE_EVENT_DISCONNECTED};
    sluice_inbox_control(t->ch, &event);
}

static void fill_record(struct sluice_transport *t, struct sluice_close_record *r)
{
    *r = (struct sluice_close_record){.connection = t->connection,
                                      .reason = (uint32_t)t->life.reason,
                                      .os_error = t->life.os_error,
                                      .tls_alert = (uint32_t)(t->secure.error.alert + 1),
                                      .opened_ns = t->opened_ns,
                                      .closed_ns = sluice_realtime_ns(),
                                      .messages_left = sluice_tx_messages_left(&t->tx),
                                      .acked_bytes = UINT64_MAX,
                                      .inbox_end = t->ch->inbox.tail};
    if (!t->opened_ns)
        return;
    r->received_bytes = t->rx.received_bytes;
    r->messages_sent = t->tx.sent_messages;
    r->sent_bytes = t->tx.sent_bytes;
    r->half_sent_bytes = t->tx.message_sent;
    r->acked_bytes = t->life.acked_bytes;
    if (r->acked_bytes != UINT64_MAX && r->acked_bytes > r->sent_bytes)
        r->acked_bytes = r->sent_bytes; /* our FIN counts as one */
}

/* For good. */
static void over(struct sluice_transport *t, const struct sluice_close_record *record)
{
    sluice_channel_set_conn_state(t->ch, SLUICE_CONN_CLOSED);
    sluice_channel_flush(t->ch);
    t->loop->active--;
    if (t->events.on_close)
        t->events.on_close(t, record, t->user);
}

static bool is_worth_another(const struct sluice_transport *t)
{
    return t->retry.on && !t->ending && sluice_reason_class(t->life.reason) == SLUICE_CLASS_RETRY;
}

void sluice_transport_closed(struct sluice_life *c)
{
    struct sluice_transport *t = sluice_transport_of(c);
    struct sluice_close_record record;
    sluice_timer_stop(&t->drain);
    sluice_timer_stop(&t->watch);
    fill_record(t, &record);
    sluice_tx_reset(&t->tx);
    sluice_secure_end(&t->secure);
    if (t->secure.error.reason != SLUICE_REASON_NONE)
        sluice_describe_tls(t->ch, "failed", t->secure.error.text);
    if (t->opened_ns) {
        publish_end(t, &record);
        t->connection++;
    } else {
        sluice_count(t->ch, SLUICE_COUNTER_connect_failures, 1);
    }
    sluice_channel_set_connection(t->ch, t->connection);
    sluice_channel_set_ready(t->ch, 0, SLUICE_READY_TCP | SLUICE_READY_TLS | SLUICE_READY_UPSTREAM);
    sluice_channel_add_close(t->ch, &record);
    if (is_worth_another(t))
        sluice_transport_wait(t, &record);
    else
        over(t, &record);
}

/* While it waited for the next attempt: told by the loop, never inside a call of the user's. */
static void over_while_waiting(struct sluice_timer *timer)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(timer, struct sluice_transport, again);
    const struct sluice_close_record record = {.connection = t->connection,
                                               .reason = SLUICE_REASON_LOCAL_CLOSE,
                                               .closed_ns = sluice_realtime_ns(),
                                               .acked_bytes = UINT64_MAX,
                                               .inbox_end = t->ch->inbox.tail};
    sluice_life_set_state(&t->life, SLUICE_CONN_CLOSED);
    over(t, &record);
}

void sluice_transport_close(struct sluice_transport *t)
{
    bool again = t->ending;
    t->ending = true;
    t->ending_first |= !t->rx.eof;
    if (t->life.state == SLUICE_CONN_WAITING) {
        t->again_due = false;
        sluice_loop_start_timer(t->loop, &t->again, 0, over_while_waiting);
    } else if (!sluice_life_is_live(&t->life) || again)
        sluice_life_close(&t->life, SLUICE_REASON_LOCAL_CLOSE, 0);
    else
        sluice_transport_consider_end(t);
}
