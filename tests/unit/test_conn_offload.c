/*
 * TLS of connections where the kernel has it: that it is there, in both directions; what it leaves
 * to us; what is said where it cannot be had. Bytes and ends: test_conn_tls.c.
 */
#include "tests/support/new_keys.h"
#include "tests/support/tls_ends.h"

#include <errno.h>
#include <linux/tls.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define RECORDS_MAX 40u

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

/* ---- where the records are made ---- */

/* The socket's own word: 0 where it has keys for this direction. */
static int keys_of(const struct heard *h, int direction, uint16_t *version)
{
    struct tls_crypto_info info = {0};
    socklen_t bytes = sizeof(info);
    int err = getsockopt(h->conn->life.fd, SOL_TLS, direction, &info, &bytes) ? -errno : 0;
    *version = info.version;
    return err;
}

static void expect_where(const struct heard *h, enum sluice_ktls ktls, bool is_sim)
{
    struct sluice_tls_facts facts;
    uint16_t tx = 0, rx = 0;
    cr_assert_eq(sluice_conn_tls(h->conn, &facts), 0);
    cr_expect_eq(facts.in_kernel, in_kernel(ktls));
    if (!in_kernel(ktls)) {
        cr_expect_eq(strncmp(facts.where, "user space (", 12), 0, "%s", facts.where);
        cr_expect(is_sim || keys_of(h, TLS_TX, &tx));
        cr_expect(is_sim || keys_of(h, TLS_RX, &rx));
        return;
    }
    uint16_t version = strcmp(facts.version, "TLSv1.2") == 0 ? TLS_1_2_VERSION : TLS_1_3_VERSION;
    cr_expect_str_eq(facts.where, "kernel, both ways");
    cr_expect_eq(keys_of(h, TLS_TX, &tx), 0);
    cr_expect_eq(keys_of(h, TLS_RX, &rx), 0);
    cr_expect_eq(tx, version);
    cr_expect_eq(rx, version);
}

/* Of all sockets since the kernel began. */
static unsigned long long count_of(const char *name)
{
    unsigned long long count = 0;
    char line[128];
    FILE *file = fopen("/proc/net/tls_stat", "r");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), "%llu", &count);
    if (file)
        fclose(file);
    return count;
}

/* By the facts, by the socket, by the kernel's counters; and the library encrypts nothing more. */
EACH_TLS(conn_offload, facts_say_where)
{
    struct conns_world w;
    unsigned ends = in_kernel(on->client) + in_kernel(on->server);
    unsigned long long tx = count_of("TlsTxSw"), rx = count_of("TlsRxSw");
    tls_world_open_as(&w, on, &small);
    world_pair(&w);
    cr_expect_geq(count_of("TlsTxSw"), tx + ends);
    cr_expect_geq(count_of("TlsRxSw"), rx + ends);
    expect_where(&w.client, on->client, world_is_sim(&w));
    expect_where(&w.server, on->server, world_is_sim(&w));
    const struct sluice_tls_session *client = w.client.conn->tls->session,
                                    *server = w.server.conn->tls->session;
    uint64_t of_client = client->out_tail, of_server = server->out_tail;
    sluice_conn_set_events(w.server.conn, &heard_echoing);
    write_pattern(w.client.conn, 0, 50000);
    TURN_UNTIL(&w, w.client.count == 50000);
    expect_pattern(&w.client, 50000);
    cr_expect_eq(client->out_tail == of_client, in_kernel(on->client));
    cr_expect_eq(server->out_tail == of_server, in_kernel(on->server));
    tls_world_close(&w);
}

static void speak_first(struct heard *h, const char *what)
{
    if (strcmp(what, "open") == 0)
        write_pattern(h->conn, 0, 20000);
}

/* Right behind Finished, in front of the peer's tickets or behind ours. */
EACH_TLS(conn_offload, first_words_are_not_lost)
{
    for (int round = 0; round < 10; round++) {
        struct conns_world w;
        tls_world_open_as(&w, on, &small);
        w.client.then = w.server.then = speak_first;
        world_connect(&w);
        TURN_UNTIL(&w, w.client.count == 20000 && w.server.count == 20000);
        expect_pattern(&w.client, 20000);
        expect_pattern(&w.server, 20000);
        tls_world_close(&w);
    }
}

/* Encrypted by whoever has the keys, between what was written. */
EACH_TLS(conn_offload, sends_a_file)
{
    enum { BYTES = 200000 };
    struct conns_world w;
    struct heard_send file = {
        .send = {.file = pattern_file(100, BYTES), .bytes = BYTES, .done = heard_sent}};
    tls_world_open_as(&w, on, &small);
    world_pair(&w);
    write_pattern(w.server.conn, 0, 100);
    cr_assert_eq(sluice_conn_send_file(w.server.conn, &file.send), 0);
    cr_expect_eq(sluice_conn_write(w.server.conn, "x", 1), -EAGAIN);
    TURN_UNTIL(&w, w.server.drained);
    cr_expect_eq(file.ends, 1);
    cr_expect_eq(file.result, 0);
    write_pattern(w.server.conn, 100 + BYTES, 100);
    TURN_UNTIL(&w, w.client.count == BYTES + 200);
    expect_pattern(&w.client, BYTES + 200);
    close(file.send.file);
    tls_world_close(&w);
}

/* Room for no more than one connection: none of what TLS keeps of it grows with their number. */
EACH_TLS(conn_offload, one_after_the_other)
{
    struct conns_world w;
    tls_world_open_as(&w, on, &small);
    for (int i = 0; i < 20; i++) {
        w.client = w.server = (struct heard){.conn = NULL};
        world_pair(&w);
        write_pattern(w.client.conn, 0, 100);
        TURN_UNTIL(&w, w.server.count == 100);
        sluice_conn_close(w.server.conn);
        TURN_UNTIL(&w, w.client.eofs);
        sluice_conn_close(w.client.conn);
        TURN_UNTIL(&w, w.client.closed && w.server.closed);
        cr_expect_eq(w.client.reason, SLUICE_REASON_PEER_CLOSE, "%s", w.client.why);
        cr_expect_eq(w.server.reason, SLUICE_REASON_LOCAL_CLOSE, "%s", w.server.why);
        free(w.server.bytes);
        w.server.bytes = NULL;
    }
    tls_world_close(&w);
}

/* ---- new keys ---- */

static bool goes_on(const struct on_tls *on)
{
    return !in_kernel(on->server) || kernel_takes_new_keys();
}

static bool has_other_keys(const struct on_tls *on)
{
    return strcmp(on->version, "TLSv1.3") == 0 ? goes_on(on) : !in_kernel(on->server);
}

/* KeyUpdate, with ours asked for and without: it goes on, or ends with every byte before it. */
static void meet_new_keys(const struct on_tls *on, bool asked)
{
    struct conns_world w;
    struct on_tls mine = *on;
    mine.client = SLUICE_KTLS_OFF;
    tls_world_open_as(&w, &mine, &small);
    world_pair(&w);
    struct sluice_tls_session *s = w.client.conn->tls->session;
    write_pattern(w.client.conn, 0, 1000);
    if (s->provider->rekey(s, asked)) {
        cr_expect_str_eq(on->version, "TLSv1.2");
        tls_world_close(&w);
        return;
    }
    write_pattern(w.client.conn, 1000, 1000);
    TURN_UNTIL(&w, w.server.count == 2000 || w.server.closed);
    if (goes_on(on)) {
        expect_pattern(&w.server, 2000);
        write_pattern(w.server.conn, 0, 3000);
        TURN_UNTIL(&w, w.client.count == 3000);
        expect_pattern(&w.client, 3000);
    } else {
        expect_pattern(&w.server, 1000);
        cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_REKEY, "%s: %s",
                     sluice_reason_name(w.server.reason), w.server.why);
        TURN_UNTIL(&w, w.client.eofs || w.client.closed);
        cr_expect_eq(w.client.eofs, 1, "close_notify: %s", w.client.why);
    }
    tls_world_close(&w);
}

EACH_TLS(conn_offload, new_keys_of_the_peer)
{
    meet_new_keys(on, false);
    meet_new_keys(on, true);
}

/* One key is good for so many records; where there is no other, what was taken for sending leaves,
 * and an end behind it. */
EACH_TLS(conn_offload, keys_that_served_long_enough)
{
    struct conns_world w;
    struct on_tls mine = *on;
    mine.client = SLUICE_KTLS_OFF;
    sluice_tls_records_per_key = RECORDS_MAX;
    tls_world_open_as(&w, &mine, &small);
    world_pair(&w);
    size_t sent = 0;
    for (unsigned i = 0; i < 3 * RECORDS_MAX && !w.server.closed; i++) {
        uint8_t piece[100];
        for (size_t k = 0; k < sizeof(piece); k++)
            piece[k] = byte_at(sent + k);
        int err = sluice_conn_write(w.server.conn, piece, sizeof(piece));
        cr_assert(err == 0 || err == -EPIPE, "%d", err);
        sent += err ? 0 : sizeof(piece);
        TURN_UNTIL(&w, w.client.count == sent || w.server.closed);
    }
    if (has_other_keys(on)) {
        expect_pattern(&w.client, 3 * RECORDS_MAX * 100);
        cr_expect_eq(w.server.closed, 0);
    } else {
        TURN_UNTIL(&w, w.server.closed && w.client.eofs);
        expect_pattern(&w.client, sent);
        cr_expect_lt(sent, 2 * RECORDS_MAX * 100);
        cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_REKEY, "%s: %s",
                     sluice_reason_name(w.server.reason), w.server.why);
    }
    tls_world_close(&w);
}

/* The server sends a file without an end, and the client has some of it. */
static void begin_file(struct conns_world *w, const struct on_tls *on, struct heard_send *file)
{
    struct on_tls mine = *on;
    mine.client = SLUICE_KTLS_OFF;
    *file = endless_file();
    tls_world_open_as(w, &mine, &small);
    world_pair(w);
    cr_assert_eq(sluice_conn_send_file(w->server.conn, &file->send), 0);
    TURN_UNTIL(w, w->client.count > 0);
}

/* TLS cannot go on: what the kernel took of the file leaves, and close_notify behind it. */
static void expect_end_of_keys(struct conns_world *w, const struct heard_send *file)
{
    TURN_UNTIL(w, w->server.closed && w->client.eofs);
    cr_expect_eq(w->server.reason, SLUICE_REASON_TLS_REKEY, "%s: %s",
                 sluice_reason_name(w->server.reason), w->server.why);
    cr_expect_eq(file->ends, 1);
    cr_expect_eq(file->result, -ECANCELED);
}

EACH_TLS(conn_offload, keys_that_serve_less_than_a_file)
{
    struct conns_world w;
    struct heard_send file;
    sluice_tls_records_per_key = RECORDS_MAX;
    begin_file(&w, on, &file);
    if (has_other_keys(on))
        TURN_UNTIL(&w, w.client.count > (size_t)3 * RECORDS_MAX * SLUICE_TLS_RECORD_MAX);
    else
        expect_end_of_keys(&w, &file);
    close(file.send.file);
    tls_world_close(&w);
}

EACH_TLS(conn_offload, new_keys_of_the_peer_before_the_end_of_a_file)
{
    struct conns_world w;
    struct heard_send file;
    begin_file(&w, on, &file);
    struct sluice_tls_session *s = w.client.conn->tls->session;
    if (s->provider->rekey(s, false) == 0) {
        write_pattern(w.client.conn, 0, 1000);
        TURN_UNTIL(&w, w.server.count == 1000 || w.server.closed);
        if (!goes_on(on))
            expect_end_of_keys(&w, &file);
    }
    close(file.send.file);
    tls_world_close(&w);
}

/* ---- where it cannot be had ---- */

/* Required, it is refused in a line that says why; else it goes on in user space, and says why. */
EACH_BACKEND(conn_offload, where_it_cannot_be_had)
{
    struct conns_world w;
    struct sluice_tls_facts facts;
    char why[200] = "", where[200];
    struct sluice_tls_config client = client_config(), server = server_config();
    const char *lacks = sluice_offload_lacks(tls_provider());
    client.verify_name = PAIR_HOST;
    if (kernel_can(on->name))
        client.ciphers = server.ciphers = "TLS_AES_128_CCM_SHA256";
    snprintf(where, sizeof(where), "user space (%s)",
             kernel_can(on->name) ? "the kernel's TLS has no such cipher"
             : lacks              ? lacks
                                  : "this kernel has no tls module"); /* the simulated one */
    w = (struct conns_world){.loop = world_loop(on->name, &small),
                             .client_tls = must_tls(&client),
                             .server_tls = must_tls(&server),
                             .client_ktls = SLUICE_KTLS_REQUIRE};
    world_listen(&w);
    world_connect(&w);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_KTLS);
    cr_expect_eq(strncmp(w.client.why, "no kernel TLS: ", 15), 0, "%s", w.client.why);
    cr_expect_eq(w.client.opened, 0);
    w.client = w.server = (struct heard){.conn = NULL};
    w.client_ktls = SLUICE_KTLS_AUTO;
    world_pair(&w);
    write_pattern(w.client.conn, 0, 30000);
    TURN_UNTIL(&w, w.server.count == 30000);
    expect_pattern(&w.server, 30000);
    cr_assert_eq(sluice_conn_tls(w.server.conn, &facts), 0);
    cr_expect_str_eq(facts.where, where);
    struct sluice_listener *l;
    const struct sluice_listen_config at = {.url = "tls://127.0.0.1:0",
                                            .events = &heard_events,
                                            .tls = w.server_tls,
                                            .ktls = SLUICE_KTLS_REQUIRE};
    cr_expect_eq(sluice_listener_open(&l, w.loop, &at, why, sizeof(why)), lacks ? -ENOTSUP : 0);
    cr_expect_eq(strstr(why, lacks ? lacks : "no kernel TLS") != NULL, lacks != NULL, "%s", why);
    tls_world_close(&w);
}
