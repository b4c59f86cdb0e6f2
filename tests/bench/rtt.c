/*
 * Figure: a 64-byte round trip over loopback TCP, the engine in line with its upstream in one busy
 * thread, the echo peer pinned to the other core and spinning. Reference: a bare io_uring loop,
 * one-shot or multishot, whichever is faster here. Beside it: recv, epoll, blocking recv.
 */
#include "bare.h"
#include "tcp.h"
#include "trips.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRIPS_MAX 6000
#define ROUNDS    45  /* many short ones: what disturbs this machine lasts longer than a round */
#define WARM      500 /* trips of each run that do not count */

static int trips;
static double ns[TRIPS_MAX];

/* ---- rounds ---- */

enum variant {
    OURS,
    OURS_ONE_SHOT,
    BARE_ONE_SHOT,
    BARE_MULTISHOT,
    RECV_SPIN,
    EPOLL_SPIN,
    RECV_BLOCKING,
    VARIANTS
};

static void (*const bare[VARIANTS])(int, int, double *) = {
    [BARE_ONE_SHOT] = bare_uring_one_shot, [BARE_MULTISHOT] = bare_uring_multishot,
    [RECV_SPIN] = bare_recv_spin,          [EPOLL_SPIN] = bare_epoll_spin,
    [RECV_BLOCKING] = bare_recv_blocking,
};

static const char *const texts[VARIANTS] = {
    [OURS] = "in line, busy (receive: auto)",
    [OURS_ONE_SHOT] = "in line, busy, receive: one-shot",
    [BARE_ONE_SHOT] = "bare io_uring, one-shot",
    [BARE_MULTISHOT] = "bare io_uring, multishot",
    [RECV_SPIN] = "spin on recv",
    [EPOLL_SPIN] = "spin on epoll_wait(0), then recv",
    [RECV_BLOCKING] = "blocking recv",
};

static double run(enum variant v, uint16_t port)
{
    if (bare[v]) {
        int fd = tcp_connect(port);
        bare[v](fd, trips, ns);
        close(fd);
    } else {
        const struct engine_config cfg = {.port = port,
                                          .idle = SLUICE_IDLE_BUSY,
                                          .receive = v == OURS ? SLUICE_RECEIVE_AUTO
                                                               : SLUICE_RECEIVE_ONE_SHOT};
        trips_in_line(&cfg, BARE_BYTES, trips, ns);
    }
    return bench_quantile(ns + WARM, (size_t)(trips - WARM), 0.5);
}

static double middle(const double *values)
{
    double copy[ROUNDS];
    memcpy(copy, values, sizeof(copy));
    return bench_quantile(copy, ROUNDS, 0.5);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    trips = bench_quick ? 2000 : TRIPS_MAX;
    uint16_t port;
    int listener = tcp_listen(&port);
    pthread_t echo = bench_start(tcp_echo, &listener);

    static double p50[VARIANTS][ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            p50[v][i] = run((enum variant)v, port);
        }
    }
    shutdown(listener, SHUT_RDWR);
    bench_join(echo);

    int best =
        middle(p50[BARE_ONE_SHOT]) <= middle(p50[BARE_MULTISHOT]) ? BARE_ONE_SHOT : BARE_MULTISHOT;
    bench_say_ratio(&(struct bench_ratio){.name = "round_trip",
                                          .ours_text = "64-byte round trip, in line, busy, p50",
                                          .reference_text = texts[best],
                                          .unit = "ns",
                                          .ours = p50[OURS],
                                          .reference = p50[best],
                                          .rounds = ROUNDS,
                                          .goal = BENCH_AT_MOST,
                                          .limit = 1.05});
    bench_say_ratio(&(struct bench_ratio){.name = "round_trip_one_shot",
                                          .ours_text = texts[OURS_ONE_SHOT],
                                          .reference_text = texts[best],
                                          .unit = "ns",
                                          .ours = p50[OURS_ONE_SHOT],
                                          .reference = p50[best],
                                          .rounds = ROUNDS,
                                          .goal = BENCH_NO_GOAL});
    for (int v = BARE_ONE_SHOT; v < VARIANTS; v++)
        bench_say_beside("round_trip_beside", texts[v], "ns", p50[v], ROUNDS);
    return 0;
}
