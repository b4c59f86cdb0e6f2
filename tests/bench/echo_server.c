/*
 * The echo servers' common part: see echo_server.h. Nothing that is measured.
 */
#include "echo_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG  4096
#define BUFS_MAX 16384u

static void on_term(int number)
{
    (void)number;
    _exit(0);
}

struct echo_args echo_begin(int argc, char **argv)
{
    struct echo_args args = {0};
    struct rlimit files;
    if (argc == 3) {
        args.buffer_bytes = (uint32_t)strtoul(argv[1], NULL, 10);
        args.conns_max = (uint32_t)strtoul(argv[2], NULL, 10);
    }
    if (args.buffer_bytes == 0 || args.conns_max == 0)
        echo_fail("arguments: BUFFER_BYTES CONNS_MAX");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGTERM, on_term);
    signal(SIGPIPE, SIG_IGN);
    return args;
}

int echo_listen(void)
{
    int one = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) || listen(fd, BACKLOG) ||
        getsockname(fd, (struct sockaddr *)&addr, &bytes))
        echo_fail("listen");
    echo_say_port(ntohs(addr.sin_port));
    return fd;
}

void echo_say_port(uint16_t port)
{
    printf("%u\n", port);
    fflush(stdout);
}

char *echo_keep(const char *bytes, size_t count)
{
    char *kept = malloc(count);
    if (!kept)
        echo_fail("malloc");
    memcpy(kept, bytes, count);
    return kept;
}

uint32_t echo_pool_bufs(const struct echo_args *args)
{
    uint32_t count = 64;
    while (count < 2 * args->conns_max && count < BUFS_MAX)
        count *= 2;
    return count;
}

void echo_fail(const char *what)
{
    perror(what);
    exit(1);
}
