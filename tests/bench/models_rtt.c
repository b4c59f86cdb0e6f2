/*
 * Figures: a 64-byte round trip from an upstream on a thread of its own through the threaded models
 * to an echo peer that spins on the other core, everybody else asleep on one core. References:
 * bare relays of the same shape. Beside them: one thread, and threads on io_uring.
 */
#include "bare_tls.h"
#include "relay.h"
#include "tcp.h"
#include "whole.h"

#include <string.h>
#include <sys/socket.h>

#define TRIPS_MAX 2000
#define ROUNDS    45  /* as in rtt.c */
#define WARM      200 /* trips of each run that do not count */

static int trips;
static double ns[TRIPS_MAX];

enum variant {
    TWO_EV,
    RELAY_TWO,
    SINGLE_URING,
    TWO_URING,
    THREE_EV,
    RELAY_THREE,
    TLS_SINGLE_URING,
    THREE_AUTO,
    VARIANTS
};

static const char *const texts[VARIANTS] = {
    [TWO_EV] = "64-byte round trip, two-thread on ev, asleep, p50",
    [RELAY_TWO] = "bare relay of two threads",
    [SINGLE_URING] = "single on uring",
    [TWO_URING] = "two-thread on uring",
    [THREE_EV] = "64-byte round trip over TLS, three-thread on ev, asleep, p50",
    [RELAY_THREE] = "bare relay of three threads",
    [TLS_SINGLE_URING] = "TLS, single on uring",
    [THREE_AUTO] = "64-byte round trip over TLS, three-thread as auto has it (uring, sockets on "
                   "ev), asleep, p50",
};

/* ---- the upstream ---- */

static void *upstream(void *arg)
{
    struct sluice_client *c = arg;
    BENCH_CHECK(sluice_client_wait_ready(c, SLUICE_READY_TLS | SLUICE_READY_TCP, -1) == 0);
    for (int i = 0; i < trips; i++) {
        void *room;
        uint64_t start = sluice_cycles();
        BENCH_CHECK(sluice_outbox_claim(c, RELAY_BYTES, &room) == 0);
        memset(room, i, RELAY_BYTES);
        sluice_outbox_commit(c, 0, SLUICE_MESSAGE_DATA);
        for (uint64_t got = 0; got < RELAY_BYTES; got += engine_take(c))
            BENCH_CHECK(sluice_client_wait(c, SLUICE_WAIT_INBOX, -1) > 0);
        ns[i] = bench_ns(sluice_cycles() - start);
    }
    BENCH_CHECK(sluice_client_request_close(c) == 0);
    return NULL;
}

/* ---- rounds ---- */

static double run(int v, uint16_t port, uint16_t tls_port)
{
    bool tls = v >= THREE_EV;
    const struct engine_config cfg = {
        .port = tls ? tls_port : port,
        .backend = v == TWO_EV || v == THREE_EV ? "ev"
                   : v == THREE_AUTO            ? "auto"
                                                : "uring",
        .idle = SLUICE_IDLE_SLEEP,
        .tls = tls ? &bare_tls_config : NULL,
        .ktls = SLUICE_KTLS_OFF,
        .model = v == TWO_EV || v == TWO_URING      ? SLUICE_MODEL_TWO_THREAD
                 : v == THREE_EV || v == THREE_AUTO ? SLUICE_MODEL_THREE_THREAD
                                                    : SLUICE_MODEL_SINGLE,
        .upstream = upstream,
    };
    struct engine_end end;
    if (v == RELAY_TWO)
        relay_two(tcp_connect(port), trips, ns);
    else if (v == RELAY_THREE)
        relay_three(bare_tls_connect(tls_port), trips, ns);
    else
        engine_run(&cfg, &end);
    return bench_quantile(ns + WARM, (size_t)(trips - WARM), 0.5);
}

static double p50[VARIANTS][ROUNDS];

static void say(const char *name, int ours, int reference)
{
    bench_say_ratio(&(struct bench_ratio){.name = name,
                                          .ours_text = texts[ours],
                                          .reference_text = texts[reference],
                                          .unit = "ns",
                                          .ours = p50[ours],
                                          .reference = p50[reference],
                                          .rounds = ROUNDS,
                                          .goal = BENCH_AT_MOST,
                                          .limit = 1.10});
}

static void beside(int v)
{
    bench_say_beside("models_round_trip_beside", texts[v], "ns", p50[v], ROUNDS);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bare_tls_begin();
    trips = bench_quick ? 700 : TRIPS_MAX;
    uint16_t port, tls_port;
    int listener = tcp_listen(&port), tls_listener = tcp_listen(&tls_port);
    pthread_t echo = bench_start(tcp_echo, &listener);
    pthread_t tls_echo = bench_start(bare_tls_echo, &tls_listener);
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            p50[v][i] = run(v, port, tls_port);
        }
    }
    shutdown(listener, SHUT_RDWR);
    shutdown(tls_listener, SHUT_RDWR);
    bench_join(echo);
    bench_join(tls_echo);
    say("two_thread_round_trip", TWO_EV, RELAY_TWO);
    say("three_thread_round_trip", THREE_EV, RELAY_THREE);
    say("three_thread_auto_round_trip", THREE_AUTO, RELAY_THREE);
    beside(SINGLE_URING);
    beside(TWO_URING);
    beside(TLS_SINGLE_URING);
    return 0;
}
