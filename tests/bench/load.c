/*
 * Figures: what sluice load itself costs. Its round trip against a bare io_uring ping-pong of the
 * same peer, its stream against iperf3's, and how much of a core its schedule takes at 100,000
 * messages a second. It runs as a process on the first core, its peer on the second.
 */
#include "bare.h"
#include "commands.h"
#include "tcp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS     BENCH_ROUNDS
#define TRIPS      4000
#define WARM       500
#define RATE_PER_S 100000
#define LATE_NS    1000000 /* as the load counts it */
#define MISSED_MAX 0.1     /* %: two gaps are never the same */

static double ns[TRIPS];
static char *tool; /* the sluice of this build */

/* ---- round trip and rate ---- */

static double bare(uint16_t port, void (*trip)(int, int, double *))
{
    int fd = tcp_connect(port);
    trip(fd, TRIPS, ns);
    close(fd);
    return bench_quantile(ns + WARM, TRIPS - WARM, 0.5);
}

static double load_rtt(uint16_t port)
{
    const char *said = command_output("%s load rtt tcp://127.0.0.1:%u --core %d --json --count %d "
                                      "--warmup 0.02 2>&1",
                                      tool, port, bench_cores[0], TRIPS);
    return command_number(said, "\"summary\"", "\"p50_ns\": ");
}

static void measure_rtt(uint16_t port)
{
    static double ours[ROUNDS], one[ROUNDS], multi[ROUNDS], best[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < 3; k++) {
            int v = bench_order(i, k, 3);
            if (v == 0)
                ours[i] = load_rtt(port);
            else if (v == 1)
                one[i] = bare(port, bare_uring_one_shot);
            else
                multi[i] = bare(port, bare_uring_multishot);
        }
        best[i] = one[i] < multi[i] ? one[i] : multi[i];
    }
    bench_say_ratio(&(struct bench_ratio){.name = "load_rtt",
                                          .ours_text = "sluice load rtt, 64 bytes, p50",
                                          .reference_text = "bare io_uring ping-pong",
                                          .unit = "ns",
                                          .ours = ours,
                                          .reference = best,
                                          .rounds = ROUNDS,
                                          .goal = BENCH_AT_MOST,
                                          .limit = 1.05});
}

static double measured_s(void)
{
    return bench_quick ? 0.2 : 0.5;
}

/* What a schedule that costs nothing would miss on this core now: the gaps in its spin. */
static double missed_by_spinning(void)
{
    const uint64_t length_ns = (uint64_t)(measured_s() * 1e9);
    const uint64_t period_ns = 1000000000 / RATE_PER_S;
    uint64_t start = sluice_cycles(), due_ns = 0, missed = 0;
    while (due_ns < length_ns) {
        uint64_t now_ns = sluice_cycles_to_ns(sluice_clock(), sluice_cycles() - start);
        for (; due_ns <= now_ns && due_ns < length_ns; due_ns += period_ns)
            missed += now_ns - due_ns > LATE_NS;
    }
    return 100 * (double)missed / (RATE_PER_S * measured_s());
}

static void measure_rate(uint16_t port)
{
    static double busy[ROUNDS], missed[ROUNDS], spinning[ROUNDS], more[ROUNDS], gaps[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        const char *said =
            command_output("%s load rate tcp://127.0.0.1:%u --core %d --json --rate %d "
                           "--depth 65536 --duration %g --warmup 0.1",
                           tool, port, bench_cores[0], RATE_PER_S, measured_s());
        double all = command_number(said, "\"summary\"", "\"duration_ns\": ");
        busy[i] = 100 * (1 - command_number(said, "\"summary\"", "\"idle_ns\": ") / all);
        missed[i] = 100 * command_number(said, "\"summary\"", "\"missed_messages\": ") /
                    (RATE_PER_S * measured_s());
        gaps[i] = command_number(said, "\"summary\"", "\"idle_gaps_before_per_s\": ");
        spinning[i] = missed_by_spinning();
        more[i] = missed[i] - spinning[i];
    }
    bench_say_beside("load_rate_late", "sent over 1 ms late at 100,000/s", "%", missed, ROUNDS);
    bench_say_beside("load_rate_spin", "late where nothing is sent, an empty spin", "%", spinning,
                     ROUNDS);
    bench_say_beside("load_rate_gaps", "gaps over 50 us of an empty spin", "gaps/s", gaps, ROUNDS);
    bench_say_count("load_rate_missed", "% sent late, beyond what gaps in an empty spin explain",
                    bench_quantile(more, ROUNDS, 0.5), MISSED_MAX);
    bench_say_count("load_rate", "busy with a schedule of 100,000/s, % of a core",
                    bench_quantile(busy, ROUNDS, 0.5), 50);
}

/* ---- stream ---- */

static double load_stream(void)
{
    char line[64], *argv[] = {tool,          "load",  "--serve", "sink", "tcp://127.0.0.1:0",
                              "--log-level", "error", NULL};
    FILE *out;
    pid_t pid = command_start(argv, &out);
    BENCH_CHECK(fgets(line, sizeof(line), out));
    const char *said =
        command_output("%s load stream tcp://127.0.0.1:%d --core %d --json --size 128K "
                       "--duration %g --warmup 0.1",
                       tool, atoi(line), bench_cores[0], measured_s());
    double rate = command_number(said, "\"summary\"", "\"sent_bytes\": ") /
                  command_number(said, "\"summary\"", "\"duration_ns\": ") * 1e3;
    kill(pid, SIGTERM);
    command_wait(pid, out);
    return rate;
}

static double iperf3_stream(void)
{
    char port[8], *argv[] = {"iperf3", "-s", "-1", "-p", port, NULL};
    const char *said = "";
    FILE *out;
    snprintf(port, sizeof(port), "%u", command_free_port());
    pid_t pid = command_start(argv, &out);
    /* Until it listens: a client that cannot connect says so in JSON, and ends with 0. */
    for (int tries = 0; !strstr(said, "\"sum_sent\"") && tries < 100; tries++) {
        usleep(20000);
        said = command_output("taskset -c %d iperf3 -c 127.0.0.1 -p %s %s -J 2>&1", bench_cores[0],
                              port, bench_quick ? "-n 500M" : "-t 1");
    }
    double rate = command_number(said, "\"sum_sent\"", "\"bits_per_second\":") / 8e6;
    command_wait(pid, out); /* -1: one client only */
    return rate;
}

static void measure_stream(void)
{
    static double ours[ROUNDS], theirs[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < 2; k++) {
            if (bench_order(i, k, 2) == 0)
                ours[i] = load_stream();
            else
                theirs[i] = iperf3_stream();
        }
    }
    bench_say_ratio(&(struct bench_ratio){.name = "load_stream",
                                          .ours_text = "sluice load stream, one, 128 KiB",
                                          .reference_text = "iperf3, one stream",
                                          .unit = "MB/s",
                                          .ours = ours,
                                          .reference = theirs,
                                          .rounds = ROUNDS,
                                          .goal = BENCH_AT_LEAST,
                                          .limit = 0.95});
}

int main(int argc, char **argv)
{
    uint16_t port;
    bench_begin(argc, argv);
    tool = strdup(command_sluice());
    int listener = tcp_listen(&port);
    pthread_t echo = bench_start(tcp_echo, &listener);
    measure_rtt(port);
    measure_rate(port);
    shutdown(listener, SHUT_RDWR); /* its spin would take the stream's core */
    bench_join(echo);
    measure_stream();
    return 0;
}
