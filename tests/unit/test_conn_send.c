/*
 * What is sent from the caller's memory, plain and with TLS, on every backend.
 */
#include "tests/support/tls_ends.h"

#include <errno.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

struct way {
    char backend[16];
    int tls;
};
static struct way ways[] = {{"uring", 0},    {"uring", 1}, {"ev:epoll", 0},
                            {"ev:epoll", 1}, {"sim", 0},   {"sim", 1}};

#define EACH_WAY(test)                                                                \
    ParameterizedTestParameters(conn_send, test)                                      \
    {                                                                                 \
        return cr_make_param_array(struct way, ways, sizeof(ways) / sizeof(ways[0])); \
    }                                                                                 \
    ParameterizedTest(struct way *on, conn_send, test)

static void open_way(struct conns_world *w, const struct way *way)
{
    if (way->tls)
        tls_world_open(w, way->backend, &small);
    else
        world_open(w, way->backend, &small);
}

static void close_way(struct conns_world *w, const struct way *way)
{
    if (way->tls)
        tls_world_close(w);
    else
        world_close(w);
}

static int sends_done[8], sends_done_count;

static void on_sent(struct sluice_send *send, int result)
{
    cr_assert_lt(sends_done_count, 8);
    (void)send;
    sends_done[sends_done_count++] = result;
}

/* Copies and what is sent from where it is, in call order; far more than the queue holds. */
EACH_WAY(sent_from_where_it_is)
{
    struct conns_world w;
    static uint8_t all[1000000];
    struct sluice_send sends[3] = {{.data = all + 100, .bytes = 300000, .done = on_sent},
                                   {.data = all + 300200, .bytes = 1, .done = on_sent},
                                   {.data = all + 300201, .bytes = 699799, .done = on_sent}};
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = byte_at(i);
    sends_done_count = 0;
    open_way(&w, on);
    world_pair(&w);
    struct sluice_conn *c = w.client.conn;
    cr_assert_eq(sluice_conn_write(c, all, 100), 0);
    cr_assert_eq(sluice_conn_send(c, &sends[0]), 0);
    cr_expect_eq(sends_done_count, 0, "never inside the call");
    int err;
    while ((err = sluice_conn_write(c, all + 300100, 100)) == -EAGAIN)
        TURN_UNTIL(&w, w.client.drained);
    cr_assert_eq(err, 0);
    cr_assert_eq(sluice_conn_send(c, &sends[1]), 0);
    cr_assert_eq(sluice_conn_send(c, &sends[2]), 0);
    sluice_conn_shutdown(c);
    cr_expect_eq(sluice_conn_send(c, &sends[0]), -EPIPE);
    TURN_UNTIL(&w, w.server.eofs);
    expect_pattern(&w.server, sizeof(all));
    cr_expect_eq(sends_done_count, 3);
    cr_expect_eq(sends_done[0] | sends_done[1] | sends_done[2], 0);
    close_way(&w, on);
}

static void sends_come_first(struct heard *h, const char *what)
{
    (void)h;
    if (strcmp(what, "close") == 0)
        cr_assert_eq(sends_done_count, 2, "all of it is ours again before on_close");
}

EACH_WAY(what_did_not_leave_comes_back)
{
    struct conns_world w;
    static uint8_t much[8u << 20];
    struct sluice_send sends[2] = {{.data = much, .bytes = sizeof(much), .done = on_sent},
                                   {.data = much, .bytes = 5, .done = on_sent}};
    sends_done_count = 0;
    open_way(&w, on);
    world_pair(&w);
    w.client.then = sends_come_first;
    sluice_conn_pause(w.server.conn);
    cr_expect_eq(sluice_conn_send(w.client.conn, &(struct sluice_send){.data = much}), -EINVAL);
    cr_assert_eq(sluice_conn_send(w.client.conn, &sends[0]), 0);
    cr_assert_eq(sluice_conn_send(w.client.conn, &sends[1]), 0);
    world_pass(&w, 10 * SLUICE_NS_PER_MS);
    cr_expect_eq(sends_done_count, 0);
    cr_expect_gt(sluice_conn_queued(w.client.conn), 5);
    sluice_conn_abort(w.client.conn);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(sends_done[0], -ECANCELED);
    cr_expect_eq(sends_done[1], -ECANCELED);
    close_way(&w, on);
}
