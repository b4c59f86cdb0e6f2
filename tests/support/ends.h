/*
 * Two ends of connections on one loop, on any backend: what each heard is written down.
 */
#ifndef SLUICE_TESTS_ENDS_H
#define SLUICE_TESTS_ENDS_H

#include "backends/sim/sim.h"
#include "conns.h"
#include "base/check.h"
#include "base/clock.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one end heard, and what it does when it hears it. */
struct heard {
    struct sluice_conn *conn; /* NULL: not there, or over */
    int opened, data, drained, eofs, closed;
    enum sluice_reason reason;
    int os_error;
    char why[256];
    uint8_t *bytes;
    size_t count, room;
    void (*then)(struct heard *h, const char *what); /* at each callback, or NULL */
};

static inline void heard_what(struct heard *h, const char *what)
{
    if (h->then)
        h->then(h, what);
}

static inline void heard_open(struct sluice_conn *c, void *user)
{
    struct heard *h = user;
    cr_assert_eq(h->closed, 0);
    h->conn = c;
    h->opened++;
    heard_what(h, "open");
}

static inline void heard_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    struct heard *h = user;
    cr_assert_eq(h->conn, c);
    cr_assert_eq(h->closed, 0);
    cr_assert_gt(buf->bytes, 0);
    while (h->count + buf->bytes > h->room)
        h->bytes = realloc(h->bytes, h->room = h->room ? 2 * h->room : 65536);
    memcpy(h->bytes + h->count, buf->data, buf->bytes);
    h->count += buf->bytes;
    h->data++;
    heard_what(h, "data");
}

static inline void heard_drain(struct sluice_conn *c, void *user)
{
    struct heard *h = user;
    (void)c;
    cr_assert_eq(h->closed, 0);
    h->drained++;
    heard_what(h, "drain");
}

static inline void heard_eof(struct sluice_conn *c, void *user)
{
    struct heard *h = user;
    (void)c;
    cr_assert_eq(h->closed, 0);
    cr_assert_eq(h->eofs, 0);
    h->eofs++;
    heard_what(h, "eof");
}

static inline void heard_close(struct sluice_conn *c, enum sluice_reason reason, int os_error,
                               void *user)
{
    struct heard *h = user;
    cr_assert_eq(h->closed, 0);
    h->closed++;
    snprintf(h->why, sizeof(h->why), "%s", sluice_conn_why(c));
    h->reason = reason;
    h->os_error = os_error;
    heard_what(h, "close");
    h->conn = NULL;
}

static const struct sluice_conn_events heard_events = {.on_open = heard_open,
                                                       .on_data = heard_data,
                                                       .on_drain = heard_drain,
                                                       .on_eof = heard_eof,
                                                       .on_close = heard_close};

/* What came back goes back. */
static inline void heard_echo(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    struct heard *h = user;
    h->data++;
    cr_assert_eq(sluice_conn_send_buf(c, buf), 0);
}

static const struct sluice_conn_events heard_echoing = {
    .on_open = heard_open, .on_data = heard_echo, .on_close = heard_close};

/* ---- a loop, a listener, two ends ---- */

struct conns_world {
    struct sluice_loop *loop;
    struct sluice_listener *listener;
    char url[64];
    struct heard client, server;
    struct sluice_tls *client_tls, *server_tls; /* NULL: plain */
    enum sluice_ktls client_ktls, server_ktls;
};

static inline bool world_is_sim(const struct conns_world *w)
{
    return w->loop->be->ops == &sluice_backend_sim;
}

static inline struct sluice_loop *world_loop(const char *backend,
                                             const struct sluice_loop_config *cfg)
{
    struct sluice_loop *loop = NULL;
    struct sluice_loop_config mine = *cfg;
    char why[200] = "";
    mine.backend = backend;
    if (strcmp(backend, "sim") == 0)
        cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &mine, 7), 0);
    else if (sluice_loop_create(&loop, &mine, why, sizeof(why)))
        cr_skip_test("%s", why);
    return loop;
}

static inline void world_listen_within(struct conns_world *w, uint64_t tls_timeout_ns)
{
    char why[200] = "";
    const struct sluice_listen_config cfg = {.url = w->server_tls ? "tls://127.0.0.1:0"
                                                                  : "tcp://127.0.0.1:0",
                                             .events = &heard_events,
                                             .user = &w->server,
                                             .tls = w->server_tls,
                                             .ktls = w->server_ktls,
                                             .tls_timeout_ns = tls_timeout_ns};
    cr_assert_eq(sluice_listener_open(&w->listener, w->loop, &cfg, why, sizeof(why)), 0, "%s", why);
    snprintf(w->url, sizeof(w->url), "%s://127.0.0.1:%u", w->client_tls ? "tls" : "tcp",
             sluice_listener_port(w->listener));
}

static inline void world_listen(struct conns_world *w)
{
    world_listen_within(w, 0);
}

static inline void world_open(struct conns_world *w, const char *backend,
                              const struct sluice_loop_config *cfg)
{
    *w = (struct conns_world){.loop = world_loop(backend, cfg)};
    world_listen(w);
}

static inline void world_connect(struct conns_world *w)
{
    char why[200] = "";
    const struct sluice_connect_config cfg = {.url = w->url,
                                              .events = &heard_events,
                                              .user = &w->client,
                                              .tls = w->client_tls,
                                              .ktls = w->client_ktls};
    cr_assert_eq(sluice_conn_connect(&w->client.conn, w->loop, &cfg, why, sizeof(why)), 0, "%s",
                 why);
}

static inline void world_close(struct conns_world *w)
{
    sluice_loop_destroy(w->loop);
    free(w->client.bytes);
    free(w->server.bytes);
}

static inline void world_turn(struct conns_world *w)
{
    cr_assert_geq(sluice_loop_turn(w->loop), 0);
    if (world_is_sim(w))
        sluice_sim_advance(w->loop->be, 10 * SLUICE_NS_PER_US);
}

/* Of the loop's clock. */
static inline uint64_t world_limit_ns(void)
{
    return (getenv("TESTS_MEMCHECK") ? 100 : 10) * SLUICE_NS_PER_S;
}

/* Turns until it holds, in time. */
#define TURN_UNTIL(w, cond)                                                   \
    do {                                                                      \
        sluice_loop_refresh_now((w)->loop);                                   \
        uint64_t limit_ns_ = (w)->loop->now_ns + world_limit_ns();            \
        while (!(cond)) {                                                     \
            cr_assert_lt((w)->loop->now_ns, limit_ns_, "in time: %s", #cond); \
            world_turn(w);                                                    \
        }                                                                     \
    } while (0)

/* Turns for so long, for what must not happen. */
static inline void world_pass(struct conns_world *w, uint64_t ns)
{
    sluice_loop_refresh_now(w->loop);
    uint64_t until_ns = w->loop->now_ns + ns;
    while (w->loop->now_ns < until_ns)
        world_turn(w);
}

/* Connected, both ends known. */
static inline void world_pair(struct conns_world *w)
{
    world_connect(w);
    TURN_UNTIL(w, w->client.opened && w->server.opened);
}

/* ---- bytes of a known pattern ---- */

static inline uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static inline void fill_pattern(uint8_t *to, size_t from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = byte_at(from + i);
}

static inline void expect_bytes(const uint8_t *got, size_t from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        cr_assert_eq(got[i], byte_at(from + i), "byte %zu", from + i);
}

static inline void write_pattern(struct sluice_conn *c, size_t from, size_t bytes)
{
    static uint8_t buf[70000];
    fill_pattern(buf, from, bytes);
    cr_assert_eq(sluice_conn_write(c, buf, bytes), 0);
}

/* A file of it that nobody else sees: its descriptor. */
static inline int pattern_file(size_t from, size_t bytes)
{
    FILE *file = tmpfile();
    cr_assert_not_null(file);
    for (size_t i = 0; i < bytes; i++)
        cr_assert_neq(putc(byte_at(from + i), file), EOF);
    int fd = dup(fileno(file));
    cr_assert_eq(fclose(file), 0);
    cr_assert_geq(fd, 0);
    return fd;
}

/* What is sent from where it is, or from a file, and how that ended. */
struct heard_send {
    struct sluice_send send;
    int ends, result;
};

static inline void heard_sent(struct sluice_send *send, int result)
{
    struct heard_send *h = SLUICE_CONTAINER_OF(send, struct heard_send, send);
    h->ends++;
    h->result = result;
}

/* More than ever leaves, of a file that is empty on the disk. Its descriptor is to be closed. */
static inline struct heard_send endless_file(void)
{
    const size_t bytes = (size_t)1 << 40;
    int fd = pattern_file(0, 0);
    cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
    return (struct heard_send){.send = {.file = fd, .bytes = bytes, .done = heard_sent}};
}

static inline void expect_pattern(const struct heard *h, size_t bytes)
{
    cr_assert_eq(h->count, bytes);
    expect_bytes(h->bytes, 0, bytes);
}

/* Each test runs on each of these. */
struct on_backend {
    char name[16];
};

#define EACH_BACKEND(suite, test)                                                         \
    ParameterizedTestParameters(suite, test)                                              \
    {                                                                                     \
        static struct on_backend all[] = {{"uring"}, {"ev:epoll"}, {"sim"}};              \
        return cr_make_param_array(struct on_backend, all, sizeof(all) / sizeof(all[0])); \
    }                                                                                     \
    ParameterizedTest(struct on_backend *on, suite, test)

#endif
