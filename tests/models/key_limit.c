/*
 * One key is good for so many records (RFC 8446 5.5). With a limit that a test can reach: a long
 * stream goes on under new keys; where there are none to be had (TLS 1.2 and older kernels, when it
 * is the kernel that encrypts) the connection ends before the limit, between two messages.
 */
#include "peer.h"
#include "upstream.h"
#include "reason.h"
#include "sluice.h"
#include "tests/support/new_keys.h"
#include "tests/support/tap.h"
#include "tls/tls.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MESSAGES      300u
#define MESSAGE_BYTES 20000u
#define OUTBOX_BYTES  (16u << 20)
#define RECORDS_MAX   100u
#define RECORDS_RUN   17u /* of the largest SEND: the one that crosses the limit is finished */
#define KEY_UPDATE    24

/* Of so many messages at least; one in a SEND of its own makes two. */
#define RECORDS(messages) ((messages)*MESSAGE_BYTES / SLUICE_TLS_RECORD_MAX)

static char ca[512];
static unsigned updates; /* that the peer read: its thread's until it is joined */

static void peer_side(struct peer *p)
{
    peer_take_to_end(p);
    peer_half_close(p);
}

static void upstream_side(struct upstream *u)
{
    for (unsigned i = 0; i < MESSAGES; i++)
        upstream_send(u, MESSAGE_BYTES);
    upstream_finish(u);
    upstream_take_to_end(u);
}

static const struct script script = {.name = "a long stream", peer_side, upstream_side};

static void watch(int is_written, int version, int type, const void *data, size_t bytes, SSL *ssl,
                  void *user)
{
    (void)version, (void)ssl, (void)user;
    updates += !is_written && type == SSL3_RT_HANDSHAKE && bytes > 0 &&
               *(const uint8_t *)data == KEY_UPDATE;
}

static SSL_CTX *make_server(uint16_t version)
{
    const char *folder = getenv("TESTS_CERTS");
    char cert[512], key[512];
    SLUICE_CHECK(folder != NULL);
    snprintf(ca, sizeof(ca), "%s/root.pem", folder);
    snprintf(cert, sizeof(cert), "%s/good.pem", folder);
    snprintf(key, sizeof(key), "%s/good.key", folder);
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    SLUICE_CHECK(server && SSL_CTX_use_certificate_chain_file(server, cert) == 1);
    SLUICE_CHECK(SSL_CTX_use_PrivateKey_file(server, key, SSL_FILETYPE_PEM) == 1);
    SSL_CTX_set_min_proto_version(server, version);
    SSL_CTX_set_max_proto_version(server, version);
    SSL_CTX_set_msg_callback(server, watch);
    return server;
}

static void keep_record(struct sluice_transport *t, const struct sluice_close_record *record,
                        void *user)
{
    (void)t;
    *(struct sluice_close_record *)user = *record;
}

static void run(SSL_CTX *server, enum sluice_ktls ktls, struct peer *p, struct upstream *u,
                struct sluice_close_record *record)
{
    char url[64], why[160];
    struct sluice_loop *loop;
    struct sluice_channel *ch;
    struct sluice_transport *transport;
    struct sluice_client *client;
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_SLEEP};
    const struct sluice_channel_config channel_cfg = {.outbox_bytes = OUTBOX_BYTES};
    const struct sluice_tls_config tls = {.ca = ca, .verify_name = "good.example.test"};
    const struct sluice_transport_config cfg = {
        .tls = &tls, .ktls = ktls, .model = SLUICE_MODEL_SINGLE};
    const struct sluice_transport_events events = {.on_close = keep_record};
    must(sluice_loop_create(&loop, &loop_cfg, why, sizeof(why)));
    must(sluice_channel_create(&ch, &channel_cfg));
    must(sluice_transport_create(&transport, loop, ch, &cfg, &events, record));
    must(sluice_attach_local(&client, ch, SLUICE_UPSTREAM));
    updates = 0;
    peer_start(p, &script, server);
    upstream_start(u, &script, client);
    snprintf(url, sizeof(url), "tls://127.0.0.1:%u", p->port);
    must(sluice_transport_connect(transport, url));
    must(sluice_loop_run(loop));
    upstream_join(u);
    peer_join(p);
    sluice_detach(client);
    sluice_transport_destroy(transport);
    sluice_channel_destroy(ch);
    sluice_loop_destroy(loop);
}

/* All arrived; in TLS 1.3 not one key was used for longer than allowed. */
static bool went_on(const struct sluice_close_record *r, const struct peer *p, bool renewed)
{
    const unsigned updates_min = RECORDS(MESSAGES) / (RECORDS_MAX + RECORDS_RUN);
    return r->reason == SLUICE_REASON_PEER_CLOSE && p->messages == MESSAGES &&
           r->messages_left == 0 && (renewed ? updates >= updates_min : updates == 0);
}

/* Whole messages, as many as a key is good for, and a clean end behind them. */
static bool ended(const struct sluice_close_record *r, const struct peer *p)
{
    return r->reason == SLUICE_REASON_TLS_REKEY && r->half_sent_bytes == 0 && p->ended &&
           p->messages == r->messages_sent && p->messages >= RECORDS_MAX / 4 &&
           RECORDS(p->messages) <= RECORDS_MAX + RECORDS_RUN && updates == 0;
}

static void check_limit(const char *name, uint16_t version, enum sluice_ktls ktls, bool renews)
{
    static struct peer p;
    static struct upstream u;
    struct sluice_close_record record = {0};
    SSL_CTX *server = make_server(version);
    run(server, ktls, &p, &u, &record);
    SSL_CTX_free(server);
    bool is_1_3 = version == TLS1_3_VERSION;
    bool in_kernel = ktls == SLUICE_KTLS_REQUIRE;
    bool ok = renews || !in_kernel ? went_on(&record, &p, is_1_3) : ended(&record, &p);
    tap_ok(ok && !p.finding.text && !u.finding.text, "%s: %s", name,
           renews      ? "new keys before the limit of the old ones"
           : in_kernel ? "ends before the limit of its key, with tls-rekey"
                       : "goes on");
    tap_note("%s; %u of %u messages, %llu left, %u KeyUpdates", sluice_reason_name(record.reason),
             p.messages, MESSAGES, (unsigned long long)record.messages_left, updates);
    if (p.finding.text || u.finding.text)
        tap_note("%s", p.finding.text ? p.finding.text : u.finding.text);
}

static bool have_ktls(void)
{
    struct sluice_probe probe;
    sluice_probe(&probe);
    for (uint32_t i = 0; i < probe.count; i++)
        if (strcmp(probe.features[i].name, "ktls") == 0)
            return probe.features[i].have;
    return false;
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* OpenSSL's peer writes without MSG_NOSIGNAL */
    sluice_tls_records_per_key = RECORDS_MAX;
    tap_begin();
    check_limit("TLS 1.3 in user space", TLS1_3_VERSION, SLUICE_KTLS_OFF, true);
    check_limit("TLS 1.2 in user space", TLS1_2_VERSION, SLUICE_KTLS_OFF, false);
    if (have_ktls()) {
        check_limit("TLS 1.3 in the kernel", TLS1_3_VERSION, SLUICE_KTLS_REQUIRE,
                    kernel_takes_new_keys());
        check_limit("TLS 1.2 in the kernel", TLS1_2_VERSION, SLUICE_KTLS_REQUIRE, false);
    } else {
        tap_skip("TLS in the kernel", "this kernel has no tls module; the guests of tests/vm do");
    }
    return tap_end();
}
