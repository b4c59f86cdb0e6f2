/*
 * Connections by seed on the simulation, with its faults on: both ends do at random what a user may
 * do at any moment, and what must hold is checked all along. Again, one of them:
 * SEED=17 test_conn_seeds.
 */
#include "tests/support/ends.h"
#include "tests/support/long.h"
#include "tests/support/random.h"
#include "base/check.h"

#include <errno.h>

enum { PAIRS = 4, KEEP_MAX = 6, STEPS = 600, PERIOD = 1 << 19 };

/* One end and what it knows of itself. */
struct actor {
    struct sluice_conn *conn; /* NULL: over */
    struct actor *peer;
    struct sluice_send send;
    bool sending;
    size_t sent;     /* bytes accepted for sending, of the pattern */
    size_t received; /* of the peer's */
    int opened, eofs, closed;
    bool waits_drain, paused;
    bool cut; /* closed or reset: what was on its way may be lost */
};

static struct sluice_loop *loop;
static struct actor actors[2 * PAIRS];
static int accepted;
static struct sluice_buf *kept[KEEP_MAX];
static int kept_count;
static uint64_t chance;
static bool inside;                 /* a callback runs */
static uint8_t pattern[2 * PERIOD]; /* of every stream, again and again */

static uint64_t roll(uint64_t limit)
{
    return random_below(&chance, limit);
}

static void enter(void)
{
    cr_assert(!inside, "callbacks are never nested");
    inside = true;
}

static void act(struct actor *a);

static void leave(struct actor *a)
{
    if (a && a->conn && roll(8) == 0)
        act(a); /* anything may be called in here */
    inside = false;
}

static void on_open(struct sluice_conn *c, void *user)
{
    enter();
    struct actor *a = user;
    if (!a) { /* accepted: in the order of the peers' connecting, for all go to one listener */
        a = &actors[PAIRS + accepted++];
        sluice_conn_set_user(c, a);
        a->conn = c;
    }
    cr_assert_eq(a->opened++, 0);
    leave(a);
}

static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    struct actor *a = user;
    enter();
    cr_assert(a->opened && !a->closed && !a->eofs && !a->paused && !a->cut);
    cr_assert_eq(a->conn, c);
    cr_assert_eq(memcmp(buf->data, pattern + a->received % PERIOD, buf->bytes), 0);
    a->received += buf->bytes;
    if (kept_count < KEEP_MAX && roll(4) == 0) {
        sluice_buf_retain(buf);
        kept[kept_count++] = buf;
    }
    leave(a);
}

static void on_drain(struct sluice_conn *c, void *user)
{
    struct actor *a = user;
    (void)c;
    enter();
    cr_assert(a->waits_drain && !a->closed && !a->cut);
    a->waits_drain = false;
    leave(a);
}

static void on_eof(struct sluice_conn *c, void *user)
{
    struct actor *a = user;
    (void)c;
    enter();
    cr_assert(!a->closed && !a->paused && !a->cut);
    cr_assert_eq(a->eofs++, 0);
    leave(a);
}

static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    struct actor *a = user;
    (void)c, (void)reason, (void)os_error;
    enter();
    if (a) {
        cr_assert_eq(a->closed++, 0);
        cr_assert(!a->sending, "what was in flight came back before");
        a->conn = NULL;
    }
    leave(NULL);
}

static void on_sent(struct sluice_send *send, int result)
{
    struct actor *a = SLUICE_CONTAINER_OF(send, struct actor, send);
    (void)result;
    enter();
    cr_assert(a->sending);
    a->sending = false;
    if (a->conn && roll(40) == 0) {
        sluice_conn_abort(a->conn);
        a->cut = true;
    }
    leave(a);
}

static const struct sluice_conn_events events = {.on_open = on_open,
                                                 .on_data = on_data,
                                                 .on_drain = on_drain,
                                                 .on_eof = on_eof,
                                                 .on_close = on_close};

/* ---- what a user may do ---- */

static void write_some(struct actor *a)
{
    size_t bytes = 1 + (size_t)roll(6000);
    int err = sluice_conn_write(a->conn, pattern + a->sent % PERIOD, bytes);
    a->waits_drain |= err == -EAGAIN;
    a->sent += err == 0 ? bytes : 0;
}

static void send_some(struct actor *a)
{
    if (a->sending)
        return;
    a->send = (struct sluice_send){
        .data = pattern + a->sent % PERIOD, .bytes = 1 + (size_t)roll(100000), .done = on_sent};
    a->sending = sluice_conn_send(a->conn, &a->send) == 0;
    a->sent += a->sending ? a->send.bytes : 0;
}

static void release_one(void)
{
    if (kept_count > 0)
        sluice_buf_release(kept[--kept_count]);
}

static void act(struct actor *a)
{
    switch (roll(14)) {
    default:
        write_some(a);
        break;
    case 6:
    case 7:
        send_some(a);
        break;
    case 8:
        sluice_conn_pause(a->conn);
        a->paused = true;
        break;
    case 9:
        sluice_conn_resume(a->conn);
        a->paused = false;
        break;
    case 10:
        release_one();
        break;
    case 11:
        if (roll(10) == 0)
            sluice_conn_shutdown(a->conn);
        break;
    case 12:
        if (roll(30) == 0) {
            sluice_conn_close(a->conn);
            a->cut = true;
        }
        break;
    case 13:
        if (roll(60) == 0) {
            sluice_conn_abort(a->conn);
            a->cut = true;
        }
        break;
    }
}

/* ---- one seed ---- */

static void turn(void)
{
    cr_assert_geq(sluice_loop_turn(loop), 0);
    sluice_sim_advance(loop->be, 20 * SLUICE_NS_PER_US);
    for (int i = 0; i < PAIRS; i++) {
        cr_assert_leq(actors[i].received, actors[PAIRS + i].sent);
        cr_assert_leq(actors[PAIRS + i].received, actors[i].sent);
    }
}

/* One of three has connections that break. */
static bool breaks(uint64_t seed)
{
    return seed % 3 == 0;
}

static void start(uint64_t seed)
{
    const struct sluice_loop_config cfg = {.close_timeout_ns = 50 * SLUICE_NS_PER_MS,
                                           .conns_max = 2 * PAIRS,
                                           .recv_bufs = 8,
                                           .recv_buf_bytes = 700,
                                           .send_queue_bytes = 8192};
    const struct sluice_listen_config at = {.url = "tcp://127.0.0.1:80", .events = &events};
    struct sluice_listener *listener;
    chance = seed;
    accepted = kept_count = 0;
    memset(actors, 0, sizeof(actors));
    cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &cfg, seed), 0);
    struct sluice_sim_faults faults = sluice_sim_faults_default;
    if (breaks(seed)) {
        faults.reset_ppm = 300;
        faults.enobufs_ppm = 300 * 1000;
    }
    sluice_sim_set_faults(loop->be, &faults);
    cr_assert_eq(sluice_listener_open(&listener, loop, &at, NULL, 0), 0);
    for (int i = 0; i < PAIRS; i++) { /* one after the other: who is whose peer is known */
        const struct sluice_connect_config to = {
            .url = at.url, .events = &events, .user = &actors[i]};
        actors[i].peer = &actors[PAIRS + i];
        actors[PAIRS + i].peer = &actors[i];
        cr_assert_eq(sluice_conn_connect(&actors[i].conn, loop, &to, NULL, 0), 0);
        for (int turns = 0; turns < 1000 && accepted == i; turns++)
            turn();
        cr_assert_eq(accepted, i + 1);
    }
}

static bool all_over(void)
{
    for (int i = 0; i < 2 * PAIRS; i++)
        if (actors[i].conn)
            return false;
    return true;
}

/* Everybody reads on and sends no more: it must come to an end by itself, with nothing lost between
 * two that both ended in order. */
static void finish(uint64_t seed)
{
    for (int turns = 0; turns < 200000 && !all_over(); turns++) {
        for (int i = 0; i < 2 * PAIRS; i++) {
            struct actor *a = &actors[i];
            if (!a->conn)
                continue;
            sluice_conn_resume(a->conn);
            a->paused = false;
            sluice_conn_shutdown(a->conn);
        }
        release_one();
        turn();
    }
    cr_assert(all_over(), "seed %lu: it does not end", (unsigned long)seed);
    while (kept_count > 0)
        release_one();
}

static void run(uint64_t seed)
{
    start(seed);
    for (int i = 0; i < STEPS; i++) {
        struct actor *a = &actors[roll(2 * PAIRS)];
        if (a->conn && a->opened)
            act(a);
        if (roll(3) == 0)
            turn();
    }
    finish(seed);
    for (int i = 0; i < 2 * PAIRS; i++) {
        const struct actor *a = &actors[i];
        cr_assert_eq(a->closed, 1);
        if (!a->cut && !a->peer->cut && !breaks(seed))
            cr_assert_eq(a->received, a->peer->sent, "all of it arrived");
    }
    turn();
    cr_assert_eq(loop->conns->used, 0);
    cr_assert_eq(loop->conns->leases[LEASE_WIRE].leased, 0);
    cr_assert_eq(loop->conns->queue_free_count, loop->conns->max);
    sluice_loop_destroy(loop);
}

Test(conn_seeds, what_users_may_do_at_any_moment)
{
    const char *one = getenv("SEED");
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = byte_at(i % PERIOD);
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t last = one ? first : is_long() ? 5000 : 150;
    for (uint64_t seed = first; seed <= last; seed++) {
        printf("seed %lu\n", (unsigned long)seed);
        run(seed);
    }
}
