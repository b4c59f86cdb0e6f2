/*
 * One script of behaviour on every backend, model and kind of TLS that this machine offers: the
 * same bytes, the same messages in the same order, the same events, the same close record. What a
 * run must show stands with its script; what it need not, the first run decides for all that
 * follow.
 */
#include "peer.h"
#include "upstream.h"
#include "sluice.h"
#include "tests/support/one_view.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum tls { PLAIN, USER_SPACE, KERNEL };

struct combination {
    const char *backend;
    enum sluice_model model;
    enum tls tls;
};

/* What is compared. */
struct outcome {
    uint8_t events[EVENTS_MAX];
    uint32_t event_count;
    struct sluice_close_record record;
    char model[32];
};

static const char *const tls_names[] = {"plain", "TLS in user space", "TLS in the kernel"};
static const char *const model_names[] = {[SLUICE_MODEL_SINGLE] = "single",
                                          [SLUICE_MODEL_TWO_THREAD] = "two-thread",
                                          [SLUICE_MODEL_THREE_THREAD] = "three-thread"};
static unsigned tried, same_as_all;
static SSL_CTX *server;
static char ca[512];

/* ---- one run ---- */

static struct sluice_loop *open_loop(const char *backend)
{
    struct sluice_loop *loop;
    char why[160];
    const struct sluice_loop_config cfg = {.backend = backend, .idle = SLUICE_IDLE_SLEEP};
    if (sluice_loop_create(&loop, &cfg, why, sizeof(why)))
        tap_note("%s", why);
    SLUICE_CHECK(loop != NULL);
    return loop;
}

static struct sluice_channel *open_channel(const struct script *script)
{
    struct sluice_channel *ch;
    const struct sluice_channel_config cfg = {.inbox_bytes = script->inbox_bytes,
                                              .outbox_bytes = script->outbox_bytes,
                                              .metadata_entries = script->metadata_entries};
    must(sluice_channel_create(&ch, &cfg));
    return ch;
}

static void keep_record(struct sluice_transport *t, const struct sluice_close_record *record,
                        void *user)
{
    (void)t;
    struct outcome *outcome = user;
    outcome->record = *record;
}

static void run_loop(struct sluice_loop *loop, struct sluice_channel *ch, struct outcome *outcome)
{
    struct sluice_state state;
    must(sluice_loop_run(loop));
    sluice_channel_state(ch, &state);
    snprintf(outcome->model, sizeof(outcome->model), "%s", state.model);
}

static void run(const struct combination *c, const struct script *script, struct outcome *outcome,
                struct peer *p, struct upstream *u)
{
    static struct one_view view;
    char url[64];
    struct sluice_transport *transport;
    struct sluice_client *client;
    struct sluice_loop *loop = open_loop(c->backend);
    struct sluice_channel *ch = open_channel(script);
    const struct sluice_tls_config tls = {.ca = ca, .verify_name = "good.example.test"};
    const struct sluice_transport_config cfg = {.tls = &tls,
                                                .ktls = c->tls == KERNEL ? SLUICE_KTLS_REQUIRE
                                                                         : SLUICE_KTLS_OFF,
                                                .model = c->model};
    const struct sluice_transport_events events = {.on_close = keep_record};
    memset(outcome, 0, sizeof(*outcome));
    must(sluice_transport_create(&transport, loop, ch, &cfg, &events, outcome));
    must(sluice_attach_local(&client, ch, SLUICE_UPSTREAM));
    one_view_open(&view, ch, client);
    peer_start(p, script, c->tls == PLAIN ? NULL : server);
    upstream_start(u, script, client);
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u", c->tls == PLAIN ? "tcp" : "tls", p->port);
    must(sluice_transport_connect(transport, url));
    run_loop(loop, ch, outcome);
    upstream_join(u);
    peer_join(p);
    memcpy(outcome->events, u->events, sizeof(u->events));
    outcome->event_count = u->event_count;
    one_view_close(&view, ch, client);
    sluice_detach(client);
    sluice_transport_destroy(transport);
    sluice_channel_destroy(ch);
    sluice_loop_destroy(loop);
}

/* ---- what must come of it ---- */

static bool same(const char *what, uint64_t is, uint64_t should)
{
    if (is != should)
        tap_note("%s: %llu, not %llu", what, (unsigned long long)is, (unsigned long long)should);
    return is == should;
}

/* Messages stand in the record with their PONGs. */
static bool as_scripted(const struct script *s, const struct outcome *o, const struct peer *p,
                        const struct upstream *u)
{
    bool any = s->received_bytes == ANY_BYTES;
    uint64_t received = any ? o->record.received_bytes : s->received_bytes;
    uint64_t taken = any ? u->taken_bytes : s->received_bytes;
    bool finished = u->finished; /* a message of no bytes, that the peer does not see */
    return same("reason", o->record.reason, s->reason) &
           same("bytes received", o->record.received_bytes, received) &
           same("bytes of the entries", u->taken_bytes, taken) &
           same("messages sent", o->record.messages_sent, s->sent_messages + s->sent_pongs) &
           same("messages taken", p->messages + finished, s->sent_messages) &
           same("PONGs taken", p->pongs, s->sent_pongs) &
           same("bytes sent", o->record.sent_bytes, p->taken_bytes) &
           same("half a message", o->record.half_sent_bytes, 0) &
           same("messages left", o->record.messages_left, 0);
}

static bool as_before(const struct outcome *o, const struct outcome *first)
{
    return same("number of events", o->event_count, first->event_count) &
           same("events", (uint64_t)memcmp(o->events, first->events, EVENTS_MAX), 0) &
           same("errno", (uint64_t)o->record.os_error, (uint64_t)first->record.os_error) &
           same("alert", o->record.tls_alert, first->record.tls_alert);
}

static void try(const struct combination *c, const struct script *script, struct outcome *first)
{
    static struct peer p;
    static struct upstream u;
    struct outcome outcome;
    run(c, script, &outcome, &p, &u);
    if (first->event_count == 0)
        *first = outcome;
    bool ok = !p.finding.text && !u.finding.text && as_scripted(script, &outcome, &p, &u) &&
              as_before(&outcome, first) && strcmp(outcome.model, model_names[c->model]) == 0;
    tried++;
    same_as_all += ok;
    tap_ok(ok, "%s: %s, %s, %s", script->name, c->backend, model_names[c->model],
           tls_names[c->tls]);
    if (p.finding.text)
        tap_note("peer: %s, at %llu", p.finding.text, (unsigned long long)p.finding.at);
    if (u.finding.text)
        tap_note("upstream: %s, at %llu", u.finding.text, (unsigned long long)u.finding.at);
}

/* ---- on what ---- */

#if defined(__SANITIZE_THREAD__)
#define ONLY_THREADS true /* one thread has no races */
#else
#define ONLY_THREADS false
#endif

static bool have(const char *feature)
{
    struct sluice_probe probe;
    sluice_probe(&probe);
    for (uint32_t i = 0; i < probe.count; i++)
        if (strcmp(probe.features[i].name, feature) == 0)
            return probe.features[i].have;
    return false;
}

/* TESTS_ONLY=TEXT in the environment: those whose name has it. */
static bool wanted(const struct combination *c, const struct script *script)
{
    const char *only = getenv("TESTS_ONLY");
    char name[128];
    snprintf(name, sizeof(name), "%s: %s, %s, %s", script->name, c->backend, model_names[c->model],
             tls_names[c->tls]);
    return !only || strstr(name, only);
}

static void try_all(const struct script *script, const char *const *backends, unsigned count,
                    bool ktls)
{
    static const struct combination kinds[] = {
        {.model = SLUICE_MODEL_SINGLE, .tls = PLAIN},
        {.model = SLUICE_MODEL_TWO_THREAD, .tls = PLAIN},
        {.model = SLUICE_MODEL_SINGLE, .tls = USER_SPACE},
        {.model = SLUICE_MODEL_THREE_THREAD, .tls = USER_SPACE},
        {.model = SLUICE_MODEL_SINGLE, .tls = KERNEL},
        {.model = SLUICE_MODEL_TWO_THREAD, .tls = KERNEL},
    };
    struct outcome first = {0};
    for (unsigned b = 0; b < count; b++) {
        for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            struct combination c = kinds[k];
            c.backend = backends[b];
            bool threads = c.model != SLUICE_MODEL_SINGLE;
            if ((ktls || c.tls != KERNEL) && (threads || !ONLY_THREADS) && wanted(&c, script))
                try(&c, script, &first);
        }
    }
}

static void begin_tls(void)
{
    const char *folder = getenv("TESTS_CERTS");
    char cert[512], key[512];
    SLUICE_CHECK(folder != NULL);
    snprintf(ca, sizeof(ca), "%s/root.pem", folder);
    snprintf(cert, sizeof(cert), "%s/good.pem", folder);
    snprintf(key, sizeof(key), "%s/good.key", folder);
    server = SSL_CTX_new(TLS_server_method());
    SLUICE_CHECK(server && SSL_CTX_use_certificate_chain_file(server, cert) == 1);
    SLUICE_CHECK(SSL_CTX_use_PrivateKey_file(server, key, SSL_FILETYPE_PEM) == 1);
}

int main(void)
{
    static const char *const all[] = {"uring", "ev:epoll", "ev:poll", "ev:select"};
    static const char *const features[] = {"io_uring", "ev.epoll", "ev.poll", "ev.select"};
    const char *backends[4];
    unsigned count = 0;
    bool ktls = have("ktls"), in_guest = getenv("TESTS_GUEST") != NULL;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL's peer writes without MSG_NOSIGNAL */
    tap_begin();
    begin_tls();
    for (unsigned i = 0; i < 4; i++)
        if (have(features[i]))
            backends[count++] = all[i];
    SLUICE_CHECK(count >= 2);
    for (unsigned i = 0; i < script_count; i++)
        try_all(&scripts[i], backends, in_guest ? 1 : ONLY_THREADS ? 2 : count, ktls);
    if (!ktls)
        tap_skip("TLS in the kernel", "this kernel has no tls module; the guests of tests/vm do");
    tap_ok(tried > 0 && same_as_all == tried, "row 73: the same bytes, events and records on each");
    SSL_CTX_free(server);
    return tap_end();
}
