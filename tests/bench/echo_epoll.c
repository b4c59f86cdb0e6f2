/*
 * An echo server on bare epoll, level-triggered: one recv and one send for each message.
 */
#include "echo_server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
    int fd;
    char *rest; /* NULL: nothing waits to be sent */
    size_t at, count;
};

static int epoll;
static char *buffer;
static size_t buffer_bytes;

static void end(struct conn *c)
{
    close(c->fd);
    free(c->rest);
    free(c);
}

static void watch(struct conn *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event))
        echo_fail("epoll_ctl");
}

static void on_readable(struct conn *c)
{
    ssize_t n = recv(c->fd, buffer, buffer_bytes, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    ssize_t sent = n > 0 ? send(c->fd, buffer, (size_t)n, 0) : -1;
    if (n <= 0 || (sent < 0 && errno != EAGAIN)) {
        end(c);
        return;
    }
    if (sent == n)
        return;
    c->at = 0;
    c->count = (size_t)(n - (sent > 0 ? sent : 0));
    c->rest = echo_keep(buffer + ((size_t)n - c->count), c->count);
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void on_writable(struct conn *c)
{
    ssize_t sent = send(c->fd, c->rest + c->at, c->count - c->at, 0);
    if (sent < 0 && errno == EAGAIN)
        return;
    if (sent < 0) {
        end(c);
        return;
    }
    c->at += (size_t)sent;
    if (c->at < c->count)
        return;
    free(c->rest);
    c->rest = NULL;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void on_connections(int listener)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct conn *c = calloc(1, sizeof(*c));
        if (!c)
            echo_fail("calloc");
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    struct echo_args args = echo_begin(argc, argv);
    struct conn listener = {.fd = echo_listen()};
    struct epoll_event events[ECHO_EVENTS];
    epoll = epoll_create1(EPOLL_CLOEXEC);
    buffer_bytes = args.buffer_bytes;
    buffer = malloc(buffer_bytes);
    if (epoll < 0 || !buffer)
        echo_fail("epoll_create1");
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int count = epoll_wait(epoll, events, ECHO_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == &listener)
                on_connections(c->fd);
            else if (c->rest)
                on_writable(c);
            else
                on_readable(c);
        }
    }
}
