/*
 * Plain sockets on loopback: see tcp.h.
 */
#include "tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define ECHO_BYTES (64u << 10)

void tcp_set_nodelay(int fd)
{
    int one = 1;
    BENCH_CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
}

int tcp_listen(uint16_t *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BENCH_CHECK(fd >= 0);
    BENCH_CHECK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 8) == 0);
    BENCH_CHECK(getsockname(fd, (struct sockaddr *)&addr, &bytes) == 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

int tcp_connect(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BENCH_CHECK(fd >= 0);
    BENCH_CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    tcp_set_nodelay(fd);
    return fd;
}

void tcp_send_all(int fd, const void *bytes, size_t count)
{
    const char *at = bytes;
    while (count > 0) {
        ssize_t n = send(fd, at, count, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        BENCH_CHECK(n > 0);
        at += n;
        count -= (size_t)n;
    }
}

static void echo(int fd)
{
    static char bytes[ECHO_BYTES];
    for (;;) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n > 0)
            tcp_send_all(fd, bytes, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return;
    }
}

void *tcp_echo(void *arg)
{
    int listener = *(int *)arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        tcp_set_nodelay(fd);
        echo(fd);
        close(fd);
    }
}
