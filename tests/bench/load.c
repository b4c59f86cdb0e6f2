/*
 * Figures: what sluice load itself costs. Its round trip against a bare io_uring ping-pong of the
 * same peer, its stream against iperf3's, and how much of a core its schedule takes at 100,000
 * messages a second. It runs as a process on the first core, its peer on the second.
 */
#include "bare.h"
#include "tcp.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS     BENCH_ROUNDS
#define TRIPS      4000
#define WARM       500
#define RATE       "100000"
#define LINE_BYTES 65536

static double ns[TRIPS];
static char tool[512]; /* the sluice of this build */

/* ---- processes ---- */

static void find_tool(void)
{
    ssize_t n = readlink("/proc/self/exe", tool, sizeof(tool) - 1);
    char *end = n > 0 ? (tool[n] = 0, strstr(tool, "/tests/")) : NULL;
    BENCH_CHECK(end && strlen("/tools/sluice") < sizeof(tool) - (size_t)(end - tool));
    memcpy(end, "/tools/sluice", sizeof("/tools/sluice"));
}

static FILE *start(const char *format, va_list ap)
{
    char command[1024];
    vsnprintf(command, sizeof(command), format, ap);
    FILE *out = popen(command, "r");
    BENCH_CHECK(out);
    return out;
}

/* Runs it to its end; what it printed last (all of it, with lines joined) stays until the next. */
static const char *output_of(const char *format, ...)
{
    static char text[LINE_BYTES];
    va_list ap;
    va_start(ap, format);
    FILE *out = start(format, ap);
    va_end(ap);
    size_t n = fread(text, 1, sizeof(text) - 1, out);
    text[n] = 0;
    return pclose(out) == 0 ? text : "";
}

/* The number behind a key, behind a mark. */
static double number(const char *text, const char *mark, const char *key)
{
    const char *at = strstr(text, mark);
    at = at ? strstr(at, key) : NULL;
    if (!at)
        bench_fail("%s %s is not in what it said: %.200s", mark, key, text);
    return strtod(at + strlen(key), NULL);
}

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
    const char *said = output_of("%s load rtt tcp://127.0.0.1:%u --core %d --json --count %d "
                                 "--warmup 0.02 2>&1",
                                 tool, port, bench_cores[0], TRIPS);
    return number(said, "\"summary\"", "\"p50_ns\": ");
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

static void measure_rate(uint16_t port)
{
    static double busy[ROUNDS], missed[ROUNDS], gaps[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        const char *said = output_of("%s load rate tcp://127.0.0.1:%u --core %d --json --rate " RATE
                                     " --depth 4096 --duration 0.5 --warmup 0.1",
                                     tool, port, bench_cores[0]);
        double all = number(said, "\"summary\"", "\"duration_ns\": ");
        busy[i] = 100 * (1 - number(said, "\"summary\"", "\"idle_ns\": ") / all);
        missed[i] = number(said, "\"summary\"", "\"missed_messages\": ");
        gaps[i] = number(said, "\"summary\"", "\"idle_gaps_before_per_s\": ");
    }
    bench_say_beside("load_rate_missed", "messages over 1 ms late, in 0.5 s at " RATE "/s",
                     "messages", missed, ROUNDS);
    bench_say_beside("load_rate_gaps", "gaps over 50 us of an empty spin", "gaps/s", gaps, ROUNDS);
    bench_say_count("load_rate", "busy with a schedule of " RATE "/s, % of a core",
                    bench_quantile(busy, ROUNDS, 0.5), 50);
}

/* ---- stream ---- */

static pid_t start_peer(char *const argv[], FILE **out)
{
    int pipe_fds[2];
    BENCH_CHECK(pipe(pipe_fds) == 0);
    pid_t pid = fork();
    BENCH_CHECK(pid >= 0);
    if (pid == 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)bench_cores[1], &set);
        sched_setaffinity(0, sizeof(set), &set);
        dup2(pipe_fds[1], STDOUT_FILENO);
        close(pipe_fds[0]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(pipe_fds[1]);
    *out = fdopen(pipe_fds[0], "r");
    BENCH_CHECK(*out);
    return pid;
}

static void wait_peer(pid_t pid, FILE *out)
{
    waitpid(pid, NULL, 0);
    fclose(out);
}

static double load_stream(void)
{
    char line[64], *argv[] = {tool,          "load",  "--serve", "sink", "tcp://127.0.0.1:0",
                              "--log-level", "error", NULL};
    FILE *out;
    pid_t pid = start_peer(argv, &out);
    BENCH_CHECK(fgets(line, sizeof(line), out));
    const char *said = output_of("%s load stream tcp://127.0.0.1:%d --core %d --json --size 128K "
                                 "--duration 0.5 --warmup 0.1",
                                 tool, atoi(line), bench_cores[0]);
    double rate = number(said, "\"summary\"", "\"sent_bytes\": ") /
                  number(said, "\"summary\"", "\"duration_ns\": ") * 1e3;
    kill(pid, SIGTERM);
    wait_peer(pid, out);
    return rate;
}

/* A port that nobody has; iperf3 takes no 0. */
static uint16_t free_port(void)
{
    uint16_t port;
    close(tcp_listen(&port));
    return port;
}

static double iperf3_stream(void)
{
    char port[8], *argv[] = {"iperf3", "-s", "-1", "-p", port, NULL};
    const char *said = "";
    FILE *out;
    snprintf(port, sizeof(port), "%u", free_port());
    pid_t pid = start_peer(argv, &out);
    for (int tries = 0; !said[0] && tries < 100; tries++) { /* until it listens */
        usleep(20000);
        said = output_of("iperf3 -c 127.0.0.1 -p %s -t 1 -J 2>&1", port);
    }
    double rate = number(said, "\"sum_sent\"", "\"bits_per_second\":") / 8e6;
    wait_peer(pid, out); /* -1: one client only */
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
    find_tool();
    int listener = tcp_listen(&port);
    pthread_t echo = bench_start(tcp_echo, &listener);
    measure_rtt(port);
    measure_rate(port);
    shutdown(listener, SHUT_RDWR); /* its spin would take the stream's core */
    bench_join(echo);
    measure_stream();
    return 0;
}
