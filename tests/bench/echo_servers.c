/*
 * Echo servers, started, stopped and compared: see echo_servers.h.
 */
#include "echo_servers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[ECHO_SERVERS] = {"sluice", "libuv", "libevent",
                                                "asio",   "epoll", "uring"};
const char *const echo_texts[ECHO_SERVERS] = {"sluice", "libuv",      "libevent",
                                              "Asio",   "bare epoll", "bare io_uring"};

/* ---- processes ---- */

/* Twice the message: a buffer that is just filled makes some libraries look for more at once. */
void echo_become(const char *name, uint32_t message_bytes, uint32_t conns_max, int out)
{
    char path[4096], buffer[16], conns[16];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
    BENCH_CHECK(n > 0 && dup2(out, STDOUT_FILENO) >= 0);
    path[n] = '\0';
    snprintf(strrchr(path, '/') + 1, 60, "echo-%s", name);
    snprintf(buffer, sizeof(buffer), "%u", 2 * message_bytes);
    snprintf(conns, sizeof(conns), "%u", conns_max);
    execl(path, path, buffer, conns, (char *)NULL);
    bench_fail("%s: %s: tools/setup bench installs what building it needs", path, strerror(errno));
}

struct echo_server echo_start(int which, uint32_t message_bytes, uint32_t conns_max)
{
    struct echo_server server = {0};
    char line[16] = "";
    int ends[2];
    BENCH_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    server.pid = fork();
    BENCH_CHECK(server.pid >= 0);
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        bench_pin(0);
        echo_become(names[which], message_bytes, conns_max, ends[1]);
    }
    close(ends[1]);
    if (read(ends[0], line, sizeof(line) - 1) <= 0)
        bench_fail("the echo server on %s did not start", echo_texts[which]);
    close(ends[0]);
    server.port = (uint16_t)strtoul(line, NULL, 10);
    return server;
}

void echo_stop(const struct echo_server *server)
{
    int status;
    BENCH_CHECK(kill(server->pid, SIGTERM) == 0);
    BENCH_CHECK(waitpid(server->pid, &status, 0) == server->pid && status == 0);
}

double echo_core_ns(const struct echo_server *server)
{
    char path[64];
    double ns = 0;
    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)server->pid);
    FILE *file = fopen(path, "re");
    BENCH_CHECK(file != NULL && fscanf(file, "%lf", &ns) == 1);
    fclose(file);
    return ns;
}

double echo_resident_bytes(const struct echo_server *server)
{
    char path[64], line[256];
    double kib = -1;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)server->pid);
    FILE *file = fopen(path, "re");
    BENCH_CHECK(file != NULL);
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtod(line + 6, NULL);
    fclose(file);
    BENCH_CHECK(kib > 0);
    return kib * 1024;
}

/* ---- comparison ---- */

static double middle(const double *values)
{
    double sorted[BENCH_ROUNDS];
    memcpy(sorted, values, sizeof(sorted));
    return bench_quantile(sorted, BENCH_ROUNDS, 0.5);
}

/* Which of those from first to end - 1 has the best median. */
static int best_of(const struct echo_values *values, int first, int end, bool more_is_better)
{
    int best = first;
    for (int i = first + 1; i < end; i++)
        if ((middle(values->of[i]) > middle(values->of[best])) == more_is_better)
            best = i;
    return best;
}

static void say_ratio(const char *name, const char *text, const char *unit,
                      const struct echo_values *values, int best, enum bench_goal goal,
                      double limit)
{
    char ours_text[128];
    snprintf(ours_text, sizeof(ours_text), "%s: sluice", text);
    bench_say_ratio(&(struct bench_ratio){.name = name,
                                          .ours_text = ours_text,
                                          .reference_text = echo_texts[best],
                                          .unit = unit,
                                          .ours = values->of[ECHO_SLUICE],
                                          .reference = values->of[best],
                                          .rounds = BENCH_ROUNDS,
                                          .goal = goal,
                                          .limit = limit});
}

void echo_say(const char *name, const char *text, const char *unit,
              const struct echo_values *values, enum bench_goal goal, double limit,
              bool more_is_better)
{
    char bare_name[64];
    snprintf(bare_name, sizeof(bare_name), "%s_bare", name);
    say_ratio(name, text, unit, values,
              best_of(values, ECHO_FIRST_PEER, ECHO_FIRST_BARE, more_is_better), goal, limit);
    say_ratio(bare_name, text, unit, values,
              best_of(values, ECHO_FIRST_BARE, ECHO_SERVERS, more_is_better), BENCH_NO_GOAL, 0);
    echo_say_field(name, text, unit, values);
}

void echo_say_field(const char *name, const char *text, const char *unit,
                    const struct echo_values *values)
{
    const double *columns[ECHO_SERVERS];
    for (int i = 0; i < ECHO_SERVERS; i++)
        columns[i] = values->of[i];
    bench_say_field(name, text, unit, ECHO_SERVERS, echo_texts, columns, BENCH_ROUNDS);
}
