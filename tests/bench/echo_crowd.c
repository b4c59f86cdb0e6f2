/*
 * Echo servers with 10,000 connections of which 100 are active, at a fixed rate: their tail against
 * that with these 100 alone, and what an idle connection costs. And how fast they accept.
 */
#include "echo_clients.h"
#include "echo_servers.h"

#include <stdio.h>

#define CROWD        10000u
#define ACTIVE       100u
#define BYTES        64u
#define PER_S        10000u
#define BURST        200u /* connections opened before the first of them is served */
#define OURS_MAX     1024 /* bytes of memory per idle connection */
#define FILES_WANTED 12000u

static double crowd_p99s[ECHO_SERVERS][BENCH_ROUNDS], alone_p99s[ECHO_SERVERS][BENCH_ROUNDS];
static double bytes_per_idle[ECHO_SERVERS];
static struct echo_values accepts, accept_cores;

/* Two servers of a kind: what one allocated for so many connections beforehand counts too. */
static void measure(int which)
{
    uint64_t window_ns = bench_quick ? 40000000 : 200000000;
    struct echo_server alone = echo_start(which, BYTES, ACTIVE);
    struct echo_server crowd = echo_start(which, BYTES, CROWD + BURST);
    struct clients *few = clients_open(alone.port, ACTIVE, BYTES);
    struct clients *active = clients_open(crowd.port, ACTIVE, BYTES);
    struct clients_idle idle = clients_hold_idle(crowd.port, CROWD - ACTIVE);
    bytes_per_idle[which] =
        (echo_resident_bytes(&crowd) - echo_resident_bytes(&alone)) / (CROWD - ACTIVE);
    for (int round = 0; round < BENCH_ROUNDS; round++) {
        for (int k = 0; k < 2; k++) {
            bool is_crowd = bench_order(round, k, 2);
            struct clients_seen seen = clients_run_paced(is_crowd ? active : few, window_ns, PER_S);
            (is_crowd ? crowd_p99s : alone_p99s)[which][round] = seen.p99_us;
        }
    }
    clients_end_idle(&idle);
    clients_close(active);
    clients_close(few);
    echo_stop(&alone);
    echo_stop(&crowd);
}

static void accept_window(int which, int round, const struct echo_server *server)
{
    double window_ns = bench_quick ? 20e6 : 100e6, core_ns = echo_core_ns(server), ns;
    uint64_t start = sluice_cycles(), done = 0;
    do {
        clients_come_and_go(server->port, BURST);
        done += BURST;
        ns = bench_ns(sluice_cycles() - start);
    } while (ns < window_ns);
    accepts.of[which][round] = (double)done * 1e6 / ns;
    accept_cores.of[which][round] = (echo_core_ns(server) - core_ns) / (double)done;
}

/* The clients' core is the busier one here: the servers' core time tells more than the rate. */
static void measure_accepts(void)
{
    struct echo_server servers[ECHO_SERVERS];
    for (int i = 0; i < ECHO_SERVERS; i++)
        servers[i] = echo_start(i, BYTES, 2 * BURST);
    for (int round = 0; round < BENCH_ROUNDS; round++) {
        for (int k = 0; k < ECHO_SERVERS; k++) {
            int i = bench_order(round, k, ECHO_SERVERS);
            accept_window(i, round, &servers[i]);
        }
    }
    for (int i = 0; i < ECHO_SERVERS; i++)
        echo_stop(&servers[i]);
}

int main(int argc, char **argv)
{
    char text[128];
    bench_begin(argc, argv);
    clients_want_files(FILES_WANTED);
    bench_pin(1);
    for (int i = 0; i < ECHO_SERVERS; i++) {
        measure(i);
        snprintf(text, sizeof(text), "%s, 10000 connections, 100 active: p99", echo_texts[i]);
        bench_say_ratio(&(struct bench_ratio){
            .name = i == ECHO_SLUICE ? "echo_crowd_p99" : "echo_crowd_p99_beside",
            .ours_text = text,
            .reference_text = "100 alone",
            .unit = "us",
            .ours = crowd_p99s[i],
            .reference = alone_p99s[i],
            .rounds = BENCH_ROUNDS,
            .goal = i == ECHO_SLUICE ? BENCH_AT_MOST : BENCH_NO_GOAL,
            .limit = i == ECHO_SLUICE ? 1.2 : 0});
    }
    bench_say_count("echo_idle_bytes", "bytes per idle connection: sluice",
                    bytes_per_idle[ECHO_SLUICE], OURS_MAX);
    const double *columns[ECHO_SERVERS];
    for (int i = 0; i < ECHO_SERVERS; i++)
        columns[i] = &bytes_per_idle[i];
    bench_say_field("echo_idle_bytes", "bytes per idle connection", "", ECHO_SERVERS, echo_texts,
                    columns, 1);
    measure_accepts();
    echo_say("echo_accept", "connections accepted and served", "k/s", &accepts, BENCH_AT_LEAST, 1.0,
             true);
    echo_say("echo_accept_core", "a connection's core time", "ns", &accept_cores, BENCH_NO_GOAL, 0,
             false);
    return 0;
}
