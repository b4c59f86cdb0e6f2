/*
 * How a transport's connection begins, and begins again.
 */
#include "transport.h"
#include "describe.h"
#include "offload.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void sluice_transport_refuse(struct sluice_transport *t, const char *why)
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
    sluice_transport_refuse(t, why);
    sluice_life_close(&t->life, SLUICE_REASON_UNSUPPORTED, 0);
    return -ENOTSUP;
}

/* Now that it is known what the connection is. */
static int start_crew(struct sluice_transport *t)
{
    const struct sluice_model_facts facts = {.tls = t->life.is_tls,
                                             .in_kernel = t->secure.offload.in_kernel,
                                             .in_line = t->upstream != NULL};
    int err = sluice_crew_choose(&t->crew, &facts);
    if (err) {
        sluice_transport_refuse(t, t->crew.reason);
        sluice_life_close(&t->life, t->secure.error.reason, err == -ENOTSUP ? 0 : -err);
        return err;
    }
    t->tx.remote.thread = t->crew.runs == SLUICE_MODEL_THREE_THREAD ? &t->crew.tx : NULL;
    sluice_away_use(&t->rx, t->crew.runs == SLUICE_MODEL_SINGLE ? NULL : &t->crew.rx);
    return 0;
}

int sluice_transport_receive(struct sluice_transport *t)
{
    int err = sluice_rx_start(&t->rx);
    if (err)
        sluice_life_close(&t->life, sluice_life_reason(-err), -err);
    return err;
}

void sluice_transport_secure(struct sluice_life *c)
{
    struct sluice_transport *t = sluice_transport_of(c);
    sluice_channel_set_ready(t->ch, SLUICE_READY_TCP, 0);
    if (check_stamps(t))
        return;
    if (sluice_secure_begin(&t->secure, c->dial->url.host, c))
        sluice_life_close(c, t->secure.error.reason, 0);
    else
        sluice_transport_receive(t);
}

void sluice_transport_opened(struct sluice_life *c)
{
    struct sluice_transport *t = sluice_transport_of(c);
    const struct sluice_meta event = {.connection = t->connection,
                                      .event_cycle = sluice_cycles(),
                                      .event = SLUICE_EVENT_CONNECTED};
    if ((!c->is_tls && check_stamps(t)) || start_crew(t))
        return;
    t->opened_ns = sluice_realtime_ns();
    t->open_since_ns = t->loop->now_ns;
    sluice_count(t->ch, SLUICE_COUNTER_connections, 1);
    sluice_describe_open(t->ch, c, &t->crew, &t->secure);
    sluice_channel_set_ready(t->ch, SLUICE_READY_TCP | SLUICE_READY_TLS, 0);
    sluice_inbox_control(t->ch, &event);
    sluice_tx_start(&t->tx, t->connection);
    sluice_transport_watch(t);
    if (!c->is_tls && sluice_transport_receive(t))
        return;
    if (t->events.on_open)
        t->events.on_open(t, t->user);
}

/* At the first tls://: its files are read, its rings made. */
static int prepare_tls(struct sluice_transport *t)
{
    if (t->rx.raw.base)
        return 0;
    t->secure.ktls_off = t->life_cfg.timestamps ? "--timestamps: the kernel's TLS gives none"
                         : t->crew.wanted == SLUICE_MODEL_THREE_THREAD ? "--model three-thread"
                                                                       : NULL;
    int err = sluice_secure_open(&t->secure, t->tls_provider, t->tls_cfg, t->ktls);
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

static int dial(struct sluice_transport *t, const struct sluice_url *url)
{
    t->opened_ns = 0;
    t->ending_first = t->end_begun = t->fin_sent = false;
    t->send_failed = t->tls_failed = false;
    t->tx.connection = t->connection;
    sluice_describe_attempt(t->ch, &t->life, &t->crew);
    return sluice_dial_start(&t->dial, &t->life, url);
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
        sluice_transport_refuse(t, t->crew.reason);
        return err;
    }
    if (t->life.is_tls && t->life_cfg.timestamps && t->ktls == SLUICE_KTLS_REQUIRE) {
        sluice_transport_refuse(
            t, "--timestamps: the kernel's TLS gives none: take --ktls auto or off");
        return -ENOTSUP;
    }
    err = t->life.is_tls ? prepare_tls(t) : 0;
    if (err)
        return err;
    t->retry.failures = t->dial.turn = 0;
    t->dial.cores = sluice_system_cores(&t->cores) == 0 ? &t->cores : NULL;
    t->ending = false;
    err = dial(t, &url);
    if (!err)
        t->loop->active++;
    return err;
}

/* ---- and again ---- */

static void wait(struct sluice_transport *t, uint64_t wait_ns);

void sluice_transport_try_again(struct sluice_transport *t)
{
    t->again_due = !sluice_inbox_has_room_to_open(t->ch);
    if (t->again_due)
        return;
    t->dial.turn++; /* another address first */
    t->secure.error = (struct sluice_tls_error){.alert = -1};
    int err = dial(t, &t->dial.url);
    if (!err)
        return;
    sluice_log(SLUICE_LOG_WARN, "%s: connecting again: %s", t->ch->header->name, strerror(-err));
    sluice_count(t->ch, SLUICE_COUNTER_connect_failures, 1);
    wait(t, sluice_retry_wait_ns(&t->retry, 0, t->loop->now_ns));
}

static void waited(struct sluice_timer *timer)
{
    sluice_transport_try_again(SLUICE_CONTAINER_OF(timer, struct sluice_transport, again));
}

static void wait(struct sluice_transport *t, uint64_t wait_ns)
{
    sluice_loop_start_timer(t->loop, &t->again, wait_ns, waited);
}

void sluice_transport_wait(struct sluice_transport *t, const struct sluice_close_record *record)
{
    uint64_t open_ns = t->opened_ns ? t->loop->now_ns - t->open_since_ns : 0;
    uint64_t wait_ns = sluice_retry_wait_ns(&t->retry, open_ns, t->loop->now_ns);
    sluice_life_set_state(&t->life, SLUICE_CONN_WAITING);
    sluice_channel_flush(t->ch);
    wait(t, wait_ns);
    if (t->events.on_retry)
        t->events.on_retry(t, record, wait_ns, t->user);
}

int sluice_transport_reconnect(struct sluice_transport *t)
{
    if (t->ending || sluice_life_is_over(&t->life))
        return -ENOTCONN;
    if (t->life.state == SLUICE_CONN_WAITING && t->again.runs)
        wait(t, 0);
    else
        sluice_life_close(&t->life, SLUICE_REASON_RECONNECT, 0);
    return 0;
}
