/*
 * Connections of the embedded runtime on every backend: bytes both ways, ends, pauses,
 * back-pressure, deadlines. Closing in callbacks and many connections at once are
 * test_conn_life.c's.
 */
#include "tests/support/ends.h"

#include <errno.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

EACH_BACKEND(conn, echoes)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_set_events(w.server.conn, &heard_echoing);
    size_t sent = 0;
    for (size_t bytes = 1; bytes < 40000; bytes = bytes * 3 + 1) {
        write_pattern(w.client.conn, sent, bytes);
        sent += bytes;
        TURN_UNTIL(&w, w.client.count == sent);
    }
    expect_pattern(&w.client, sent);
    cr_expect_eq(sluice_conn_user(w.client.conn), &w.client);
    cr_expect_eq(sluice_conn_loop(w.client.conn), w.loop);
    sluice_conn_close(w.client.conn);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.server.reason, SLUICE_REASON_PEER_CLOSE);
    cr_expect_eq(sluice_listener_accepted(w.listener), 1);
    world_close(&w);
}

EACH_BACKEND(conn, run_ends_when_nothing_is_left)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_shutdown(w.client.conn);
    sluice_conn_shutdown(w.server.conn);
    sluice_listener_close(w.listener);
    cr_expect_eq(sluice_loop_run(w.loop), 0);
    cr_expect_eq(w.client.closed, 1);
    cr_expect_eq(w.server.closed, 1);
    world_close(&w);
}

EACH_BACKEND(conn, half_close_waits_for_what_is_queued)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    write_pattern(w.client.conn, 0, 60000);
    cr_assert_eq(sluice_conn_shutdown(w.client.conn), 0);
    cr_expect_eq(sluice_conn_shutdown(w.client.conn), 0);
    cr_expect_eq(sluice_conn_write(w.client.conn, "x", 1), -EPIPE);
    TURN_UNTIL(&w, w.server.eofs);
    expect_pattern(&w.server, 60000);
    cr_expect_eq(sluice_conn_state(w.client.conn), SLUICE_CONN_DRAINING);
    write_pattern(w.server.conn, 0, 50000); /* the other way still stands */
    TURN_UNTIL(&w, w.client.count == 50000);
    expect_pattern(&w.client, 50000);
    cr_expect_eq(w.client.closed + w.server.closed, 0);
    cr_assert_eq(sluice_conn_shutdown(w.server.conn), 0);
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.client.eofs, 0, "both ends have come: closed by itself");
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.server.reason, SLUICE_REASON_PEER_CLOSE);
    world_close(&w);
}

EACH_BACKEND(conn, close_sends_what_is_queued)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    write_pattern(w.server.conn, 0, 65536);
    sluice_conn_close(w.server.conn);
    sluice_conn_close(w.server.conn);
    cr_expect_eq(sluice_conn_state(w.server.conn), SLUICE_CONN_CLOSING);
    cr_expect_eq(sluice_conn_write(w.server.conn, "x", 1), -EPIPE);
    TURN_UNTIL(&w, w.client.eofs && w.server.closed);
    expect_pattern(&w.client, 65536);
    world_close(&w);
}

EACH_BACKEND(conn, close_does_not_wait_for_ever)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.close_timeout_ns = 20 * SLUICE_NS_PER_MS;
    cfg.send_queue_bytes = 16u << 20;
    world_open(&w, on->name, &cfg);
    world_pair(&w);
    sluice_conn_pause(w.client.conn);
    static uint8_t much[16u << 20];
    cr_assert_eq(sluice_conn_write(w.server.conn, much, sizeof(much)), 0);
    sluice_conn_close(w.server.conn);
    TURN_UNTIL(&w, w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_LOCAL_CLOSE);
    world_close(&w);
}

EACH_BACKEND(conn, abort_is_a_reset)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    write_pattern(w.server.conn, 0, 1000); /* dropped */
    sluice_conn_abort(w.server.conn);
    cr_expect_eq(w.server.closed, 0, "never inside the call");
    TURN_UNTIL(&w, w.client.closed && w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.client.reason, SLUICE_REASON_RESET);
    cr_expect_eq(w.client.count, 0);
    world_close(&w);
}

/* Whoever reads slowly makes the writer wait, and loses nothing. */
EACH_BACKEND(conn, full_queue_is_told_and_drains)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_pause(w.client.conn);
    uint8_t piece[5000];
    size_t sent = 0;
    int err = 0;
    for (int turns = 0; turns < 20000 && !err; turns++) {
        for (size_t i = 0; i < sizeof(piece); i++)
            piece[i] = byte_at(sent + i);
        err = sluice_conn_write(w.server.conn, piece, sizeof(piece));
        sent += err ? 0 : sizeof(piece);
        if (turns % 4 == 0)
            world_turn(&w);
    }
    cr_assert_eq(err, -EAGAIN);
    cr_expect_leq(sluice_conn_queued(w.server.conn), 65536);
    cr_expect_gt(sluice_conn_queued(w.server.conn), 65536 - sizeof(piece));
    cr_expect_eq(w.server.drained, 0);
    sluice_conn_resume(w.client.conn);
    TURN_UNTIL(&w, w.server.drained == 1);
    cr_expect_leq(sluice_conn_queued(w.server.conn), 32768);
    TURN_UNTIL(&w, w.client.count == sent);
    expect_pattern(&w.client, sent);
    cr_expect_eq(w.server.drained, 1, "told once for each refusal");
    world_close(&w);
}

EACH_BACKEND(conn, more_than_the_queue_is_refused)
{
    struct conns_world w;
    static uint8_t much[65537];
    world_open(&w, on->name, &small);
    world_connect(&w);
    cr_expect_eq(sluice_conn_write(w.client.conn, "x", 1), -ENOTCONN);
    cr_expect_eq(sluice_conn_shutdown(w.client.conn), -ENOTCONN);
    TURN_UNTIL(&w, w.client.opened && w.server.opened);
    cr_expect_eq(sluice_conn_write(w.client.conn, much, sizeof(much)), -EMSGSIZE);
    cr_expect_eq(sluice_conn_write(w.client.conn, much, 0), 0);
    const struct iovec parts[] = {{much, 100}, {much, 0}, {much, 65436}};
    cr_expect_eq(sluice_conn_writev(w.client.conn, parts, 3), 0);
    cr_expect_eq(sluice_conn_writev(w.client.conn, parts, 1), -EAGAIN);
    TURN_UNTIL(&w, w.server.count == 65536);
    world_close(&w);
}

EACH_BACKEND(conn, paused_hears_nothing)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_pause(w.server.conn);
    sluice_conn_pause(w.server.conn);
    write_pattern(w.client.conn, 0, 30000);
    sluice_conn_shutdown(w.client.conn);
    world_pass(&w, 20 * SLUICE_NS_PER_MS);
    cr_expect_eq(w.server.data, 0);
    cr_expect_eq(w.server.eofs, 0);
    sluice_conn_resume(w.server.conn);
    sluice_conn_resume(w.server.conn);
    cr_expect_eq(w.server.data, 0, "never inside the call");
    TURN_UNTIL(&w, w.server.eofs);
    expect_pattern(&w.server, 30000);
    world_close(&w);
}

static void pause_at_data(struct heard *h, const char *what)
{
    if (strcmp(what, "data") == 0)
        sluice_conn_pause(h->conn);
}

/* What came in one go with the bytes at which it paused waits too. */
EACH_BACKEND(conn, paused_in_on_data_hears_no_more)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.recv_buf_bytes = 64;
    world_open(&w, on->name, &cfg);
    world_pair(&w);
    w.server.then = pause_at_data;
    write_pattern(w.client.conn, 0, 10000);
    TURN_UNTIL(&w, w.server.data == 1);
    for (int times = 1; w.server.count < 10000; times++) {
        for (int i = 0; i < 20; i++)
            world_turn(&w);
        cr_assert_eq(w.server.data, times);
        cr_assert_leq(w.server.count, (size_t)times * 64);
        sluice_conn_resume(w.server.conn);
        TURN_UNTIL(&w, w.server.data == times + 1);
    }
    expect_pattern(&w.server, 10000);
    world_close(&w);
}

/* ---- leases ---- */

#define KEEP_MAX 64

static struct sluice_buf *kept[KEEP_MAX];
static int kept_count;

static void keep(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)c, (void)user;
    cr_assert_lt(kept_count, KEEP_MAX);
    sluice_buf_retain(buf);
    kept[kept_count++] = buf;
}

static const struct sluice_conn_events keeping = {.on_data = keep, .on_close = heard_close};

static void let_go(void)
{
    cr_assert_gt(kept_count, 0);
    sluice_buf_release(kept[0]);
    memmove(&kept[0], &kept[1], (size_t)--kept_count * sizeof(kept[0]));
}

static void open_with_bufs(struct conns_world *w, const char *backend, uint32_t bufs)
{
    struct sluice_loop_config cfg = small;
    cfg.recv_bufs = bufs;
    cfg.recv_buf_bytes = 100;
    kept_count = 0;
    world_open(w, backend, &cfg);
}

/* With every buffer kept nothing is received; each that comes back is one that goes on. */
EACH_BACKEND(conn, kept_buffers_are_back_pressure)
{
    struct conns_world w;
    open_with_bufs(&w, on->name, 4);
    world_pair(&w);
    sluice_conn_set_events(w.server.conn, &keeping);
    write_pattern(w.client.conn, 0, 3000);
    TURN_UNTIL(&w, kept_count == 4);
    world_pass(&w, 20 * SLUICE_NS_PER_MS);
    cr_expect_eq(kept_count, 4);
    size_t at = 0;
    while (at < 3000) {
        TURN_UNTIL(&w, kept_count > 0);
        expect_bytes(kept[0]->data, at, kept[0]->bytes);
        at += kept[0]->bytes;
        let_go();
    }
    cr_expect_eq(kept_count, 0);
    world_close(&w);
}

static void pairs(struct conns_world *w, struct heard *clients, struct heard *servers, int count)
{
    for (int i = 0; i < count; i++) {
        world_pair(w);
        clients[i] = w->client;
        servers[i] = w->server;
        sluice_conn_set_user(clients[i].conn, &clients[i]);
        sluice_conn_set_user(servers[i].conn, &servers[i]);
        w->client = w->server = (struct heard){0};
    }
}

static void keep_one(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    keep(c, buf, user);
    sluice_conn_pause(c);
}

/* As who sends on does that has to wait. What came before receiving stopped waits elsewhere. */
EACH_BACKEND(conn, who_is_paused_leaves_buffers_to_others)
{
    static const struct sluice_conn_events keeping_one = {.on_data = keep_one,
                                                          .on_close = heard_close};
    struct conns_world w;
    open_with_bufs(&w, on->name, 8);
    struct heard clients[3] = {{0}}, servers[3] = {{0}};
    pairs(&w, clients, servers, 3);
    for (int i = 0; i < 2; i++) {
        sluice_conn_set_events(servers[i].conn, &keeping_one);
        write_pattern(clients[i].conn, 0, 5000);
        TURN_UNTIL(&w, kept_count == i + 1);
    }
    write_pattern(clients[2].conn, 0, 5000);
    TURN_UNTIL(&w, servers[2].count == 5000);
    expect_pattern(&servers[2], 5000);
    sluice_buf_release(kept[--kept_count]);
    for (size_t at = 0; at < 5000; at += kept[0]->bytes, let_go()) {
        TURN_UNTIL(&w, kept_count == 1);
        expect_bytes(kept[0]->data, at, kept[0]->bytes);
        sluice_conn_resume(servers[0].conn);
    }
    for (int i = 0; i < 3; i++)
        sluice_conn_abort(servers[i].conn); /* the second one with what it has not heard */
    while (kept_count > 0)
        let_go();
    TURN_UNTIL(&w, servers[0].closed && servers[1].closed && servers[2].closed);
    free(servers[2].bytes);
    world_close(&w);
}

/* The one that keeps them all is not the one that starves. */
EACH_BACKEND(conn, starvation_ends_for_everybody)
{
    struct conns_world w;
    open_with_bufs(&w, on->name, 2);
    struct heard clients[3] = {{0}}, servers[3] = {{0}};
    pairs(&w, clients, servers, 3);
    sluice_conn_set_events(servers[0].conn, &keeping);
    write_pattern(clients[0].conn, 0, 2000);
    TURN_UNTIL(&w, kept_count == 2);
    write_pattern(clients[1].conn, 0, 2000);
    write_pattern(clients[2].conn, 0, 2000);
    world_pass(&w, 20 * SLUICE_NS_PER_MS);
    cr_expect_eq(servers[1].count + servers[2].count, 0);
    while (servers[1].count < 2000 || servers[2].count < 2000) {
        if (kept_count > 0)
            let_go();
        world_turn(&w);
    }
    expect_pattern(&servers[1], 2000);
    expect_pattern(&servers[2], 2000);
    while (kept_count > 0)
        let_go();
    for (int i = 0; i < 3; i++)
        sluice_conn_abort(clients[i].conn);
    while (!servers[0].closed || !servers[1].closed || !servers[2].closed) {
        if (kept_count > 0) /* an end is behind the bytes before it, and those want buffers */
            let_go();
        world_turn(&w);
    }
    while (kept_count > 0)
        let_go();
    free(servers[1].bytes);
    free(servers[2].bytes);
    world_close(&w);
}

/* ---- deadlines, refusals ---- */

EACH_BACKEND(conn, nobody_listens)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    sluice_listener_close(w.listener);
    world_pass(&w, SLUICE_NS_PER_MS);
    world_connect(&w);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_REFUSED);
    cr_expect_eq(w.client.os_error, ECONNREFUSED);
    cr_expect_eq(w.client.opened, 0);
    world_close(&w);
}

EACH_BACKEND(conn, silence_ends_it)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_set_read_timeout(w.server.conn, 600 * SLUICE_NS_PER_MS);
    for (int i = 0; i < 40; i++) { /* longer than the limit, but never silent for so long */
        world_pass(&w, 20 * SLUICE_NS_PER_MS);
        cr_assert_eq(sluice_conn_write(w.client.conn, "x", 1), 0);
    }
    cr_expect_eq(w.server.closed, 0);
    sluice_conn_pause(w.server.conn);
    world_pass(&w, 800 * SLUICE_NS_PER_MS);
    cr_expect_eq(w.server.closed, 0, "a pause does not count");
    sluice_conn_resume(w.server.conn);
    TURN_UNTIL(&w, w.server.closed);
    cr_expect_eq(w.server.reason, SLUICE_REASON_TIMED_OUT);
    world_close(&w);
}

EACH_BACKEND(conn, limits_are_told)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    char why[200];
    cfg.conns_max = 2;
    world_open(&w, on->name, &cfg);
    world_pair(&w);
    struct sluice_conn *c;
    struct sluice_connect_config to = {.url = w.url, .events = &heard_events};
    cr_expect_eq(sluice_conn_connect(&c, w.loop, &to, why, sizeof(why)), -ENOBUFS);
    cr_expect(strstr(why, "conns_max") != NULL, "%s", why);
    cr_expect_null(c);
    to.url = "tcp://127.0.0.1";
    cr_expect_eq(sluice_conn_connect(&c, w.loop, &to, why, sizeof(why)), -EINVAL);
    cr_expect(strstr(why, to.url) != NULL, "%s", why);
    to.url = "gopher://127.0.0.1:70";
    cr_expect_eq(sluice_conn_connect(&c, w.loop, &to, why, sizeof(why)), -EPROTONOSUPPORT);
    to.url = w.url;
    to.events = NULL;
    cr_expect_eq(sluice_conn_connect(&c, w.loop, &to, why, sizeof(why)), -EINVAL);
    cr_expect(strstr(why, "events") != NULL, "%s", why);
    struct sluice_listener *l;
    struct sluice_listen_config at = {.url = "tcp://localhost:0", .events = &heard_events};
    cr_expect_eq(sluice_listener_open(&l, w.loop, &at, why, sizeof(why)), -EINVAL);
    at = (struct sluice_listen_config){.url = w.url};
    cr_expect_eq(sluice_listener_open(&l, w.loop, &at, why, sizeof(why)), -EINVAL);
    cr_expect(strstr(why, "events") != NULL, "%s", why);
    world_close(&w);
}
