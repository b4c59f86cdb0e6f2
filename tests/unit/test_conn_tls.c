/*
 * TLS of connections, both ends ours, on every backend and with every provider of this build:
 * bytes, ends, refusals, deadlines. The records themselves are test_tls_*.c's.
 */
#include "tests/support/tls_ends.h"

#include <errno.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

static void echo(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)user;
    cr_assert_eq(sluice_conn_write(c, buf->data, buf->bytes), 0);
}

static const struct sluice_conn_events echoing = {.on_data = echo, .on_close = heard_close};

EACH_BACKEND(conn_tls, echoes)
{
    struct conns_world w;
    struct sluice_tls_facts facts;
    tls_world_open(&w, on->name, &small);
    world_connect(&w);
    cr_expect_eq(sluice_conn_tls(w.client.conn, &facts), -ENOTCONN);
    TURN_UNTIL(&w, w.client.opened && w.server.opened);
    sluice_conn_set_events(w.server.conn, &echoing);
    size_t sent = 0;
    for (size_t bytes = 1; bytes < 60000; bytes = bytes * 3 + 1) {
        write_pattern(w.client.conn, sent, bytes);
        sent += bytes;
        TURN_UNTIL(&w, w.client.count == sent);
    }
    expect_pattern(&w.client, sent);
    cr_assert_eq(sluice_conn_tls(w.client.conn, &facts), 0);
    cr_expect_str_eq(facts.version, "TLSv1.3");
    cr_expect_str_eq(facts.verified, "chain");
    sluice_conn_close(w.client.conn);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.server.reason, SLUICE_REASON_PEER_CLOSE, "close_notify came first: %s",
                 w.server.why);
    tls_world_close(&w);
}

EACH_BACKEND(conn_tls, half_close_is_a_close_notify)
{
    struct conns_world w;
    tls_world_open(&w, on->name, &small);
    world_pair(&w);
    write_pattern(w.client.conn, 0, 65536);
    cr_assert_eq(sluice_conn_shutdown(w.client.conn), 0);
    cr_expect_eq(sluice_conn_write(w.client.conn, "x", 1), -EPIPE);
    TURN_UNTIL(&w, w.server.eofs);
    expect_pattern(&w.server, 65536);
    write_pattern(w.server.conn, 0, 50000);
    TURN_UNTIL(&w, w.client.count == 50000);
    cr_assert_eq(sluice_conn_shutdown(w.server.conn), 0);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE, "%s", w.client.why);
    cr_expect_eq(w.server.reason, SLUICE_REASON_PEER_CLOSE, "%s", w.server.why);
    tls_world_close(&w);
}

/* A queue that is full of ciphertext, buffers smaller than a record. */
EACH_BACKEND(conn_tls, full_queue_is_told_and_drains)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.recv_bufs = 4;
    cfg.recv_buf_bytes = 1000;
    tls_world_open(&w, on->name, &cfg);
    world_pair(&w);
    sluice_conn_pause(w.client.conn);
    size_t sent = 0;
    int err = 0;
    for (int turns = 0; turns < 20000 && !err; turns++) {
        uint8_t piece[5000];
        for (size_t i = 0; i < sizeof(piece); i++)
            piece[i] = byte_at(sent + i);
        err = sluice_conn_write(w.server.conn, piece, sizeof(piece));
        sent += err ? 0 : sizeof(piece);
        if (turns % 4 == 0)
            world_turn(&w);
    }
    cr_assert_eq(err, -EAGAIN);
    cr_expect_eq(w.client.count, 0);
    sluice_conn_resume(w.client.conn);
    TURN_UNTIL(&w, w.server.drained == 1);
    static uint8_t much[65536];
    cr_expect_eq(sluice_conn_write(w.server.conn, much, sizeof(much)), 0,
                 "drained: the longest message has room");
    TURN_UNTIL(&w, w.client.count == sent + sizeof(much));
    w.client.count = sent;
    expect_pattern(&w.client, sent);
    tls_world_close(&w);
}

/* ---- plaintext that is kept ---- */

static struct sluice_buf *kept[256];
static int kept_count;

static void keep(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)c, (void)user;
    sluice_buf_retain(buf);
    kept[kept_count++] = buf;
}

static const struct sluice_conn_events keeping = {.on_data = keep, .on_close = heard_close};

/* Every buffer for plaintext kept: nothing is decrypted until one comes back, nothing is lost. */
EACH_BACKEND(conn_tls, kept_plaintext_is_back_pressure)
{
    struct conns_world w;
    kept_count = 0;
    tls_world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_set_events(w.server.conn, &keeping);
    for (size_t i = 0; i < 100; i++) {
        write_pattern(w.client.conn, i * 10, 10); /* a record each */
        world_turn(&w);
    }
    TURN_UNTIL(&w, kept_count == 64);
    world_pass(&w, 10 * SLUICE_NS_PER_MS);
    cr_expect_eq(kept_count, 64);
    for (int i = 0; i < 100; i++) {
        TURN_UNTIL(&w, kept_count > i);
        for (size_t k = 0; k < kept[i]->bytes; k++)
            cr_assert_eq(kept[i]->data[k], byte_at((size_t)i * 10 + k));
        sluice_buf_release(kept[i]);
    }
    cr_expect_eq(kept_count, 100);
    tls_world_close(&w);
}

/* ---- refusals ---- */

EACH_BACKEND(conn_tls, unverified_peer_is_refused)
{
    struct conns_world w;
    struct sluice_tls_config client = client_config();
    client.verify_name = "other.example.test";
    tls_world_open(&w, on->name, &small);
    sluice_tls_destroy(w.client_tls);
    w.client_tls = must_tls(&client);
    world_connect(&w);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_TLS_VERIFY);
    cr_expect(strlen(w.client.why) > 0);
    cr_expect(strstr(w.server.why, "the peer sent alert") != NULL, "it left first: %s",
              w.server.why);
    cr_expect_eq(w.client.opened + w.server.opened, 0);
    tls_world_close(&w);
}

/* A peer that says nothing, and one that speaks something else. */
EACH_BACKEND(conn_tls, plain_peer_is_no_peer)
{
    for (int speaks = 0; speaks < 2; speaks++) {
        struct conns_world w;
        tls_world_open(&w, on->name, &small);
        memcpy(w.url, "tcp", 3);
        struct sluice_tls *tls = w.client_tls;
        w.client_tls = NULL;
        world_connect(&w);
        TURN_UNTIL(&w, w.client.opened);
        if (speaks)
            cr_assert_eq(sluice_conn_write(w.client.conn, "GET / HTTP/1.1\r\n\r\n", 18), 0);
        TURN_UNTIL(&w, w.server.closed);
        cr_expect_eq(w.server.opened, 0);
        cr_expect_eq(w.server.reason,
                     speaks ? SLUICE_REASON_TLS_HANDSHAKE : SLUICE_REASON_TLS_TIMED_OUT, "%s: %s",
                     sluice_reason_name(w.server.reason), w.server.why);
        w.client_tls = tls;
        tls_world_close(&w);
    }
}

/* FIN without close_notify: what came is genuine, but there may have been more. */
EACH_BACKEND(conn_tls, end_without_close_notify_is_told)
{
    struct conns_world w;
    tls_world_open(&w, on->name, &small);
    world_pair(&w);
    write_pattern(w.client.conn, 0, 1000);
    TURN_UNTIL(&w, w.server.count == 1000);
    sluice_loop_sockets(w.loop)->shutdown(w.loop->be, w.client.conn->life.fd, SHUT_WR);
    TURN_UNTIL(&w, w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_TRUNCATED);
    cr_expect_eq(w.server.eofs, 0);
    tls_world_close(&w);
}

EACH_BACKEND(conn_tls, role_and_url_must_agree)
{
    struct conns_world w;
    char why[200];
    struct sluice_conn *c;
    struct sluice_listener *l;
    tls_world_open(&w, on->name, &small);
    const struct sluice_connect_config to = {
        .url = w.url, .events = &heard_events, .tls = w.server_tls};
    cr_expect_eq(sluice_conn_connect(&c, w.loop, &to, why, sizeof(why)), -EINVAL);
    cr_expect(strstr(why, "server") != NULL, "%s", why);
    struct sluice_listen_config at = {.url = "tls://127.0.0.1:0", .events = &heard_events};
    cr_expect_eq(sluice_listener_open(&l, w.loop, &at, why, sizeof(why)), -EINVAL);
    at.tls = w.client_tls;
    cr_expect_eq(sluice_listener_open(&l, w.loop, &at, why, sizeof(why)), -EINVAL);
    at.url = "tcp://127.0.0.1:0";
    cr_expect_eq(sluice_listener_open(&l, w.loop, &at, why, sizeof(why)), -EINVAL);
    tls_world_close(&w);
}
