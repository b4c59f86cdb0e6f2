/*
 * Beside the figures: round trips as other tools see them, each with its usual pair. sockperf with
 * its own server, 64 bytes over TCP; wrk with a server that spins and answers at once, as ours does
 * to sluice load.
 */
#include "commands.h"
#include "tcp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS 5

static int rounds;

/* ---- sockperf ---- */

static double sockperf_rtt(void)
{
    char port[8], *argv[] = {"sockperf", "server", "--tcp", "-i", "127.0.0.1", "-p", port, NULL};
    const char *said = "";
    FILE *out;
    snprintf(port, sizeof(port), "%u", command_free_port());
    pid_t pid = command_start(argv, &out);
    for (int tries = 0; !said[0] && tries < 20; tries++) { /* until it listens */
        usleep(100000);
        said =
            command_output("taskset -c %d sockperf ping-pong --tcp -i 127.0.0.1 -p %s -m 64 -t 1 "
                           "--full-rtt 2>&1",
                           bench_cores[0], port);
    }
    kill(pid, SIGTERM);
    command_wait(pid, out);
    return 1000 * command_number(said, "percentile 50", "=");
}

/* ---- wrk ---- */

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static void answer_requests(int fd)
{
    char request[4096];
    for (;;) {
        ssize_t n = recv(fd, request, sizeof(request), MSG_DONTWAIT);
        if (n > 0)
            tcp_send_all(fd, answer, sizeof(answer) - 1);
        else if (n == 0)
            return;
    }
}

static void *serve_http(void *listener)
{
    for (int fd; (fd = accept(*(int *)listener, NULL, NULL)) >= 0; close(fd)) {
        tcp_set_nodelay(fd);
        answer_requests(fd);
    }
    return NULL;
}

static double wrk_rtt(uint16_t port)
{
    const char *said = command_output("taskset -c %d wrk -t 1 -c 1 -d 1s --latency "
                                      "http://127.0.0.1:%u/ 2>&1",
                                      bench_cores[0], port);
    const char *at = strstr(said, "50%");
    char *unit;
    if (!at)
        bench_fail("no 50%% in what wrk said (is it there? tools/setup bench): %.200s", said);
    double p50 = strtod(at + strlen("50%"), &unit);
    return p50 * (*unit == 'u' ? 1e3 : *unit == 'm' ? 1e6 : 1e9);
}

int main(int argc, char **argv)
{
    static double sockperf[ROUNDS], wrk[ROUNDS];
    uint16_t port;
    bench_begin(argc, argv);
    rounds = bench_quick ? 2 : ROUNDS;
    for (int i = 0; i < rounds; i++)
        sockperf[i] = sockperf_rtt();
    int listener = tcp_listen(&port);
    pthread_t server = bench_start(serve_http, &listener);
    for (int i = 0; i < rounds; i++)
        wrk[i] = wrk_rtt(port);
    shutdown(listener, SHUT_RDWR);
    bench_join(server);
    bench_say_beside("others_sockperf", "sockperf, its own pair, 64 bytes over TCP, p50", "ns",
                     sockperf, rounds);
    bench_say_beside("others_wrk", "wrk, one connection, a server that spins, p50", "ns", wrk,
                     rounds);
    return 0;
}
