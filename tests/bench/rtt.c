/*
 * Figure: a 64-byte round trip over loopback TCP, the engine in line with its upstream in one busy
 * thread, the echo peer pinned to the other core and spinning. Reference: a bare io_uring loop,
 * one-shot or multishot, whichever is faster here; of the tail the better of two bare loops that
 * spin on recv and on epoll. Beside it: all of them, and a blocking recv.
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
#define SPIN_NS   20e6
#define GAP_NS    50e3

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

enum point { P50, P75, P90, P95, P99, P99_5, P99_9, POINTS };

static const double percents[POINTS] = {50, 75, 90, 95, 99, 99.5, 99.9};

static double of[POINTS][VARIANTS][ROUNDS];

static void run(enum variant v, int round, uint16_t port)
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
    for (int p = 0; p < POINTS; p++)
        of[p][v][round] = bench_quantile(ns + WARM, (size_t)(trips - WARM), percents[p] / 100);
}

/* Per second, how often an empty spin on this core is away for more than 50 us: the tail's share
 * that nobody can help. */
static double count_gaps(void)
{
    uint64_t begin = sluice_cycles(), last = begin, now = begin, gaps = 0;
    for (; bench_ns(now - begin) < SPIN_NS; last = now) {
        now = sluice_cycles();
        gaps += bench_ns(now - last) > GAP_NS;
    }
    return (double)gaps * 1e9 / SPIN_NS;
}

static double middle(const double *values)
{
    double copy[ROUNDS];
    memcpy(copy, values, sizeof(copy));
    return bench_quantile(copy, ROUNDS, 0.5);
}

static int better(enum point p, int a, int b)
{
    return middle(of[p][a]) <= middle(of[p][b]) ? a : b;
}

static void say(const char *name, const char *text, int ours, int reference, enum point p,
                enum bench_goal goal, double limit)
{
    bench_say_ratio(&(struct bench_ratio){.name = name,
                                          .ours_text = text,
                                          .reference_text = texts[reference],
                                          .unit = "ns",
                                          .ours = of[p][ours],
                                          .reference = of[p][reference],
                                          .rounds = ROUNDS,
                                          .goal = goal,
                                          .limit = limit});
}

static void say_curve(int ours, int ring, int spin)
{
    const int shown[] = {ours, ring, spin};
    const char *names[3];
    static double medians[3][POINTS];
    const double *values[3];
    for (int i = 0; i < 3; i++) {
        for (int p = 0; p < POINTS; p++)
            medians[i][p] = middle(of[p][shown[i]]);
        names[i] = texts[shown[i]];
        values[i] = medians[i];
    }
    bench_say_curve("round_trip_curve", "64-byte round trip", "ns", POINTS, percents, 3, names,
                    values);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    trips = bench_quick ? 2000 : TRIPS_MAX;
    uint16_t port;
    int listener = tcp_listen(&port);
    pthread_t echo = bench_start(tcp_echo, &listener);

    static double gaps[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++)
            run((enum variant)bench_order(i, k, VARIANTS), i, port);
        gaps[i] = count_gaps();
    }
    shutdown(listener, SHUT_RDWR);
    bench_join(echo);

    int ring = better(P50, BARE_ONE_SHOT, BARE_MULTISHOT);
    int spin = better(P99, RECV_SPIN, EPOLL_SPIN);
    say("round_trip", "64-byte round trip, in line, busy, p50", OURS, ring, P50, BENCH_AT_MOST,
        1.03);
    say("round_trip_one_shot", texts[OURS_ONE_SHOT], OURS_ONE_SHOT, ring, P50, BENCH_NO_GOAL, 0);
    say("round_trip_p99", "the same, p99", OURS, spin, P99, BENCH_AT_MOST, 1.0);
    say("round_trip_p99_9", "the same, p99.9", OURS, spin, P99_9, BENCH_NO_GOAL, 0);
    say_curve(OURS, ring, spin);
    bench_say_beside("round_trip_gaps", "gaps over 50 us of an empty spin", "gaps/s", gaps, ROUNDS);
    for (int v = BARE_ONE_SHOT; v < VARIANTS; v++)
        bench_say_beside("round_trip_beside", texts[v], "ns", of[P50][v], ROUNDS);
    return 0;
}
