/*
 * A transport: one connection at a time, bound to one channel on one loop. What each turn does for
 * it, and what the paths tell of it.
 */
#include "transport.h"
#include "describe.h"
#include "offload.h"
#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_DEFAULT (10 * SLUICE_NS_PER_S)
#define TLS_TIMEOUT_DEFAULT     (10 * SLUICE_NS_PER_S)
#define DRAIN_TIMEOUT_DEFAULT   (5 * SLUICE_NS_PER_S)
#define RETRY_FIRST_DEFAULT     (100 * SLUICE_NS_PER_MS)
#define RETRY_MAX_DEFAULT       (30 * SLUICE_NS_PER_S)
#define RETRY_LASTED_DEFAULT    (10 * SLUICE_NS_PER_S)
#define HEARTBEAT_NS            (100 * SLUICE_NS_PER_MS)
#define LAST_BEAT_NS            SLUICE_NS_PER_MS
#define CONTROL_NS              (100 * SLUICE_NS_PER_MS) /* of SLUICE_TLS_CONTROL_RUN_MAX */

/* ---- the paths' events ---- */

static void on_eof(void *user)
{
    struct sluice_transport *t = user;
    const struct sluice_meta event = {
        .connection = t->connection, .event_cycle = sluice_cycles(), .event = SLUICE_EVENT_EOF};
    if (!sluice_life_is_live(&t->life))
        return;
    sluice_inbox_control(t->ch, &event);
    sluice_transport_consider_end(t);
}

static void on_failed(void *user, int os_error)
{
    struct sluice_transport *t = user;
    if (t->tls_failed) /* a reset answers our alert, or follows the peer's */
        sluice_life_close(&t->life, t->secure.error.reason, 0);
    else if (os_error == ETIMEDOUT && sluice_life_is_live(&t->life))
        sluice_life_close(&t->life, SLUICE_REASON_PEER_GONE, os_error);
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
    sluice_transport_wait_for_alert(t);
}

static void on_secured(void *user)
{
    struct sluice_transport *t = user;
    if (!t->secure.offload.by_record) /* else when all of the handshake has left */
        sluice_life_secured(&t->life);
}

/* The kernel takes over, or cannot and all goes on in user space. */
static void offload(struct sluice_transport *t)
{
    if (sluice_offload_start(&t->secure.offload, &t->life) == -EPROTO) {
        t->secure.error = t->secure.session->error;
        sluice_life_close(&t->life, t->secure.error.reason, 0);
        return;
    }
    sluice_life_secured(&t->life);
    if (sluice_life_is_live(&t->life))
        sluice_transport_receive(t);
}

static void on_fin(void *user)
{
    struct sluice_transport *t = user;
    if (t->life.state != SLUICE_CONN_OPEN)
        return;
    t->fin_sent = t->end_begun = true;
    sluice_life_shutdown(&t->life);
    sluice_transport_consider_end(t);
}

static void on_sent(void *user)
{
    struct sluice_transport *t = user;
    if (t->drain.runs && !t->ending && !t->tls_failed)
        sluice_transport_restart_drain(
            t); /* the limit is on silence, not on the length of what is sent */
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

/* ---- its life's events ---- */

static void on_life_state(struct sluice_life *c)
{
    struct sluice_transport *t = sluice_transport_of(c);
    if (c->state != SLUICE_CONN_CLOSED) /* that it is over is said behind its record */
        sluice_channel_set_conn_state(t->ch, c->state);
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

static void on_quiesce(struct sluice_life *c)
{
    struct sluice_transport *t = sluice_transport_of(c);
    sluice_rx_stop(&t->rx);
    sluice_tx_stop(&t->tx);
}

static const struct sluice_life_events life_events = {.state = on_life_state,
                                                      .secure = sluice_transport_secure,
                                                      .open = sluice_transport_opened,
                                                      .quiesce = on_quiesce,
                                                      .closed = sluice_transport_closed};

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
    if (t->ch->reconnect_requested)
        sluice_transport_reconnect(t);
    if (t->ch->prefer_requested)
        sluice_transport_prefer(t);
    t->ch->close_requested = t->ch->reconnect_requested = t->ch->prefer_requested = false;
    if (t->ch->corrupt) {
        t->ch->corrupt = false;
        sluice_tx_drop_liars(&t->tx); /* no connection may be there to end */
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

void sluice_transport_prefer(struct sluice_transport *t)
{
    struct sluice_source *before = t->loop->preferred;
    if (before == &t->source)
        return;
    if (before)
        sluice_channel_set_preferred(of_source(before)->ch, false);
    sluice_channel_set_preferred(t->ch, true);
    sluice_loop_remove_source(t->loop, &t->source); /* and to the head */
    sluice_loop_add_source(t->loop, &t->source);
    t->loop->preferred = &t->source;
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
    if (t->again_due)
        sluice_transport_try_again(t);
    bool did =
        sluice_rx_work(&t->rx); /* before on_inbox: it publishes, and the next turn may sleep */
    show_inbox(t);
    did |= sluice_tx_work(&t->tx);
    const uint8_t *output;
    if (!t->tx.sending && t->secure.offload.by_record && t->life.state == SLUICE_CONN_HANDSHAKING &&
        t->secure.session->state == SLUICE_TLS_OPEN && !sluice_secure_output(&t->secure, &output))
        offload(t);
    if (t->tls_failed && !t->tx.sending && !t->secure.offload.notify_due &&
        !sluice_secure_output(&t->secure, &output))
        sluice_life_close(&t->life, t->secure.error.reason, 0);
    if (t->ending || t->rx.eof || t->fin_sent || t->send_failed)
        sluice_transport_consider_end(t);
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
    bool stalled = t->again_due || (!t->ch->inbox.away && sluice_rx_is_stalled(&t->rx));
    bool ends = t->ending || t->rx.eof || t->tls_failed || t->drain.runs;
    sluice_tx_park(&t->tx, ends, t->upstream != NULL);
    sluice_channel_sleep(t->ch, WAKE_ON_OUTBOX | (stalled ? WAKE_ON_INBOX : 0));
}

static bool pending(struct sluice_source *src)
{
    struct sluice_transport *t = of_source(src);
    return t->ch->links_changed || t->ch->close_requested || sluice_tx_pending(&t->tx) ||
           sluice_channel_has_request(t->ch) || sluice_rx_work(&t->rx) ||
           (t->again_due && sluice_inbox_has_room_to_open(t->ch));
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
                                              .sndbuf_bytes = cfg->sndbuf_bytes,
                                              .keepalive_ns = cfg->keepalive_ns,
                                              .user_timeout_ns = cfg->user_timeout_ns};
    t->silence_ns = cfg->silence_ns;
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
    t->retry = (struct sluice_retry){
        .on = cfg->reconnect,
        .first_ns = cfg->retry_first_ns ? cfg->retry_first_ns : RETRY_FIRST_DEFAULT,
        .max_ns = cfg->retry_max_ns ? cfg->retry_max_ns : RETRY_MAX_DEFAULT,
        .lasted_ns = cfg->retry_lasted_ns ? cfg->retry_lasted_ns : RETRY_LASTED_DEFAULT};
    t->drain_timeout_ns = cfg->drain_timeout_ns ? cfg->drain_timeout_ns : DRAIN_TIMEOUT_DEFAULT;
    t->connection = atomic_load_explicit(&t->ch->shared->connection, memory_order_relaxed);
    sluice_life_init(&t->life, t->loop, &t->life_cfg, &life_events);
    sluice_tx_init(&t->tx, &t->life, t->ch, &t->secure, &tx_events, t);
    t->tx.keeps = cfg->keep_outbox;
    t->ch->inbox.discards = cfg->discard_unread;
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
    ch->fd_limit = loop->be->fd_limit;
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

static bool is_over(const void *what)
{
    const struct sluice_transport *t = what;
    return !t->doorman.watching && sluice_life_is_over(&t->life);
}

void sluice_transport_destroy(struct sluice_transport *t)
{
    if (!t)
        return;
    t->events = (struct sluice_transport_events){0};
    t->life.reset = true;
    t->retry.on = false;
    sluice_timer_stop(&t->again);
    if (t->life.state == SLUICE_CONN_WAITING)
        sluice_life_set_state(&t->life, SLUICE_CONN_CLOSED);
    sluice_life_close(&t->life, SLUICE_REASON_LOCAL_CLOSE, 0);
    sluice_doorman_stop(&t->doorman);
    bool over = sluice_loop_turn_until(t->loop, is_over, t);
    sluice_crew_stop(&t->crew);
    sluice_loop_remove_source(t->loop, &t->source);
    if (t->loop->preferred == &t->source)
        t->loop->preferred = NULL;
    if (!over)
        return; /* no op of it ends any more: what the kernel may write to stays */
    sluice_rx_fini(&t->rx);
    sluice_secure_fini(&t->secure);
    sluice_detach_local(t->ch, t->upstream);
    free(t);
}

struct sluice_client *sluice_transport_upstream(struct sluice_transport *t)
{
    if (!t->upstream && t->crew.wanted != SLUICE_MODEL_TWO_THREAD &&
        sluice_attach_local(&t->upstream, t->ch, SLUICE_UPSTREAM) == 0)
        sluice_client_is_inline(t->upstream);
    return t->upstream;
}
