/*
 * The length of an echo server's path, for tests/vm/ruler: echo_path CONNS SERVER N becomes the
 * server while its clients, a process that nobody waits for, send N messages of 64 bytes, one on
 * each connection before they read the answers, and then end it.
 */
#include "echo_clients.h"
#include "echo_servers.h"
#include "tcp.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES 64u

static void send_and_read(uint16_t port, uint32_t conns, uint64_t count)
{
    char out[BYTES], in[BYTES];
    int *fds = calloc(conns, sizeof(*fds));
    BENCH_CHECK(fds != NULL);
    for (uint32_t i = 0; i < conns; i++)
        fds[i] = tcp_connect(port);
    for (uint64_t done = 0; done < count; done += conns) {
        memset(out, (int)done, sizeof(out));
        for (uint32_t i = 0; i < conns; i++)
            tcp_send_all(fds[i], out, sizeof(out));
        for (uint32_t i = 0; i < conns; i++)
            BENCH_CHECK(recv(fds[i], in, sizeof(in), MSG_WAITALL) == (ssize_t)sizeof(in) &&
                        memcmp(in, out, sizeof(in)) == 0);
    }
}

/* A server whose clients failed does not end well. */
static pid_t server;

static void end_badly(void)
{
    kill(server, SIGKILL);
}

static void be_clients(int said, uint32_t conns, uint64_t count)
{
    char line[16] = "";
    atexit(end_badly); /* bench_fail() goes there */
    BENCH_CHECK(read(said, line, sizeof(line) - 1) > 0);
    send_and_read((uint16_t)strtoul(line, NULL, 10), conns, count);
    kill(server, SIGTERM);
    _exit(0);
}

int main(int argc, char **argv)
{
    int ends[2];
    BENCH_CHECK(argc == 4 && pipe2(ends, O_CLOEXEC) == 0);
    uint32_t conns = (uint32_t)strtoul(argv[1], NULL, 10);
    uint64_t count = strtoull(argv[3], NULL, 10);
    server = getpid();
    pid_t pid = fork();
    BENCH_CHECK(pid >= 0);
    if (pid == 0) {
        close(ends[1]);
        if (fork() == 0)
            be_clients(ends[0], conns, count);
        _exit(0);
    }
    echo_become(argv[2], BYTES, conns, ends[1]);
}
