/*
 * The session: an engine on this thread, an upstream on another that attaches by name. A hundred
 * messages there and back, a new connection, as many again, the end. Whatever fails is told by a
 * code, by a close record or by a line; the session writes down which, and goes on if it can.
 */
#include "torture.h"
#include "base/clock.h"

#include <sluice/sluice.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME          "torture"
#define ROUNDS        2u
#define MESSAGES      100u
#define MESSAGE_BYTES 300u
#define RETRIES_MAX   8u
#define PATIENCE_NS   ((int64_t)(2 * SLUICE_NS_PER_S)) /* longer than any limit below */
#define LIMIT_NS      (1 * SLUICE_NS_PER_S)

struct torture {
    const struct session *session;
    struct report *report;
    struct sluice_loop *loop;
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    pthread_mutex_t lock; /* of report->said */
    unsigned retries;
    /* the upstream's */
    struct sluice_client *client;
    unsigned round, messages; /* done */
    unsigned ends;            /* of connections, seen */
    uint64_t sent, received;  /* bytes of this connection */
    bool open, over, asked;
};

__attribute__((format(printf, 2, 3))) static void say(struct torture *t, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&t->lock);
    size_t n = strlen(t->report->said);
    snprintf(t->report->said + n, sizeof(t->report->said) - n, "%s%s", n ? "; " : "", text);
    pthread_mutex_unlock(&t->lock);
}

static int told(struct torture *t, const char *what, int err)
{
    if (err < 0)
        say(t, "%s: %s", what, strerror(-err));
    return err;
}

/* ---- the upstream ---- */

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 167u ^ at >> 9);
}

static void take_bytes(struct torture *t, const struct sluice_meta *entry)
{
    const uint8_t *bytes = sluice_inbox_at(t->client, entry->msg_inbox_offset);
    for (uint32_t i = 0; i < entry->decrypted_len; i++)
        if (bytes[i] != byte_at(t->received + i))
            t->report->silent = true; /* the worst: nobody said that it is wrong */
    t->received += entry->decrypted_len;
}

static void take_entry(struct torture *t, const struct sluice_meta *entry)
{
    switch ((enum sluice_event)entry->event) {
    case SLUICE_EVENT_DATA:
        take_bytes(t, entry);
        break;
    case SLUICE_EVENT_CONNECTED:
        t->open = true;
        t->sent = t->received = 0;
        t->messages = 0;
        break;
    case SLUICE_EVENT_EOF:
        break;
    case SLUICE_EVENT_DISCONNECTED:
        t->open = false;
        t->ends++;
        t->over = entry->reason == SLUICE_REASON_LOCAL_CLOSE;
        if (entry->reason != SLUICE_REASON_LOCAL_CLOSE && entry->reason != SLUICE_REASON_RECONNECT)
            say(t, "disconnected: %s, %s", sluice_reason_name(entry->reason),
                strerror(entry->os_error));
        break;
    }
}

/* Waits for something and takes it: 0, or why there will be no more. */
static int take_some(struct torture *t)
{
    const struct sluice_meta *entries;
    uint64_t since_ns = sluice_monotonic_ns();
    int what = sluice_client_wait(t->client, SLUICE_WAIT_INBOX, PATIENCE_NS);
    if (what >= 0 && sluice_monotonic_ns() - since_ns >= (uint64_t)PATIENCE_NS) {
        t->report->silent = true; /* nobody rang, whatever is there */
        say(t, "nothing comes: connection %u %s, %u messages, %llu bytes sent, %llu back",
            t->round + 1, t->open ? "open" : "not open", t->messages, (unsigned long long)t->sent,
            (unsigned long long)t->received);
    }
    if (what == -EINTR)
        return 0;
    if (what <= 0)
        return what ? told(t, "wait", what) : -ETIMEDOUT;
    int64_t n = sluice_inbox_peek(t->client, &entries, 64);
    for (int64_t i = 0; i < n; i++)
        take_entry(t, &entries[i]);
    return told(t, "inbox", n < 0 ? (int)n : sluice_inbox_release(t->client, (uint32_t)n));
}

static int write_message(struct torture *t)
{
    void *room;
    int err = told(t, "claim", sluice_outbox_claim(t->client, MESSAGE_BYTES, &room));
    if (err)
        return err;
    for (unsigned i = 0; i < MESSAGE_BYTES; i++)
        ((uint8_t *)room)[i] = byte_at(t->sent + i);
    t->sent += MESSAGE_BYTES;
    sluice_outbox_commit(t->client, 0, SLUICE_MESSAGE_DATA);
    return 0;
}

/* One after the other, on one connection; what breaks begins anew on the next one. */
static int exchange(struct torture *t)
{
    int err = 0;
    while (!err && t->messages < MESSAGES) {
        inject_phase(t->open ? INJECT_STEADY : INJECT_EDGES);
        if (t->open && t->sent == t->received)
            err = write_message(t);
        while (!err && (!t->open || t->sent != t->received)) {
            err = take_some(t);
            if (!t->open)
                break;
        }
        t->messages += !err && t->open;
    }
    inject_phase(INJECT_EDGES);
    return err;
}

/* Asks for the end, and sees it. What follows may come with it. */
static int end(struct torture *t, const char *what, int (*ask)(struct sluice_client *))
{
    unsigned before = t->ends;
    int err = t->open ? told(t, what, ask(t->client)) : 0;
    while (!err && t->open && t->ends == before)
        err = take_some(t);
    return err;
}

static void converse(struct torture *t)
{
    int err = 0;
    for (t->round = 0; t->round < ROUNDS && !err; t->round++) {
        bool is_last = t->round + 1 == ROUNDS;
        t->messages = 0;
        err = exchange(t);
        if (!err && is_last)
            err = end(t, "close", sluice_client_request_close);
        else if (!err)
            err = end(t, "reconnect", sluice_client_request_reconnect);
    }
    t->report->complete = !err && t->over;
}

static void *upstream_run(void *arg)
{
    struct torture *t = arg;
    if (told(t, "attach", sluice_attach(&t->client, NAME, SLUICE_UPSTREAM, PATIENCE_NS)) == 0)
        converse(t);
    if (!t->report->complete)
        sluice_loop_stop(t->loop);
    sluice_detach(t->client);
    return NULL;
}

/* ---- the engine ---- */

static void on_retry(struct sluice_transport *transport, const struct sluice_close_record *record,
                     uint64_t wait_ns, void *user)
{
    struct torture *t = user;
    (void)wait_ns;
    if (record->reason == SLUICE_REASON_RECONNECT)
        return;
    say(t, "retry after %s, %s %s", sluice_reason_name(record->reason), strerror(record->os_error),
        sluice_transport_why(transport));
    if (++t->retries == RETRIES_MAX)
        sluice_loop_stop(t->loop);
}

static void on_close(struct sluice_transport *transport, const struct sluice_close_record *record,
                     void *user)
{
    struct torture *t = user;
    if (record->reason != SLUICE_REASON_LOCAL_CLOSE)
        say(t, "closed: %s, %s %s", sluice_reason_name(record->reason), strerror(record->os_error),
            sluice_transport_why(transport));
    sluice_loop_stop(t->loop);
}

static int open_engine(struct torture *t, const struct sluice_transport_config *transport_cfg)
{
    const struct sluice_loop_config loop_cfg = {.backend = t->session->backend};
    const struct sluice_channel_config channel_cfg = {
        .name = NAME, .inbox_bytes = 65536, .outbox_bytes = 65536};
    const struct sluice_transport_events events = {.on_retry = on_retry, .on_close = on_close};
    char why[256] = "";
    int err = sluice_loop_create(&t->loop, &loop_cfg, why, sizeof(why));
    if (err)
        say(t, "loop: %s: %s", strerror(-err), why);
    if (err && !why[0])
        t->report->silent = true;
    if (!err)
        err = told(t, "channel", sluice_channel_create(&t->channel, &channel_cfg));
    if (!err)
        err = told(
            t, "transport",
            sluice_transport_create(&t->transport, t->loop, t->channel, transport_cfg, &events, t));
    return err;
}

static void note_choice(struct torture *t)
{
    struct sluice_state state;
    sluice_channel_state(t->channel, &state);
    snprintf(t->report->chosen, sizeof(t->report->chosen), "%s: %s | %s: %s | %s: %s",
             state.backend, state.backend_reason, state.model, state.model_reason, state.tls,
             state.tls_reason);
}

static void run_engine(struct torture *t)
{
    char url[64];
    pthread_t upstream;
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u", t->session->tls ? "tls" : "tcp",
             t->session->port);
    if (told(t, "upstream", -pthread_create(&upstream, NULL, upstream_run, t)))
        return;
    int err = sluice_transport_connect(t->transport, url);
    if (err)
        say(t, "connect: %s %s", strerror(-err), sluice_transport_why(t->transport));
    else
        told(t, "run", sluice_loop_run(t->loop));
    note_choice(t);
    sluice_transport_destroy(t->transport);
    sluice_channel_destroy(t->channel);
    t->transport = NULL;
    t->channel = NULL;
    pthread_join(upstream, NULL);
}

void session_run(const struct session *s, struct report *r)
{
    struct torture t = {.session = s, .report = r, .lock = PTHREAD_MUTEX_INITIALIZER};
    const struct sluice_tls_config tls = {.ca = s->ca, .verify_name = "good.example.test"};
    const struct sluice_transport_config cfg = {.tls = &tls,
                                                .ktls = SLUICE_KTLS_OFF,
                                                .model = SLUICE_MODEL_AUTO,
                                                .reconnect = true,
                                                .retry_first_ns = SLUICE_NS_PER_MS,
                                                .connect_timeout_ns = LIMIT_NS,
                                                .drain_timeout_ns = LIMIT_NS,
                                                .tls_timeout_ns = LIMIT_NS};
    if (open_engine(&t, &cfg) == 0)
        run_engine(&t);
    sluice_transport_destroy(t.transport);
    sluice_channel_destroy(t.channel);
    sluice_loop_destroy(t.loop);
}
