/*
 * Echo servers compared: requests each second and their latency, with the server on one core and
 * all its clients on the other. Of each shape all servers are there at once, and asleep but one.
 */
#include "echo_clients.h"
#include "echo_servers.h"

#include <stdio.h>

static const struct shape {
    uint32_t conns, bytes;
    enum bench_goal goal;
    double rate_limit; /* sluice / best peer */
} shapes[] = {{1, 64, BENCH_AT_LEAST_WITHIN, 1.0},
              {50, 64, BENCH_AT_LEAST, 1.1},
              {1000, 64, BENCH_AT_LEAST_WITHIN, 1.0},
              {50, 4096, BENCH_AT_LEAST_WITHIN, 1.0},
              {50, 16384, BENCH_AT_LEAST_WITHIN, 1.0}};

static uint64_t window_ns;

/* What is measured in each window. */
enum { RATE, P99, P50, CORE, MEASURES };

static const struct measure {
    const char *name, *text, *unit;
    enum bench_goal goal;
    bool more_is_better;
} measures[MEASURES] = {
    [RATE] = {"", "", "k/s", BENCH_NO_GOAL, true},                /* the shape has it */
    [P99] = {"_p99", ", p99", "us", BENCH_AT_MOST_WITHIN, false}, /* no worse */
    [P50] = {"_p50", ", p50", "us", BENCH_NO_GOAL, false},
    [CORE] = {"_core", ", core time each", "ns", BENCH_NO_GOAL, false},
};

static struct echo_values values[MEASURES];

static void run_window(int which, int round, struct clients *c, const struct echo_server *server)
{
    double before = echo_core_ns(server);
    struct clients_seen seen = clients_run(c, window_ns);
    values[RATE].of[which][round] = seen.per_s / 1e3;
    values[P99].of[which][round] = seen.p99_us;
    values[P50].of[which][round] = seen.p50_us;
    values[CORE].of[which][round] = (echo_core_ns(server) - before) / (double)seen.answered;
}

static void run_rounds(const struct shape *shape)
{
    struct echo_server servers[ECHO_SERVERS];
    struct clients *clients[ECHO_SERVERS];
    for (int i = 0; i < ECHO_SERVERS; i++) {
        servers[i] = echo_start(i, shape->bytes, shape->conns);
        clients[i] = clients_open(servers[i].port, shape->conns, shape->bytes);
        clients_run(clients[i], window_ns / 4);
    }
    for (int round = 0; round < BENCH_ROUNDS; round++) {
        for (int k = 0; k < ECHO_SERVERS; k++) {
            int i = bench_order(round, k, ECHO_SERVERS);
            run_window(i, round, clients[i], &servers[i]);
        }
    }
    for (int i = 0; i < ECHO_SERVERS; i++) {
        clients_close(clients[i]);
        echo_stop(&servers[i]);
    }
}

static void compare(const struct shape *shape)
{
    run_rounds(shape);
    for (int i = 0; i < MEASURES; i++) {
        const struct measure *m = &measures[i];
        char name[64], text[64];
        snprintf(name, sizeof(name), "echo_%ux%u%s", shape->conns, shape->bytes, m->name);
        snprintf(text, sizeof(text), "echo, %u x %u bytes%s", shape->conns, shape->bytes, m->text);
        echo_say(name, text, m->unit, &values[i], i == RATE ? shape->goal : m->goal,
                 i == RATE ? shape->rate_limit : 1.0, m->more_is_better);
    }
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    clients_want_files(4096);
    window_ns = bench_quick ? 40000000 : 200000000;
    bench_pin(1);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        compare(&shapes[i]);
    return 0;
}
