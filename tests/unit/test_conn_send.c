/*
 * What is sent from the caller's memory or from a file, plain and with TLS, on every backend.
 */
#include "tests/support/tls_ends.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

static struct conns_world *here;

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

static void open_way_of(struct conns_world *w, const struct way *way,
                        const struct sluice_loop_config *cfg)
{
    if (way->tls)
        tls_world_open(w, way->backend, cfg);
    else
        world_open(w, way->backend, cfg);
}

static void open_way(struct conns_world *w, const struct way *way)
{
    open_way_of(w, way, &small);
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
    fill_pattern(all, 0, sizeof(all));
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

static int drained_after_abort;

static void abort_when_sent(struct sluice_send *send, int result)
{
    struct conns_world *w = here;
    (void)send, (void)result;
    sluice_conn_abort(w->client.conn);
    drained_after_abort = w->client.drained;
}

/* done() may abort: then nothing but on_close comes, though on_drain was due in the same breath. */
EACH_WAY(aborted_in_done)
{
    struct conns_world w;
    static uint8_t bytes[100000];
    struct sluice_send send = {.data = bytes, .bytes = sizeof(bytes), .done = abort_when_sent};
    here = &w;
    drained_after_abort = -1;
    open_way(&w, on);
    world_pair(&w);
    cr_assert_eq(sluice_conn_send(w.client.conn, &send), 0);
    int err = sluice_conn_write(w.client.conn, bytes, 30000);
    cr_assert(err == 0 || (on->tls && err == -EAGAIN));
    cr_assert_eq(sluice_conn_write(w.client.conn, bytes, 60000), -EAGAIN);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(w.client.drained, drained_after_abort);
    close_way(&w, on);
}

/* ---- files ---- */

#define FILE_BYTES 700000u

/* Parts of one, between copies and what is sent from where it is: in call order. */
EACH_WAY(a_file_leaves_in_its_place)
{
    struct conns_world w;
    static uint8_t all[FILE_BYTES];
    int fd = pattern_file(0, FILE_BYTES);
    struct sluice_send first = {.file = fd, .offset = 100, .bytes = 300000, .done = on_sent},
                       memory = {.data = all + 300100, .bytes = 100000, .done = on_sent},
                       second = {.file = fd, .offset = 400100, .bytes = 7, .done = on_sent},
                       third = {.file = fd, .offset = 400107, .bytes = 269893, .done = on_sent};
    fill_pattern(all, 0, sizeof(all));
    sends_done_count = 0;
    open_way(&w, on);
    world_pair(&w);
    struct sluice_conn *c = w.client.conn;
    cr_assert_eq(sluice_conn_write(c, all, 100), 0);
    cr_assert_eq(sluice_conn_send_file(c, &first), 0);
    cr_expect_eq(sluice_conn_write(c, all, 1), -EAGAIN, "it would overtake the file");
    cr_assert_eq(sluice_conn_send(c, &memory), 0);
    cr_assert_eq(sluice_conn_send_file(c, &second), 0);
    cr_assert_eq(sluice_conn_send_file(c, &third), 0);
    cr_expect_geq(sluice_conn_queued(c), FILE_BYTES - 30000 - 100);
    cr_expect_eq(sends_done_count, 0, "never inside the call");
    TURN_UNTIL(&w, w.client.drained);
    cr_expect_eq(sends_done_count, 4, "drained behind the last of them");
    cr_assert_eq(sluice_conn_write(c, all + 670000, 30000), 0);
    sluice_conn_shutdown(c);
    TURN_UNTIL(&w, w.server.eofs);
    expect_pattern(&w.server, FILE_BYTES);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(sends_done[i], 0);
    close(fd);
    close_way(&w, on);
}

/* It leaves before the FIN that was asked for behind it, also by close. */
EACH_WAY(a_file_leaves_before_the_end)
{
    for (int by_close = 0; by_close < 2; by_close++) {
        struct conns_world w;
        int fd = pattern_file(0, FILE_BYTES);
        struct sluice_send file = {.file = fd, .bytes = FILE_BYTES, .done = on_sent};
        sends_done_count = 0;
        open_way(&w, on);
        world_pair(&w);
        cr_assert_eq(sluice_conn_send_file(w.client.conn, &file), 0);
        if (by_close)
            sluice_conn_close(w.client.conn);
        else
            cr_assert_eq(sluice_conn_shutdown(w.client.conn), 0);
        cr_expect_eq(sluice_conn_send_file(w.client.conn, &file), -EPIPE);
        TURN_UNTIL(&w, w.server.eofs || w.server.closed);
        expect_pattern(&w.server, FILE_BYTES);
        cr_expect_eq(sends_done[0], 0);
        close(fd);
        close_way(&w, on);
    }
}

/* Shorter than was said, or not to be read: what there is leaves, and the connection lives. */
EACH_WAY(a_file_that_cannot_be_had)
{
    struct conns_world w;
    int fd = pattern_file(0, 100000), pair[2];
    char path[64];
    struct sluice_send file = {.file = fd, .offset = 90000, .bytes = 10001, .done = on_sent};
    sends_done_count = 0;
    open_way(&w, on);
    world_pair(&w);
    struct sluice_conn *c = w.client.conn;
    cr_assert_eq(sluice_conn_send_file(c, &file), 0);
    cr_expect_eq(sluice_conn_write(c, "x", 1), -EAGAIN);
    TURN_UNTIL(&w, w.client.drained && w.server.count == 10000);
    cr_expect_eq(sends_done[0], -ENODATA);
    expect_bytes(w.server.bytes, 90000, 10000);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    file = (struct sluice_send){.file = open(path, O_WRONLY), .bytes = 5, .done = on_sent};
    cr_assert_eq(sluice_conn_send_file(c, &file), 0);
    TURN_UNTIL(&w, sends_done_count == 2);
    cr_expect_eq(sends_done[1], -EBADF);
    cr_assert_eq(sluice_conn_write(c, "y", 1), 0);
    TURN_UNTIL(&w, w.server.count == 10001);
    close(file.file);
    cr_expect_eq(sluice_conn_send_file(c, &file), -EBADF);
    cr_assert_eq(pipe(pair), 0);
    file.file = pair[0];
    cr_expect_eq(sluice_conn_send_file(c, &file), -EINVAL, "a pipe");
    file = (struct sluice_send){.file = fd, .bytes = 0, .done = on_sent};
    cr_expect_eq(sluice_conn_send_file(c, &file), -EINVAL, "nothing of it");
    file = (struct sluice_send){.file = fd, .offset = INT64_MAX, .bytes = 1, .done = on_sent};
    cr_expect_eq(sluice_conn_send_file(c, &file), -EINVAL, "beyond any end");
    close(pair[0]);
    close(pair[1]);
    close(fd);
    close_way(&w, on);
}

/* A peer that does not read: no more of it is read than the queue holds. Then the end. */
EACH_WAY(a_file_waits_for_the_peer)
{
    struct conns_world w;
    int fd = pattern_file(0, FILE_BYTES);
    struct sluice_send files[2] = {
        {.file = fd, .bytes = (size_t)1 << 40, .done = on_sent},
        {.file = fd, .bytes = 5, .done = on_sent},
    };
    cr_assert_eq(ftruncate(fd, (off_t)1 << 40), 0);
    sends_done_count = 0;
    open_way(&w, on);
    world_pair(&w);
    w.client.then = sends_come_first;
    sluice_conn_pause(w.server.conn);
    cr_assert_eq(sluice_conn_send_file(w.client.conn, &files[0]), 0);
    cr_assert_eq(sluice_conn_send_file(w.client.conn, &files[1]), 0);
    size_t queued = 0;
    int passes = 0; /* until the socket holds as much as it will */
    for (; queued != sluice_conn_queued(w.client.conn) && passes < 100; passes++) {
        queued = sluice_conn_queued(w.client.conn);
        world_pass(&w, 20 * SLUICE_NS_PER_MS);
    }
    cr_expect_lt(passes, 100, "it goes on though nobody reads");
    cr_expect_gt(queued, (size_t)1 << 39);
    cr_expect_eq(sends_done_count, 0);
    sluice_conn_abort(w.client.conn);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(sends_done[0], -ECANCELED);
    cr_expect_eq(sends_done[1], -ECANCELED);
    close(fd);
    close_way(&w, on);
}

/* ---- received buffers, sent on ---- */

static struct sluice_buf *kept;
static int refused, times, piece_count;
static size_t pieces[3000];

/* As a proxy does it. */
static void send_on(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)user;
    pieces[piece_count++ % 3000] = buf->bytes;
    for (int i = 0; i < times; i++) {
        int err = sluice_conn_send_buf(c, buf);
        if (err == 0)
            continue;
        cr_assert_eq(err, -EAGAIN);
        cr_assert_null(kept);
        refused++;
        kept = buf;
        sluice_buf_retain(buf);
        sluice_conn_pause(c);
    }
}

static void send_kept(struct sluice_conn *c, void *user)
{
    (void)user;
    cr_assert_eq(sluice_conn_send_buf(c, kept), 0);
    sluice_buf_release(kept);
    kept = NULL;
    sluice_conn_resume(c);
}

static const struct sluice_conn_events sending_on = {
    .on_data = send_on, .on_drain = send_kept, .on_close = heard_close};

static void open_chain_of(struct conns_world *w, const struct way *way,
                          const struct sluice_loop_config *cfg)
{
    kept = NULL;
    refused = piece_count = 0;
    times = 1;
    open_way_of(w, way, cfg);
    world_pair(w);
    sluice_conn_set_events(w->server.conn, &sending_on);
}

static void open_chain(struct conns_world *w, const struct way *way)
{
    open_chain_of(w, way, &small);
}

/* Short ones are copied, long ones are not, and all of them leave in order. */
EACH_WAY(what_was_received_is_sent_on)
{
    struct conns_world w;
    static uint8_t all[1000000];
    struct sluice_send rest = {.data = all + 100, .bytes = sizeof(all) - 100, .done = on_sent};
    fill_pattern(all, 0, sizeof(all));
    sends_done_count = 0;
    open_chain(&w, on);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(sluice_conn_write(w.client.conn, all + 10 * i, 10), 0);
        TURN_UNTIL(&w, w.client.count == 10u * (size_t)(i + 1));
    }
    cr_assert_eq(sluice_conn_send(w.client.conn, &rest), 0);
    TURN_UNTIL(&w, w.client.count == sizeof(all));
    expect_pattern(&w.client, sizeof(all));
    close_way(&w, on);
}

/* No more waits than the queue may hold, and no buffer is lost that way. */
EACH_WAY(what_is_sent_on_waits_for_its_reader)
{
    struct conns_world w;
    static uint8_t all[8000000];
    struct sluice_send send = {.data = all, .bytes = sizeof(all), .done = on_sent};
    fill_pattern(all, 0, sizeof(all));
    sends_done_count = 0;
    open_chain(&w, on);
    sluice_conn_pause(w.client.conn);
    cr_assert_eq(sluice_conn_send(w.client.conn, &send), 0);
    TURN_UNTIL(&w, refused);
    world_pass(&w, 5 * SLUICE_NS_PER_MS);
    size_t waits = sluice_conn_queued(w.server.conn);
    cr_expect(waits > 0 && waits <= 2 * w.loop->conns->queue_bytes, "%zu wait", waits);
    sluice_conn_resume(w.client.conn);
    TURN_UNTIL(&w, w.client.count == sizeof(all));
    expect_pattern(&w.client, sizeof(all));
    cr_expect_eq(sluice_conn_queued(w.server.conn), 0);
    close_way(&w, on);
}

/* What waits for a reader leaves it buffers to read into: here both ends are of one loop. */
EACH_WAY(what_is_sent_on_leaves_half_of_the_buffers)
{
    struct conns_world w;
    static uint8_t all[4000000];
    const struct sluice_loop_config cfg = {
        .conns_max = 8, .idle = SLUICE_IDLE_BUSY, .recv_bufs = 128, .send_queue_bytes = 512u << 10};
    struct sluice_send send = {.data = all, .bytes = sizeof(all), .done = on_sent};
    fill_pattern(all, 0, sizeof(all));
    sends_done_count = 0;
    open_chain_of(&w, on, &cfg);
    sluice_conn_pause(w.client.conn);
    cr_assert_eq(sluice_conn_send(w.client.conn, &send), 0);
    world_pass(&w, 50 * SLUICE_NS_PER_MS);
    sluice_conn_resume(w.client.conn);
    TURN_UNTIL(&w, w.client.count == sizeof(all));
    expect_pattern(&w.client, sizeof(all));
    close_way(&w, on);
}

/* Its own place in the list is taken: the second time it is copied. */
EACH_WAY(one_that_is_on_its_way_is_copied)
{
    struct conns_world w;
    open_chain(&w, on);
    times = 3;
    write_pattern(w.client.conn, 0, 3000);
    TURN_UNTIL(&w, w.client.count == 9000);
    for (size_t n = 0, at = 0; n < (size_t)piece_count; at += pieces[n++])
        for (size_t i = 0; i < 3; i++)
            expect_bytes(w.client.bytes + 3 * at + i * pieces[n], at, pieces[n]);
    close_way(&w, on);
}

/* The loop minds, when it is destroyed, that every buffer is back. */
EACH_WAY(what_was_to_be_sent_on_comes_back_with_the_end)
{
    struct conns_world w;
    static uint8_t all[8000000];
    struct sluice_send send = {.data = all, .bytes = sizeof(all), .done = on_sent};
    sends_done_count = 0;
    open_chain(&w, on);
    sluice_conn_pause(w.client.conn);
    cr_assert_eq(sluice_conn_send(w.client.conn, &send), 0);
    TURN_UNTIL(&w, refused);
    sluice_conn_abort(w.server.conn);
    TURN_UNTIL(&w, w.server.closed);
    sluice_buf_release(kept);
    close_way(&w, on);
}
