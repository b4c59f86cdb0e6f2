/*
 * Lives of connections and listeners: closed in every callback, thousands one after the other, more
 * than there is room for, and what is left when the loop goes. On every backend.
 */
#include "tests/support/ends.h"
#include "tests/support/long.h"
#include "tests/support/memcheck.h"
#include "tests/support/usage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

Test(conn_life, errors_of_sockets_have_their_reasons)
{
    static const struct {
        int error;
        enum sluice_reason reason;
    } rows[] = {
        {ECONNREFUSED, SLUICE_REASON_REFUSED},
        {ETIMEDOUT, SLUICE_REASON_TIMED_OUT},
        {EHOSTUNREACH, SLUICE_REASON_UNREACHABLE},
        {EPIPE, SLUICE_REASON_RESET},
        {EMFILE, SLUICE_REASON_LIMIT},
        {EOPNOTSUPP, SLUICE_REASON_UNSUPPORTED},
        {EACCES, SLUICE_REASON_DENIED},
        {EBADF, SLUICE_REASON_INTERNAL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        cr_expect_eq(sluice_life_reason(rows[i].error), rows[i].reason, "%s",
                     strerror(rows[i].error));
}

/* Nothing is lent, nothing in flight: as on the first day. */
static void expect_nothing_left(const struct conns_world *w)
{
    const struct sluice_conns *conns = w->loop->conns;
    cr_expect_eq(conns->used, 0);
    cr_expect_eq(conns->leases[LEASE_WIRE].leased, 0);
    cr_expect_eq(conns->queue_free_count, conns->max);
    cr_expect_null(conns->due);
    cr_expect_null(conns->leases[LEASE_WIRE].starved);
    cr_expect_eq(w->loop->active, conns->listening);
    cr_expect_eq(w->loop->be->in_flight, 1 + conns->listening, "the bell and the listeners");
}

/* ---- closed in every callback ---- */

enum how { BY_CLOSE, BY_ABORT, BY_SHUTDOWN_AND_ABORT, BOTH_ENDS, HOWS };

static struct conns_world *here;
static const char *closes_at;
static enum how closes_how;
static int did_close;

static void close_now(struct heard *h, const char *what)
{
    if (strcmp(what, closes_at) != 0 || did_close++)
        return;
    switch (closes_how) {
    case BY_CLOSE:
        sluice_conn_close(h->conn);
        sluice_conn_close(h->conn);
        break;
    case BY_ABORT:
        sluice_conn_abort(h->conn);
        sluice_conn_abort(h->conn);
        break;
    case BY_SHUTDOWN_AND_ABORT:
        sluice_conn_shutdown(h->conn);
        sluice_conn_abort(h->conn);
        break;
    case BOTH_ENDS:
        sluice_listener_close(here->listener);
        if (here->server.conn)
            sluice_conn_close(here->server.conn);
        if (here->client.conn)
            sluice_conn_abort(here->client.conn);
        break;
    case HOWS:
        break;
    }
}

static void fill(struct sluice_conn *c)
{
    uint8_t piece[4096] = {0};
    while (sluice_conn_write(c, piece, sizeof(piece)) == 0) {
        /* until it says that it will tell when it drained */
    }
}

/* All four callbacks come at either end, if nobody closes before. */
static void live(struct conns_world *w)
{
    world_connect(w);
    for (int i = 0; i < 100000 && !(w->client.closed && w->server.closed); i++) {
        world_turn(w);
        if (w->client.opened == 1 && w->client.conn && w->server.conn && !w->client.data) {
            w->client.opened++;
            fill(w->client.conn);
            fill(w->server.conn);
        }
        if (w->client.drained && w->client.conn)
            sluice_conn_shutdown(w->client.conn);
        if (w->server.eofs && w->server.conn)
            sluice_conn_shutdown(w->server.conn);
        if (w->client.closed && !w->server.opened)
            break; /* reset before it was accepted: nobody heard of the other */
    }
    cr_assert_eq(w->client.closed, 1);
}

EACH_BACKEND(conn_life, closed_in_every_callback)
{
    static const char *const callbacks[] = {"open", "data", "drain", "eof", "close"};
    for (int at = 0; at < 5; at++) {
        for (int how = 0; how < HOWS; how++) {
            for (int end = 0; end < 2; end++) {
                struct conns_world w;
                here = &w;
                closes_at = callbacks[at];
                closes_how = (enum how)how;
                did_close = 0;
                world_open(&w, on->name, &small);
                *(end ? &w.client.then : &w.server.then) = close_now;
                live(&w);
                cr_assert(did_close || (end && at == 3), "%s was called", closes_at);
                TURN_UNTIL(&w, w.loop->conns->used == 0);
                cr_assert_eq(w.client.closed, 1);
                cr_assert_eq(w.server.closed, w.server.opened);
                for (int i = 0; i < 10; i++)
                    world_turn(&w);
                expect_nothing_left(&w);
                world_close(&w);
            }
        }
    }
}

/* ---- many, one after the other ---- */

EACH_BACKEND(conn_life, many_lives_leave_nothing)
{
    struct conns_world w;
    int lives = is_long() ? 100000 : 2000;
    world_open(&w, on->name, &small);
    world_pair(&w);
    sluice_conn_abort(w.client.conn);
    TURN_UNTIL(&w, w.loop->conns->used == 0);
    unsigned before = usage_descriptors();
    for (int i = 0; i < lives; i++) {
        w.client.opened = w.server.opened = w.client.closed = w.server.closed = 0;
        w.client.count = w.server.count = 0;
        w.client.eofs = w.server.eofs = 0;
        world_pair(&w);
        cr_assert_eq(sluice_conn_write(w.client.conn, "ping", 4), 0);
        switch (i % 3) { /* in order, the other way round, in the middle of it */
        case 0:
            sluice_conn_shutdown(w.client.conn);
            TURN_UNTIL(&w, w.server.eofs);
            sluice_conn_close(w.server.conn);
            break;
        case 1:
            TURN_UNTIL(&w, w.server.count == 4);
            sluice_conn_abort(w.server.conn);
            break;
        case 2:
            sluice_conn_close(w.server.conn);
            sluice_conn_close(w.client.conn);
            break;
        }
        TURN_UNTIL(&w, (w.client.closed || w.client.eofs) && w.server.closed);
        if (w.client.conn)
            sluice_conn_close(w.client.conn);
        TURN_UNTIL(&w, w.loop->conns->used == 0);
    }
    cr_expect_eq(usage_descriptors(), before);
    cr_expect_eq(sluice_listener_accepted(w.listener), (uint64_t)lives + 1);
    expect_nothing_left(&w);
    world_close(&w);
}

/* ---- more than there is room for ---- */

EACH_BACKEND(conn_life, accepting_waits_for_a_connection)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.conns_max = 3;
    world_open(&w, on->name, &cfg);
    world_pair(&w);
    struct heard first = w.client, first_server = w.server;
    sluice_conn_set_user(first.conn, &first);
    sluice_conn_set_user(first_server.conn, &first_server);
    w.client = w.server = (struct heard){0};
    world_connect(&w);
    TURN_UNTIL(&w, w.client.opened); /* by the kernel: it stands in the backlog */
    world_pass(&w, 30 * SLUICE_NS_PER_MS);
    cr_expect_eq(w.server.opened, 0);
    cr_expect_eq(sluice_listener_waits(w.listener), 1);
    cr_assert_eq(sluice_conn_write(w.client.conn, "early", 5), 0);
    sluice_conn_abort(first.conn);
    TURN_UNTIL(&w, first.closed && first_server.closed);
    TURN_UNTIL(&w, w.server.count == 5);
    world_close(&w);
}

/* No descriptor is left: the peer waits in the backlog, and is accepted when there is one. */
EACH_BACKEND(conn_life, accepting_waits_for_a_descriptor)
{
    struct conns_world w;
    struct rlimit usual;
    not_under_valgrind("has descriptors of its own, which the limit does not count");
    world_open(&w, on->name, &small);
    if (world_is_sim(&w)) {
        world_close(&w);
        cr_skip_test("the limit is the kernel's");
    }
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    int lowest = dup(0);
    close(lowest);
    world_connect(&w);
    const struct rlimit none = {.rlim_cur = (rlim_t)lowest + 1, .rlim_max = usual.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    TURN_UNTIL(&w, w.client.opened);
    TURN_UNTIL(&w, sluice_listener_waits(w.listener) == 1);
    world_pass(&w, 50 * SLUICE_NS_PER_MS);
    cr_expect_eq(w.server.opened, 0);
    cr_expect_eq(w.client.closed, 0);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    TURN_UNTIL(&w, w.server.opened); /* nobody tells us: the back-off looks */
    world_close(&w);
}

/* ---- listeners ---- */

static int listener_closed;

static void on_listener_close(struct sluice_listener *l, void *user)
{
    (void)l, (void)user;
    listener_closed++;
}

EACH_BACKEND(conn_life, closed_listener_leaves_connections)
{
    struct conns_world w = {.loop = world_loop(on->name, &small)};
    struct sluice_listener *other;
    char why[200];
    listener_closed = 0;
    struct sluice_listen_config cfg = {.url = "tcp://127.0.0.1:0",
                                       .events = &heard_events,
                                       .user = &w.server,
                                       .on_close = on_listener_close};
    cr_assert_eq(sluice_listener_open(&w.listener, w.loop, &cfg, why, sizeof(why)), 0);
    snprintf(w.url, sizeof(w.url), "tcp://127.0.0.1:%u", sluice_listener_port(w.listener));
    world_pair(&w);
    cfg.url = w.url;
    cr_expect_eq(sluice_listener_open(&other, w.loop, &cfg, why, sizeof(why)), -EADDRINUSE, "%s",
                 why);
    sluice_listener_close(w.listener);
    sluice_listener_close(w.listener);
    cr_expect_eq(listener_closed, 0, "never inside the call");
    TURN_UNTIL(&w, listener_closed);
    cr_assert_eq(sluice_conn_write(w.client.conn, "x", 1), 0);
    TURN_UNTIL(&w, w.server.count == 1);
    cr_expect_eq(listener_closed, 1);
    cr_assert_eq(sluice_listener_open(&other, w.loop, &cfg, why, sizeof(why)), 0,
                 "the port is free again: %s", why);
    world_close(&w);
    cr_expect_eq(listener_closed, 2);
}

/* Two that share a port: the kernel chooses, and nobody is lost. */
EACH_BACKEND(conn_life, listeners_share_a_port)
{
    struct conns_world w = {.loop = world_loop(on->name, &small)};
    struct sluice_listener *other;
    char why[200] = "";
    struct sluice_listen_config cfg = {
        .url = "tcp://127.0.0.1:0", .events = &heard_events, .user = &w.server, .reuse_port = true};
    if (world_is_sim(&w)) {
        world_close(&w);
        cr_skip_test("the kernel shares out");
    }
    cr_assert_eq(sluice_listener_open(&w.listener, w.loop, &cfg, why, sizeof(why)), 0);
    snprintf(w.url, sizeof(w.url), "tcp://127.0.0.1:%u", sluice_listener_port(w.listener));
    cfg.url = w.url;
    cr_assert_eq(sluice_listener_open(&other, w.loop, &cfg, why, sizeof(why)), 0, "%s", why);
    for (int i = 0; i < 50; i++) {
        w.client.opened = w.server.opened = w.client.closed = w.server.closed = 0;
        world_pair(&w);
        sluice_conn_abort(w.client.conn);
        TURN_UNTIL(&w, w.loop->conns->used == 0);
    }
    uint64_t mine = sluice_listener_accepted(w.listener), theirs = sluice_listener_accepted(other);
    cr_expect_eq(mine + theirs, 50);
    cr_expect(mine > 0 && theirs > 0, "%lu and %lu", (unsigned long)mine, (unsigned long)theirs);
    world_close(&w);
}

/* ---- addresses ---- */

EACH_BACKEND(conn_life, addresses_are_the_sockets)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    if (world_is_sim(&w)) {
        world_close(&w);
        cr_skip_test("its connections have no addresses");
    }
    world_pair(&w);
    struct sockaddr_in a = {0}, b = {0};
    socklen_t a_bytes = sizeof(a), b_bytes = sizeof(b);
    cr_assert_eq(sluice_conn_local(w.client.conn, (struct sockaddr *)&a, &a_bytes), 0);
    cr_assert_eq(sluice_conn_peer(w.server.conn, (struct sockaddr *)&b, &b_bytes), 0);
    cr_expect_eq(a.sin_port, b.sin_port);
    cr_assert_eq(sluice_conn_peer(w.client.conn, (struct sockaddr *)&a, &a_bytes), 0);
    cr_expect_eq(ntohs(a.sin_port), sluice_listener_port(w.listener));
    world_close(&w);
}

EACH_BACKEND(conn_life, unix_paths)
{
    struct conns_world w = {.loop = world_loop(on->name, &small)};
    char why[200] = "";
    if (world_is_sim(&w)) {
        world_close(&w);
        cr_skip_test("it has no paths");
    }
    snprintf(w.url, sizeof(w.url), "unix:/tmp/sluice-test-%d", (int)getpid());
    const struct sluice_listen_config cfg = {
        .url = w.url, .events = &heard_events, .user = &w.server};
    cr_assert_eq(sluice_listener_open(&w.listener, w.loop, &cfg, why, sizeof(why)), 0, "%s", why);
    cr_expect_eq(sluice_listener_port(w.listener), 0);
    world_pair(&w);
    cr_assert_eq(sluice_conn_write(w.client.conn, "by path", 7), 0);
    sluice_conn_shutdown(w.client.conn);
    TURN_UNTIL(&w, w.server.eofs);
    cr_expect_eq(w.server.count, 7);
    world_close(&w);
    unlink(w.url + 5);
    char too_long[300];
    memset(too_long, 'x', sizeof(too_long));
    memcpy(too_long, "unix:", 5);
    too_long[299] = 0;
    w = (struct conns_world){.loop = world_loop(on->name, &small)};
    struct sluice_listener *l;
    const struct sluice_listen_config bad = {.url = too_long, .events = &heard_events};
    cr_expect_eq(sluice_listener_open(&l, w.loop, &bad, why, sizeof(why)), -EINVAL);
    world_close(&w);
}

/* ---- deadlines of connecting ---- */

/* Where the name has more addresses than the one listened at, the others are refused before. */
EACH_BACKEND(conn_life, connects_by_name)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    if (world_is_sim(&w)) {
        world_close(&w);
        cr_skip_test("it has no names");
    }
    snprintf(w.url, sizeof(w.url), "tcp://localhost:%u", sluice_listener_port(w.listener));
    world_connect(&w);
    cr_expect_eq(sluice_conn_state(w.client.conn), SLUICE_CONN_RESOLVING);
    TURN_UNTIL(&w, w.client.opened && w.server.opened);
    sluice_conn_abort(w.client.conn);
    TURN_UNTIL(&w, w.loop->conns->used == 0);
    w.client = w.server = (struct heard){0};
    world_connect(&w); /* and nobody waits for the answer */
    sluice_conn_close(w.client.conn);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(w.client.opened, 0);
    world_close(&w);
}

/* A listener that answers nobody: its backlog is full. */
static int black_hole(struct conns_world *w, int fillers[16])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    if (world_is_sim(w)) {
        at.sin_port = htons(99);
        cr_assert_geq(
            sluice_sim_listen(w->loop->be, (struct sockaddr *)&at, bytes, SLUICE_SIM_BLACK_HOLE),
            0);
        return 99;
    }
    int fd = fillers[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, bytes), 0);
    cr_assert_eq(listen(fd, 0), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    for (int i = 1; i < 16; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        cr_assert(connect(fillers[i], (struct sockaddr *)&at, bytes) == 0 || errno == EINPROGRESS);
    }
    return ntohs(at.sin_port);
}

EACH_BACKEND(conn_life, connecting_has_a_deadline)
{
    struct conns_world w = {.loop = world_loop(on->name, &small)};
    int fillers[16] = {0};
    snprintf(w.url, sizeof(w.url), "tcp://127.0.0.1:%d", black_hole(&w, fillers));
    const struct sluice_connect_config cfg = {.url = w.url,
                                              .events = &heard_events,
                                              .user = &w.client,
                                              .connect_timeout_ns = 30 * SLUICE_NS_PER_MS};
    cr_assert_eq(sluice_conn_connect(&w.client.conn, w.loop, &cfg, NULL, 0), 0);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_TIMED_OUT);
    w.client.closed = 0;
    cr_assert_eq(sluice_conn_connect(&w.client.conn, w.loop, &cfg, NULL, 0), 0);
    for (int i = 0; i < 3; i++)
        world_turn(&w);
    sluice_conn_close(w.client.conn);
    TURN_UNTIL(&w, w.client.closed);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE, "closed while connecting");
    world_close(&w);
    for (int i = 0; i < 16; i++)
        if (fillers[i])
            close(fillers[i]);
}

/* ---- the loop goes ---- */

EACH_BACKEND(conn_life, destroying_the_loop_closes_what_is_left)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    fill(w.client.conn);
    world_close(&w);
    cr_expect_eq(w.client.closed, 1);
    cr_expect_eq(w.server.closed, 1);
    cr_expect_eq(w.client.reason, SLUICE_REASON_LOCAL_CLOSE);
}

static int refused;

/* As a client does that connects again. */
static void connect_again(struct heard *h, const char *what)
{
    const struct sluice_connect_config cfg = {.url = here->url, .events = &heard_events, .user = h};
    const struct sluice_listen_config listen_cfg = {.url = "tcp://127.0.0.1:0",
                                                    .events = &heard_events};
    struct sluice_listener *l;
    if (strcmp(what, "close") != 0)
        return;
    refused += sluice_conn_connect(&h->conn, here->loop, &cfg, NULL, 0) == -ENOBUFS;
    refused += sluice_listener_open(&l, here->loop, &listen_cfg, NULL, 0) == -ENOBUFS;
}

static void on_late_post(struct sluice_post *post)
{
    (void)post;
    connect_again(&here->client, "close");
}

EACH_BACKEND(conn_life, destroying_the_loop_lets_nothing_begin)
{
    struct conns_world w;
    struct sluice_post post = {.call = on_late_post};
    here = &w;
    world_open(&w, on->name, &small);
    world_pair(&w);
    refused = 0;
    w.client.then = w.server.then = connect_again;
    sluice_loop_post(w.loop, &post);
    world_close(&w);
    cr_expect_eq(w.client.closed, 1);
    cr_expect_eq(refused, 6);
}

/* Bugs of the caller end the program, with the place. */
Test(conn_life, call_after_on_close_is_caught, .signal = SIGABRT)
{
    struct conns_world w;
    world_open(&w, "ev:epoll", &small);
    world_pair(&w);
    struct sluice_conn *c = w.client.conn;
    sluice_conn_abort(c);
    TURN_UNTIL(&w, w.loop->conns->used == 0);
    sluice_conn_write(c, "x", 1);
}

Test(conn_life, release_without_retain_is_caught, .signal = SIGABRT)
{
    struct conns_world w;
    world_open(&w, "ev:epoll", &small);
    struct sluice_lease *lease = sluice_lease_wire(w.loop->conns, 0, 1);
    sluice_buf_release(&lease->buf);
    sluice_buf_release(&lease->buf);
}
