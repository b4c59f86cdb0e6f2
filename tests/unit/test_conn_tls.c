/*
 * TLS of connections, both ends ours, on every backend, in both versions, with every provider of
 * this build, and where the kernel has TLS with either end or both in there: bytes, ends, refusals,
 * deadlines. The records themselves are test_tls_*.c's.
 */
#include "tests/support/tls_ends.h"
#include "tests/tls/traits.h"

#include <errno.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

static const uint8_t damaged[5 + 64] = {0x17, 3, 3, 0, 64}; /* a record that nobody sealed */

EACH_TLS(conn_tls, echoes)
{
    struct conns_world w;
    struct sluice_tls_facts facts;
    tls_world_open_as(&w, on, &small);
    world_connect(&w);
    cr_expect_eq(sluice_conn_tls(w.client.conn, &facts), -ENOTCONN);
    TURN_UNTIL(&w, w.client.opened && w.server.opened);
    sluice_conn_set_events(w.server.conn, &heard_echoing);
    size_t sent = 0;
    for (size_t bytes = 1; bytes < 60000; bytes = bytes * 3 + 1) {
        write_pattern(w.client.conn, sent, bytes);
        sent += bytes;
        TURN_UNTIL(&w, w.client.count == sent);
    }
    expect_pattern(&w.client, sent);
    cr_assert_eq(sluice_conn_tls(w.client.conn, &facts), 0);
    cr_expect_str_eq(facts.version, on->version);
    cr_expect_str_eq(facts.verified, "chain");
    sluice_conn_close(w.client.conn);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.server.reason, SLUICE_REASON_PEER_CLOSE, "close_notify came first: %s",
                 w.server.why);
    tls_world_close(&w);
}

EACH_TLS(conn_tls, half_close_is_a_close_notify)
{
    struct conns_world w;
    tls_world_open_as(&w, on, &small);
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
EACH_TLS(conn_tls, full_queue_is_told_and_drains)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.recv_bufs = 4;
    cfg.recv_buf_bytes = 1000;
    tls_world_open_as(&w, on, &cfg);
    world_pair(&w);
    sluice_conn_pause(w.client.conn);
    size_t sent = 0;
    int err = 0;
    for (int turns = 0; turns < 20000 && !err; turns++) {
        uint8_t piece[5000];
        fill_pattern(piece, sent, sizeof(piece));
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
    size_t bytes = in_kernel(on->server) ? sizeof(much) / 2 : sizeof(much); /* half is free */
    cr_expect_eq(sluice_conn_write(w.server.conn, much, bytes), 0,
                 "drained: the longest message has room");
    TURN_UNTIL(&w, w.client.count == sent + bytes);
    w.client.count = sent;
    expect_pattern(&w.client, sent);
    tls_world_close(&w);
}

/* Up to a full queue, in pieces that would cost more as records of their own than all together. */
EACH_TLS(conn_tls, many_pieces_are_taken_all_or_none)
{
    enum { PIECES = 200 };
    struct conns_world w;
    uint8_t bytes[PIECES];
    struct iovec parts[PIECES];
    int err = 0;
    tls_world_open_as(&w, on, &small);
    world_pair(&w);
    size_t sent = 0;
    for (; !err; sent += err ? 0 : PIECES) {
        for (size_t i = 0; i < PIECES; i++) {
            bytes[i] = byte_at(sent + i);
            parts[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
        }
        err = sluice_conn_writev(w.client.conn, parts, PIECES);
    }
    cr_expect_eq(err, -EAGAIN, "%d", err);
    TURN_UNTIL(&w, w.server.count >= sent || w.client.closed);
    expect_pattern(&w.server, sent);
    tls_world_close(&w);
}

/* A file of the server's certificate and so many more that nobody needs. */
static void write_long_chain(const char *path, int more)
{
    const char *parts[] = {certs("good.pem"), certs("root.crt")};
    FILE *out = fopen(path, "w");
    cr_assert_not_null(out);
    for (int i = 0; i <= more; i++) {
        char line[128];
        FILE *in = fopen(parts[i > 0], "r");
        cr_assert_not_null(in);
        while (fgets(line, sizeof(line), in))
            fputs(line, out);
        fclose(in);
    }
    cr_assert_eq(fclose(out), 0);
}

/* More than there is room for at once: it goes on when some of it has left. */
EACH_TLS(conn_tls, a_handshake_longer_than_the_queue)
{
    struct conns_world w;
    char path[] = "/tmp/sluice-chain-XXXXXX";
    struct sluice_loop_config cfg = small;
    struct sluice_tls_config server = server_config();
    cfg.send_queue_bytes = 4096;
    close(mkstemp(path));
    write_long_chain(path, 100);
    tls_world_open_as(&w, on, &cfg);
    sluice_listener_close(w.listener);
    sluice_tls_destroy(w.server_tls);
    server.cert = path;
    server.tickets = true;
    w.server_tls = must_tls(&server);
    unlink(path); /* it was read */
    world_listen(&w);
    world_connect(&w);
    if (traits()->short_messages) {
        TURN_UNTIL(&w, w.client.closed && w.server.closed);
        cr_expect_eq(w.client.reason, SLUICE_REASON_TLS_HANDSHAKE, "%s", w.client.why);
    } else {
        TURN_UNTIL(&w, w.client.opened && w.server.opened);
        cr_expect_gt(w.server.conn->tls->session->out_tail, SLUICE_TLS_OUTPUT_MIN);
        write_pattern(w.client.conn, 0, 4000);
        write_pattern(w.server.conn, 0, 4000);
        TURN_UNTIL(&w, w.server.count == 4000 && w.client.count == 4000);
        expect_pattern(&w.server, 4000);
        expect_pattern(&w.client, 4000);
    }
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
EACH_TLS(conn_tls, kept_plaintext_is_back_pressure)
{
    struct conns_world w;
    kept_count = 0;
    struct sluice_loop_config cfg = small;
    cfg.recv_bufs = 64; /* where the kernel decrypts there are no others */
    tls_world_open_as(&w, on, &cfg);
    world_pair(&w);
    sluice_conn_set_events(w.server.conn, &keeping);
    for (size_t i = 0; i < 100; i++) {
        write_pattern(w.client.conn, i * 10, 10); /* a record each */
        int want = i < 64 ? (int)i + 1 : 64;
        TURN_UNTIL(&w, kept_count == want);
    }
    world_pass(&w, 10 * SLUICE_NS_PER_MS);
    cr_expect_eq(kept_count, 64);
    size_t seen = 0;
    for (int i = 0; seen < 1000; i++) {
        TURN_UNTIL(&w, kept_count > i);
        for (size_t k = 0; k < kept[i]->bytes; k++)
            cr_assert_eq(kept[i]->data[k], byte_at(seen + k));
        seen += kept[i]->bytes;
        sluice_buf_release(kept[i]);
    }
    tls_world_close(&w);
}

/* Ciphertext is there, and then no buffer for plaintext is: whichever it waited for before. */
EACH_BACKEND(conn_tls, waits_for_the_buffer_it_lacks_now)
{
    struct conns_world w;
    tls_world_open(&w, on->name, &small);
    world_pair(&w);
    struct sluice_conn *c = w.client.conn;
    struct lease_pool *wire = &c->conns->leases[LEASE_WIRE],
                      *plain = &c->conns->leases[LEASE_PLAIN];
    sluice_conn_starve(w.server.conn, LEASE_WIRE);
    sluice_conn_starve(c, LEASE_WIRE);
    sluice_conn_starve(c, LEASE_PLAIN);
    sluice_conn_starve(c, LEASE_PLAIN);
    cr_expect_eq(wire->starved, w.server.conn);
    cr_expect_null(w.server.conn->starved_next);
    cr_expect_eq(plain->starved, c);
    write_pattern(w.server.conn, 0, 1000);
    TURN_UNTIL(&w, w.client.count == 1000);
    cr_expect_null(wire->starved);
    cr_expect_null(plain->starved);
    tls_world_close(&w);
}

/* So many in a row is so many in a second: what came before does not count for ever. */
EACH_BACKEND(conn_tls, control_messages_are_a_rate)
{
    struct conns_world w;
    tls_world_open(&w, on->name, &small);
    world_pair(&w);
    struct sluice_tls_session *session = w.server.conn->tls->session;
    write_pattern(w.client.conn, 0, 10);
    TURN_UNTIL(&w, w.server.count == 10);
    session->control_run = 7;
    w.server.conn->tls->control_ns = w.loop->now_ns;
    world_pass(&w, SLUICE_NS_PER_MS);
    sluice_conn_tls_forgive(w.server.conn);
    cr_expect_eq(session->control_run, 7u);
    world_pass(&w, 1100 * SLUICE_NS_PER_MS);
    sluice_conn_tls_forgive(w.server.conn);
    cr_expect_eq(session->control_run, 0u);
    tls_world_close(&w);
}

/* ---- refusals ---- */

EACH_TLS(conn_tls, unverified_peer_is_refused)
{
    struct conns_world w;
    struct sluice_tls_config client = client_config();
    client.verify_name = "other.example.test";
    tls_world_open_as(&w, on, &small);
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

/* Nobody configured anything: the system's authorities count, and ours is none of them. */
EACH_TLS(conn_tls, verified_without_a_config)
{
    struct conns_world w;
    tls_world_open_as(&w, on, &small);
    struct sluice_tls *tls = w.client_tls;
    w.client_tls = NULL;
    world_connect(&w);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_TLS_VERIFY, "%s: %s",
                 sluice_reason_name(w.client.reason), w.client.why);
    cr_expect_eq(w.client.opened + w.server.opened, 0);
    w.client_tls = tls;
    tls_world_close(&w);
}

/* A peer that says nothing, and one that speaks something else. */
EACH_TLS(conn_tls, plain_peer_is_no_peer)
{
    for (int speaks = 0; speaks < 2; speaks++) {
        struct conns_world w;
        tls_world_open_as(&w, on, &small);
        sluice_listener_close(w.listener);
        world_listen_within(&w, 300 * SLUICE_NS_PER_MS);
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
EACH_TLS(conn_tls, end_without_close_notify_is_told)
{
    struct conns_world w;
    tls_world_open_as(&w, on, &small);
    world_pair(&w);
    write_pattern(w.client.conn, 0, 1000);
    TURN_UNTIL(&w, w.server.count == 1000);
    sluice_loop_sockets(w.loop)->shutdown(w.loop->be, w.client.conn->life.fd, SHUT_WR);
    TURN_UNTIL(&w, w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_TRUNCATED);
    cr_expect_eq(w.server.eofs, 0);
    tls_world_close(&w);
}

/* Straight into the socket, past TLS: that of an end whose records are its own. */
static void send_raw(struct conns_world *w, const struct heard *h, const void *bytes, size_t count)
{
    int fd = h->conn->life.fd;
    ssize_t n = world_is_sim(w) ? sluice_sim_peer_send(w->loop->be, fd, bytes, count)
                                : send(fd, bytes, count, MSG_NOSIGNAL);
    cr_assert_eq(n, (ssize_t)count);
}

/* The alert cannot leave any more; the reason is the record all the same. */
EACH_TLS(conn_tls, damaged_record_after_our_end)
{
    struct conns_world w;
    struct on_tls mine = *on;
    mine.server = SLUICE_KTLS_OFF;
    tls_world_open_as(&w, &mine, &small);
    world_pair(&w);
    sluice_conn_shutdown(w.client.conn);
    TURN_UNTIL(&w, w.server.eofs);
    TURN_UNTIL(&w, sluice_conn_state(w.client.conn) == SLUICE_CONN_DRAINING);
    send_raw(&w, &w.server, damaged, sizeof(damaged));
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_TLS_PROTOCOL, "%s: %s",
                 sluice_reason_name(w.client.reason), w.client.why);
    cr_expect_eq(w.client.data, 0);
    tls_world_close(&w);
}

/* In the middle of a stream: what came before it is delivered, nothing behind it, and the peer
 * hears why. */
EACH_TLS(conn_tls, damaged_record_is_told_both_ends)
{
    struct conns_world w;
    struct on_tls mine = *on;
    mine.client = SLUICE_KTLS_OFF;
    tls_world_open_as(&w, &mine, &small);
    world_pair(&w);
    write_pattern(w.client.conn, 0, 1000);
    TURN_UNTIL(&w, w.server.count == 1000);
    send_raw(&w, &w.client, damaged, sizeof(damaged));
    TURN_UNTIL(&w, w.server.closed && w.client.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_PROTOCOL, "%s: %s",
                 sluice_reason_name(w.server.reason), w.server.why);
    cr_expect_eq(w.server.count, 1000);
    cr_expect_eq(w.client.reason, SLUICE_REASON_TLS_ALERT, "%s: %s",
                 sluice_reason_name(w.client.reason), w.client.why);
    cr_expect(strstr(w.client.why, "20 (bad_record_mac)") != NULL, "%s", w.client.why);
    tls_world_close(&w);
}

/* A record of these bytes, and a damaged one right behind it. */
static void send_good_and_bad(struct conns_world *w, const void *bytes, size_t count)
{
    uint8_t wire[2048];
    const uint8_t *good;
    struct sluice_tls_session *s = w->client.conn->tls->session;
    cr_assert_eq(s->provider->write(s, bytes, count), (ssize_t)count);
    size_t n = sluice_tls_output(s, &good);
    cr_assert_leq(n + sizeof(damaged), sizeof(wire));
    memcpy(wire, good, n);
    memcpy(wire + n, damaged, sizeof(damaged));
    sluice_tls_sent(s, n);
    send_raw(w, &w->client, wire, n + sizeof(damaged));
}

static void pause_at_data(struct heard *h, const char *what)
{
    if (strcmp(what, "data") == 0)
        sluice_conn_pause(h->conn);
}

/* The handshake goes on, and then nothing is received: its peer has to wait. */
EACH_TLS(conn_tls, paused_before_it_is_open)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.recv_bufs = 64;
    cfg.recv_buf_bytes = 1000;
    tls_world_open_as(&w, on, &cfg);
    world_connect(&w);
    sluice_conn_pause(w.client.conn);
    TURN_UNTIL(&w, w.client.opened && w.server.opened);
    size_t sent = 0;
    for (int waits = 0; waits < 200; world_turn(&w)) {
        uint8_t piece[900];
        fill_pattern(piece, sent, sizeof(piece));
        int err = sluice_conn_write(w.server.conn, piece, sizeof(piece));
        waits = err ? waits + 1 : 0;
        sent += err ? 0 : sizeof(piece);
        cr_assert_lt(sent, 32u << 20);
    }
    cr_expect_eq(w.client.count, 0);
    cr_expect_lt(w.client.conn->conns->leases[LEASE_HEAP].leased, cfg.recv_bufs);
    sluice_conn_resume(w.client.conn);
    TURN_UNTIL(&w, w.client.count == sent);
    expect_pattern(&w.client, sent);
    tls_world_close(&w);
}

/* The same reason, whoever the socket tells it first: a SEND that waits, when receiving is paused.
 */
EACH_TLS(conn_tls, damaged_record_while_we_send)
{
    struct conns_world w;
    static uint8_t much[32768];
    struct on_tls mine = *on;
    mine.client = SLUICE_KTLS_OFF;
    tls_world_open_as(&w, &mine, &small);
    world_pair(&w);
    w.server.then = pause_at_data;
    sluice_conn_pause(w.client.conn);
    for (int still = 0; still < 50; world_turn(&w))
        still = sluice_conn_write(w.server.conn, much, sizeof(much)) ? still + 1 : 0;
    send_good_and_bad(&w, much, 1000);
    TURN_UNTIL(&w, w.server.count == 1000);
    world_pass(&w, 10 * SLUICE_NS_PER_MS);
    if (w.server.conn)
        sluice_conn_resume(w.server.conn);
    TURN_UNTIL(&w, w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_PROTOCOL, "%s: %s",
                 sluice_reason_name(w.server.reason), w.server.why);
    cr_expect_eq(w.server.count, 1000);
    tls_world_close(&w);
}

/* It is ours again: nothing is read of it any more. */
EACH_TLS(conn_tls, damaged_record_while_a_file_leaves)
{
    struct conns_world w;
    struct heard_send file = endless_file();
    struct on_tls mine = *on;
    mine.client = SLUICE_KTLS_OFF;
    tls_world_open_as(&w, &mine, &small);
    world_pair(&w);
    cr_assert_eq(sluice_conn_send_file(w.server.conn, &file.send), 0);
    TURN_UNTIL(&w, w.client.count > 0);
    send_raw(&w, &w.client, damaged, sizeof(damaged));
    TURN_UNTIL(&w, w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_TLS_PROTOCOL, "%s: %s",
                 sluice_reason_name(w.server.reason), w.server.why);
    cr_expect_eq(file.ends, 1);
    cr_expect_eq(file.result, -ECANCELED);
    close(file.send.file);
    tls_world_close(&w);
}

/* A reset, with bytes on their way. */
EACH_TLS(conn_tls, abort_is_a_reset)
{
    struct conns_world w;
    tls_world_open_as(&w, on, &small);
    world_pair(&w);
    write_pattern(w.server.conn, 0, 1000);
    TURN_UNTIL(&w, w.client.count == 1000);
    write_pattern(w.client.conn, 0, 1000);
    sluice_conn_abort(w.client.conn);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.server.reason, SLUICE_REASON_RESET, "%s: %s",
                 sluice_reason_name(w.server.reason), w.server.why);
    cr_expect_eq(w.server.eofs, 0);
    tls_world_close(&w);
}

static struct conns_world *here;

static void babble_and_reset(struct heard *h, const char *what)
{
    if (strcmp(what, "open") != 0)
        return;
    send_raw(here, h, "this is no TLS, and no more than that", 37);
    sluice_conn_abort(h->conn);
}

/* The alert that nobody takes does not hide why it was due. */
EACH_TLS(conn_tls, reset_before_the_alert)
{
    struct conns_world w;
    here = &w;
    tls_world_open_as(&w, on, &small);
    struct sluice_tls *tls = w.server_tls;
    sluice_listener_close(w.listener);
    w.server_tls = NULL;
    world_listen(&w);
    w.server.then = babble_and_reset;
    world_connect(&w);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect(strlen(w.client.why) > 0);
    cr_expect_eq(w.client.reason, SLUICE_REASON_TLS_HANDSHAKE, "%s: %s",
                 sluice_reason_name(w.client.reason), w.client.why);
    w.server_tls = tls;
    tls_world_close(&w);
}

EACH_TLS(conn_tls, role_and_url_must_agree)
{
    struct conns_world w;
    char why[200];
    struct sluice_conn *c;
    struct sluice_listener *l;
    tls_world_open_as(&w, on, &small);
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
