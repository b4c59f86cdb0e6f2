/*
 * A transport: one connection bound to one channel on one loop. Its life from connect to close
 * record; the bytes themselves are rx.c's and tx.c's.
 */
#include "describe.h"
#include "dial.h"
#include "doorman.h"
#include "model.h"
#include "offload.h"
#include "paths.h"
#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_DEFAULT (10 * SLUICE_NS_PER_S)
#define TLS_TIMEOUT_DEFAULT     (10 * SLUICE_NS_PER_S)
#define ALERT_TIMEOUT           (100 * SLUICE_NS_PER_MS)
#define DRAIN_TIMEOUT_DEFAULT   (5 * SLUICE_NS_PER_S)
#define HEARTBEAT_NS            (100 * SLUICE_NS_PER_MS)
#define LAST_BEAT_NS            SLUICE_NS_PER_MS
#define CONTROL_NS              (100 * SLUICE_NS_PER_MS) /* of SLUICE_TLS_CONTROL_RUN_MAX */

struct sluice_transport {
    struct sluice_loop *loop;
    struct sluice_channel *ch;
    struct sluice_transport_events events;
    void *user;
    struct sluice_life_config life_cfg;
    const struct sluice_tls_config *tls_cfg;
    const char *tls_provider;
    enum sluice_ktls ktls;
    uint64_t drain_timeout_ns;

    struct sluice_life life;
    struct sluice_dial dial;
    struct sluice_secure secure;
    struct sluice_rx rx;
    struct sluice_tx tx;
    struct sluice_crew crew;
    uint32_t receive_core, send_core;
    struct sluice_doorman doorman;
    struct sluice_source source;
    struct sluice_client *upstream; /* in-line, or NULL */

    uint32_t connection; /* number of the one that is open, or of the next */
    uint64_t opened_ns;  /* CLOCK_REALTIME, 0: not open yet */
    bool ending;         /* in order: no more than what stands in the outboxes leaves */
    bool ending_first;   /* before the peer's end */
    bool end_begun;      /* tx was told; fin follows */
    bool fin_sent;
    bool tls_failed;  /* over, as soon as the alert that says so has left */
    bool send_failed; /* the peer reads no more */
    struct sluice_timer drain;
    uint64_t acked_seen; /* when the drain limit last ran out */
    uint64_t heartbeat_ns;
    uint64_t control_ns; /* when records without data were last forgiven */
    uint64_t inbox_seen; /* metadata tail last shown to on_inbox */
};

/* ---- the end ---- */

static void restart_drain(struct sluice_transport *t);

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
        restart_drain(t);
        return;
    }
    sluice_life_close(&t->life, reason_in_order(t), 0);
}

static void restart_drain(struct sluice_transport *t)
{
    sluice_loop_start_timer(t->loop, &t->drain, t->drain_timeout_ns, drain_over);
}

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

/* Both directions ended: over. Only ours: the peer's last bytes are awaited, without limit as long
 * as somebody is there to want them. Only the peer's: we may still send. A peer that takes no more
 * is not told an end, for then its reset could no longer be told from one (reset_unheard()). */
static void consider_end(struct sluice_transport *t)
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
        restart_drain(t);
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

static void on_life_closed(struct sluice_life *c)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(c, struct sluice_transport, life);
    struct sluice_close_record record;
    sluice_timer_stop(&t->drain);
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
    sluice_channel_flush(t->ch);
    t->loop->active--;
    if (t->events.on_close)
        t->events.on_close(t, &record, t->user);
}

static void on_quiesce(struct sluice_life *c)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(c, struct sluice_transport, life);
    sluice_rx_stop(&t->rx);
    sluice_tx_stop(&t->tx);
}

/* ---- the paths' events ---- */

static void on_eof(void *user)
{
    struct sluice_transport *t = user;
    const struct sluice_meta event = {
        .connection = t->connection, .event_cycle = sluice_cycles(), .event = SLUICE_EVENT_EOF};
    if (!sluice_life_is_live(&t->life))
        return;
    sluice_inbox_control(t->ch, &event);
    consider_end(t);
}

static void on_failed(void *user, int os_error)
{
    struct sluice_transport *t = user;
    if (t->tls_failed) /* a reset answers our alert, or follows the peer's */
        sluice_life_close(&t->life, t->secure.error.reason, 0);
    else
        sluice_life_close(&t->life, sluice_life_reason(os_error), os_error);
}

/* The peer takes no more, but what it sent before is still in the kernel: rx ends the connection,
 * with the same error, behind the last byte of it. */
static void on_send_failed(void *user, int os_error)
{
    struct sluice_transport *t = user;
    if ((os_error != EPIPE && os_error != ECONNRESET) || t->rx.eof ||
        !sluice_life_is_live(&t->life)) {
        on_failed(user, os_error);
        return;
    }
    t->send_failed = true;
    sluice_tx_stop(&t->tx);
}

/* The session knows why; its alert leaves first, if the peer lets it. */
static void on_tls_failed(void *user)
{
    struct sluice_transport *t = user;
    if (t->tls_failed || !sluice_life_receives(&t->life))
        return;
    t->tls_failed = true;
    t->tx.started = false;
    t->secure.error = t->secure.session->error;
    sluice_loop_start_timer(t->loop, &t->drain, ALERT_TIMEOUT, alert_over);
}

static int start_receiving(struct sluice_transport *t)
{
    int err = sluice_rx_start(&t->rx);
    if (err)
        sluice_life_close(&t->life, sluice_life_reason(-err), -err);
    return err;
}

static void on_secured(void *user)
{
    struct sluice_transport *t = user;
    if (!t->secure.by_record) /* else when all of the handshake has left */
        sluice_life_secured(&t->life);
}

/* The kernel takes over, or cannot and all goes on in user space. */
static void offload(struct sluice_transport *t)
{
    if (sluice_offload_start(&t->secure, &t->life) == -EPROTO) {
        sluice_life_close(&t->life, t->secure.error.reason, 0);
        return;
    }
    sluice_life_secured(&t->life);
    if (sluice_life_is_live(&t->life))
        start_receiving(t);
}

static void on_fin(void *user)
{
    struct sluice_transport *t = user;
    if (t->life.state != SLUICE_CONN_OPEN)
        return;
    t->fin_sent = t->end_begun = true;
    sluice_life_shutdown(&t->life);
    consider_end(t);
}

static void on_sent(void *user)
{
    struct sluice_transport *t = user;
    if (t->drain.runs && !t->ending && !t->tls_failed)
        restart_drain(t); /* the limit is on silence, not on the length of what is sent */
}

static void heed_clients(struct sluice_transport *t);

static void on_home(void *user)
{
    struct sluice_transport *t = user;
    sluice_doorman_work(&t->doorman);
    heed_clients(t);
}

static const struct sluice_rx_events rx_events = {.secured = on_secured,
                                                  .eof = on_eof,
                                                  .failed = on_failed,
                                                  .tls_failed = on_tls_failed,
                                                  .home = on_home};
static const struct sluice_tx_events tx_events = {
    .fin = on_fin, .sent = on_sent, .failed = on_send_failed, .tls_failed = on_tls_failed};

/* ---- the beginning ---- */

static void on_life_state(struct sluice_life *c)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(c, struct sluice_transport, life);
    sluice_channel_set_conn_state(t->ch, c->state);
}

static void refuse(struct sluice_transport *t, const char *why)
{
    t->secure.error = (struct sluice_tls_error){.reason = SLUICE_REASON_UNSUPPORTED, .alert = -1};
    snprintf(t->secure.error.text, sizeof(t->secure.error.text), "%s", why);
}

/* The interface is known only now. */
static int check_stamps(struct sluice_transport *t)
{
    char why[160];
    if (t->life_cfg.timestamps != SLUICE_TIMESTAMPS_HARDWARE ||
        sluice_stamp_check_hardware(t->life.fd, why, sizeof(why)) == 0)
        return 0;
    refuse(t, why);
    sluice_life_close(&t->life, SLUICE_REASON_UNSUPPORTED, 0);
    return -ENOTSUP;
}

/* Now that it is known what the connection is. */
static int start_crew(struct sluice_transport *t)
{
    const struct sluice_model_facts facts = {
        .tls = t->life.is_tls, .in_kernel = t->secure.in_kernel, .in_line = t->upstream != NULL};
    int err = sluice_crew_choose(&t->crew, &facts);
    if (err) {
        refuse(t, t->crew.reason);
        sluice_life_close(&t->life, t->secure.error.reason, err == -ENOTSUP ? 0 : -err);
        return err;
    }
    t->tx.remote.thread = t->crew.runs == SLUICE_MODEL_THREE_THREAD ? &t->crew.tx : NULL;
    sluice_away_use(&t->rx, t->crew.runs == SLUICE_MODEL_SINGLE ? NULL : &t->crew.rx);
    return 0;
}

/* It can go no further; the others are asked to end. */
static void thread_failed(struct sluice_transport *t, int error)
{
    sluice_log(SLUICE_LOG_ERROR, "%s: a thread's event loop: %s", t->ch->header->name,
               strerror(-error));
    sluice_life_close(&t->life, SLUICE_REASON_INTERNAL, -error);
}

static void on_rx_lost(struct sluice_thread *thread)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(thread, struct sluice_transport, crew.rx);
    thread_failed(t, thread->error);
    sluice_away_lost(&t->rx, thread->error);
}

static void on_tx_lost(struct sluice_thread *thread)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(thread, struct sluice_transport, crew.tx);
    thread_failed(t, thread->error);
    sluice_remote_lost(&t->tx.remote, thread->error);
}

static void on_life_secure(struct sluice_life *c)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(c, struct sluice_transport, life);
    sluice_channel_set_ready(t->ch, SLUICE_READY_TCP, 0);
    if (check_stamps(t))
        return;
    if (sluice_secure_begin(&t->secure, c->dial->url.host) || sluice_offload_prepare(&t->secure, c))
        sluice_life_close(c, t->secure.error.reason, 0);
    else
        start_receiving(t);
}

static void on_life_open(struct sluice_life *c)
{
    struct sluice_transport *t = SLUICE_CONTAINER_OF(c, struct sluice_transport, life);
    const struct sluice_meta event = {.connection = t->connection,
                                      .event_cycle = sluice_cycles(),
                                      .event = SLUICE_EVENT_CONNECTED};
    if ((!c->is_tls && check_stamps(t)) || start_crew(t))
        return;
    t->opened_ns = sluice_realtime_ns();
    sluice_count(t->ch, SLUICE_COUNTER_connections, 1);
    sluice_describe_open(t->ch, c, &t->crew, &t->secure);
    sluice_channel_set_ready(t->ch, SLUICE_READY_TCP | SLUICE_READY_TLS, 0);
    sluice_inbox_control(t->ch, &event);
    sluice_tx_start(&t->tx, t->connection);
    if (!c->is_tls && start_receiving(t))
        return;
    if (t->events.on_open)
        t->events.on_open(t, t->user);
}

static const struct sluice_life_events life_events = {.state = on_life_state,
                                                      .secure = on_life_secure,
                                                      .open = on_life_open,
                                                      .quiesce = on_quiesce,
                                                      .closed = on_life_closed};

/* At the first tls://: its files are read, its rings made. */
static int prepare_tls(struct sluice_transport *t)
{
    if (t->rx.raw.base)
        return 0;
    enum sluice_ktls ktls = t->ktls;
    t->secure.ktls_off = t->life_cfg.timestamps ? "--timestamps: the kernel's TLS gives none"
                         : t->crew.wanted == SLUICE_MODEL_THREE_THREAD ? "--model three-thread"
                                                                       : NULL;
    if (t->secure.ktls_off)
        ktls = SLUICE_KTLS_OFF;
    int err = sluice_secure_open(&t->secure, t->tls_provider, t->tls_cfg, ktls);
    if (!err)
        err = sluice_rx_open_raw(&t->rx);
    if (!err)
        return 0;
    struct sluice_tls_error why = t->secure.error;
    sluice_secure_fini(&t->secure);
    t->secure.error = why;
    return err == -EINVAL ? -EBADF : err;
}

const char *sluice_transport_why(const struct sluice_transport *t)
{
    return t->secure.error.text;
}

int sluice_transport_connect(struct sluice_transport *t, const char *text)
{
    struct sluice_url url;
    if (sluice_url_parse(&url, text))
        return -EINVAL;
    if (sluice_loop_is_forked(t->loop))
        return -ECHILD;
    t->secure.error = (struct sluice_tls_error){.alert = -1};
    t->life.is_tls = strcmp(url.scheme, "tls") == 0;
    if (!t->life.is_tls && strcmp(url.scheme, "tcp") != 0)
        return -EPROTONOSUPPORT;
    if (!sluice_life_is_over(&t->life))
        return -EISCONN;
    if (!sluice_inbox_has_room_to_open(t->ch))
        return -EAGAIN;
    int err = sluice_crew_check(&t->crew, t->life.is_tls, t->ktls, t->upstream != NULL);
    if (!err)
        err = sluice_crew_place(&t->crew, t->receive_core, t->send_core);
    if (err) {
        refuse(t, t->crew.reason);
        return err;
    }
    if (t->life.is_tls && t->life_cfg.timestamps && t->ktls == SLUICE_KTLS_REQUIRE) {
        refuse(t, "--timestamps: the kernel's TLS gives none: take --ktls auto or off");
        return -ENOTSUP;
    }
    err = t->life.is_tls ? prepare_tls(t) : 0;
    if (err)
        return err;
    t->opened_ns = 0;
    t->ending = t->ending_first = t->end_begun = t->fin_sent = false;
    t->send_failed = t->tls_failed = false;
    t->tx.connection = t->connection;
    sluice_describe_attempt(t->ch, &t->life, &t->crew);
    err = sluice_dial_start(&t->dial, &t->life, &url);
    if (!err)
        t->loop->active++;
    return err;
}

void sluice_transport_close(struct sluice_transport *t)
{
    bool again = t->ending;
    t->ending = true;
    t->ending_first |= !t->rx.eof;
    if (!sluice_life_is_live(&t->life) || again)
        sluice_life_close(&t->life, SLUICE_REASON_LOCAL_CLOSE, 0);
    else
        consider_end(t);
}

/* ---- every turn ---- */

static struct sluice_transport *of_source(struct sluice_source *src)
{
    return SLUICE_CONTAINER_OF(src, struct sluice_transport, source);
}

/* Another thread holds it: what waits for it here, and whoever rang for room, is told there. */
static void mind_inbox(struct sluice_transport *t)
{
    if (t->ch->inbox.wanted)
        sluice_away_recall(&t->rx);
    else if (t->ch->bell_heard && sluice_inbox_sleeps(t->ch))
        sluice_loop_nudge(t->rx.loop);
}

static void heed_clients(struct sluice_transport *t)
{
    sluice_channel_take_requests(t->ch);
    if (t->ch->close_requested && !t->ending)
        sluice_transport_close(t);
    t->ch->close_requested = false;
    if (t->ch->corrupt) {
        t->ch->corrupt = false;
        sluice_life_close(&t->life, SLUICE_REASON_CORRUPT, 0);
    }
}

/* So that their limit is one per time, also for a loop that beats before each sleep. */
static void forgive_control(struct sluice_transport *t)
{
    if (!t->secure.session || t->loop->now_ns - t->control_ns < CONTROL_NS)
        return;
    t->secure.session->control_run = 0;
    t->control_ns = t->loop->now_ns;
}

/* For those who look on: sluice stat, observers. */
static void beat(struct sluice_transport *t)
{
    forgive_control(t);
    if (!t->ch->inbox.away)
        sluice_inbox_show(t->ch);
    struct engine_shared *s = t->ch->shared;
    const struct sluice_loop_stats *stats = &t->loop->stats;
    t->heartbeat_ns = t->loop->now_ns;
    atomic_store_explicit(&s->heartbeat_ns, t->loop->be->ops->now_ns(t->loop->be),
                          memory_order_relaxed);
    atomic_store_explicit(&s->counters[SLUICE_COUNTER_sleeps], stats->sleeps, memory_order_relaxed);
    atomic_store_explicit(&s->counters[SLUICE_COUNTER_turns_over_1ms], stats->turns_over_1ms,
                          memory_order_relaxed);
    atomic_store_explicit(&s->counters[SLUICE_COUNTER_turn_max_ns], stats->turn_max_ns,
                          memory_order_relaxed);
}

static void show_inbox(struct sluice_transport *t)
{
    if (!t->upstream || !t->events.on_inbox || t->inbox_seen == t->ch->inbox.meta_tail)
        return;
    t->inbox_seen = t->ch->inbox.meta_tail;
    t->events.on_inbox(t, t->user);
}

static bool work(struct sluice_source *src)
{
    struct sluice_transport *t = of_source(src);
    sluice_doorman_work(&t->doorman);
    heed_clients(t);
    if (t->ch->inbox.away)
        mind_inbox(t);
    t->ch->bell_heard = false;
    bool did =
        sluice_rx_work(&t->rx); /* before on_inbox: it publishes, and the next turn may sleep */
    show_inbox(t);
    did |= sluice_tx_work(&t->tx);
    const uint8_t *output;
    if (!t->tx.sending && t->secure.by_record && t->secure.session->state == SLUICE_TLS_OPEN &&
        !sluice_secure_output(&t->secure, &output))
        offload(t);
    if (t->tls_failed && !t->tx.sending && !sluice_secure_output(&t->secure, &output))
        sluice_life_close(&t->life, t->secure.error.reason, 0);
    if (t->ending || t->rx.eof || t->fin_sent || t->send_failed)
        consider_end(t);
    return did;
}

static void settle(struct sluice_source *src)
{
    struct sluice_transport *t = of_source(src);
    sluice_channel_flush(t->ch);
    if (t->loop->now_ns - t->heartbeat_ns > HEARTBEAT_NS)
        beat(t);
}

static void park(struct sluice_source *src)
{
    struct sluice_transport *t = of_source(src);
    if (t->loop->now_ns - t->heartbeat_ns > LAST_BEAT_NS) /* it may be a long sleep */
        beat(t);
    sluice_channel_flush(t->ch);
    bool stalled = !t->ch->inbox.away && sluice_rx_is_stalled(&t->rx);
    bool ends = t->ending || t->rx.eof || t->tls_failed || t->drain.runs;
    sluice_tx_park(&t->tx, ends, t->upstream != NULL);
    sluice_channel_sleep(t->ch, WAKE_ON_OUTBOX | (stalled ? WAKE_ON_INBOX : 0));
}

static bool pending(struct sluice_source *src)
{
    struct sluice_transport *t = of_source(src);
    return t->ch->links_changed || t->ch->close_requested || sluice_tx_pending(&t->tx) ||
           sluice_channel_has_request(t->ch) || sluice_rx_work(&t->rx);
}

static void unpark(struct sluice_source *src)
{
    sluice_channel_sleep(of_source(src)->ch, 0);
}

/* ---- life ---- */

static int init_transport(struct sluice_transport *t, const struct sluice_transport_config *cfg)
{
    t->life_cfg = (struct sluice_life_config){.resolve = cfg->resolve,
                                              .resolve_count = cfg->resolve_count,
                                              .connect_timeout_ns = cfg->connect_timeout_ns
                                                                        ? cfg->connect_timeout_ns
                                                                        : CONNECT_TIMEOUT_DEFAULT,
                                              .rcvbuf_bytes = cfg->rcvbuf_bytes,
                                              .sndbuf_bytes = cfg->sndbuf_bytes};
    t->life_cfg.timestamps = cfg->timestamps;
    t->life_cfg.short_name = t->life_cfg.counts_acked = true;
    t->life_cfg.tls_timeout_ns = cfg->tls_timeout_ns ? cfg->tls_timeout_ns : TLS_TIMEOUT_DEFAULT;
    t->tls_cfg = cfg->tls;
    t->tls_provider = cfg->tls_provider;
    t->ktls = cfg->ktls;
    t->receive_core = cfg->receive_core;
    t->send_core = cfg->send_core;
    sluice_crew_init(&t->crew, t->loop, cfg->model);
    t->crew.rx.lost = on_rx_lost;
    t->crew.tx.lost = on_tx_lost;
    t->secure.error.alert = -1;
    t->drain_timeout_ns = cfg->drain_timeout_ns ? cfg->drain_timeout_ns : DRAIN_TIMEOUT_DEFAULT;
    t->connection = atomic_load_explicit(&t->ch->shared->connection, memory_order_relaxed);
    sluice_life_init(&t->life, t->loop, &t->life_cfg, &life_events);
    sluice_tx_init(&t->tx, &t->life, t->ch, &t->secure, &tx_events, t);
    return sluice_rx_init(&t->rx, &t->life, t->ch, &t->secure, cfg->receive, &rx_events, t);
}

int sluice_transport_create(struct sluice_transport **out, struct sluice_loop *loop,
                            struct sluice_channel *ch, const struct sluice_transport_config *cfg,
                            const struct sluice_transport_events *events, void *user)
{
    *out = NULL;
    if (ch->listen_fd >= loop->be->fd_limit)
        return -ERANGE;
    struct sluice_transport *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->loop = loop;
    t->ch = ch;
    if (events)
        t->events = *events;
    t->user = user;
    int err = init_transport(t, cfg);
    if (err) {
        free(t);
        return err;
    }
    sluice_describe_attempt(t->ch, &t->life, &t->crew);
    sluice_doorman_init(&t->doorman, loop, ch);
    t->source = (struct sluice_source){
        .work = work, .settle = settle, .park = park, .pending = pending, .unpark = unpark};
    sluice_loop_add_source(loop, &t->source);
    *out = t;
    return 0;
}

void sluice_transport_destroy(struct sluice_transport *t)
{
    if (!t)
        return;
    t->events = (struct sluice_transport_events){0};
    t->life.reset = true;
    sluice_life_close(&t->life, SLUICE_REASON_LOCAL_CLOSE, 0);
    sluice_doorman_stop(&t->doorman);
    while (t->doorman.watching || !sluice_life_is_over(&t->life))
        if (sluice_loop_turn(t->loop) < 0)
            break;
    sluice_crew_stop(&t->crew);
    sluice_loop_remove_source(t->loop, &t->source);
    sluice_rx_fini(&t->rx);
    sluice_secure_fini(&t->secure);
    sluice_detach(t->upstream);
    free(t);
}

struct sluice_client *sluice_transport_upstream(struct sluice_transport *t)
{
    if (!t->upstream && t->crew.wanted != SLUICE_MODEL_TWO_THREAD &&
        sluice_attach_local(&t->upstream, t->ch, SLUICE_UPSTREAM) == 0)
        sluice_client_is_inline(t->upstream);
    return t->upstream;
}
