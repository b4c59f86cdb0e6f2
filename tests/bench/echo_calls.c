/*
 * System calls of echo servers per echoed message, at 1,000 busy connections: the kernel counts
 * them at the tracepoint of their entry, which does not change how the server batches, as ptrace
 * would. Needs root.
 */
#include "echo_clients.h"
#include "echo_servers.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONNS 1000u
#define BYTES 64u

static uint64_t tracepoint(void)
{
    static const char *const places[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        unsigned long long id = 0;
        snprintf(path, sizeof(path), "%s/events/raw_syscalls/sys_enter/id", places[i]);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        bool is_there = fscanf(file, "%llu", &id) == 1;
        fclose(file);
        if (is_there)
            return id;
    }
    bench_fail("system calls cannot be counted: %s: run as root, with tracefs mounted at %s",
               strerror(errno), places[0]);
}

static int count_calls_of(pid_t pid)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .config = tracepoint(), .inherit = 1};
    long fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        bench_fail("system calls cannot be counted: perf_event_open: %s: run as root",
                   strerror(errno));
    return (int)fd;
}

static uint64_t calls_so_far(int fd)
{
    uint64_t count;
    BENCH_CHECK(read(fd, &count, sizeof(count)) == sizeof(count));
    return count;
}

int main(int argc, char **argv)
{
    static struct echo_values per_message;
    bench_begin(argc, argv);
    clients_want_files(4096);
    bench_pin(1);
    for (int i = 0; i < ECHO_SERVERS; i++) {
        struct echo_server server = echo_start(i, BYTES, CONNS);
        int counter = count_calls_of(server.pid);
        struct clients *clients = clients_open(server.port, CONNS, BYTES);
        for (int round = 0; round < BENCH_ROUNDS; round++) {
            uint64_t before = calls_so_far(counter);
            struct clients_seen seen = clients_run(clients, bench_quick ? 20000000 : 100000000);
            per_message.of[i][round] =
                (double)(calls_so_far(counter) - before) / (double)seen.answered;
        }
        close(counter);
        clients_close(clients);
        echo_stop(&server);
    }
    echo_say_field("echo_calls", "system calls per message, 1000 x 64 bytes", "", &per_message);
    bench_say_count("echo_calls", "system calls per message, 1000 x 64 bytes: sluice",
                    bench_quantile(per_message.of[ECHO_SLUICE], BENCH_ROUNDS, 0.5), 0.1);
    return 0;
}
