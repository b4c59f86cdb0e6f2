/*
 * An echo server on libevent: plain persistent events, which are faster than a bufferevent here.
 */
#include "echo_server.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
    struct event *readable, *writable;
    char *rest;
    size_t at, count;
};

static struct event_base *base;
static char *buffer;
static size_t buffer_bytes;

static void end(struct conn *c)
{
    int fd = event_get_fd(c->readable);
    event_free(c->readable);
    event_free(c->writable);
    close(fd);
    free(c->rest);
    free(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    ssize_t n = recv(fd, buffer, buffer_bytes, 0);
    (void)what;
    if (n < 0 && errno == EAGAIN)
        return;
    ssize_t sent = n > 0 ? send(fd, buffer, (size_t)n, 0) : -1;
    if (n <= 0 || (sent < 0 && errno != EAGAIN)) {
        end(c);
        return;
    }
    if (sent == n)
        return;
    c->at = 0;
    c->count = (size_t)(n - (sent > 0 ? sent : 0));
    c->rest = echo_keep(buffer + ((size_t)n - c->count), c->count);
    event_del(c->readable);
    event_add(c->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    ssize_t sent = send(fd, c->rest + c->at, c->count - c->at, 0);
    (void)what;
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
    event_del(c->writable);
    event_add(c->readable, NULL);
}

static void on_connections(evutil_socket_t listener, short what, void *arg)
{
    (void)what, (void)arg;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct conn *c = calloc(1, sizeof(*c));
        if (!c)
            echo_fail("calloc");
        c->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, c);
        c->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
        if (!c->readable || !c->writable || event_add(c->readable, NULL))
            echo_fail("event_new");
    }
}

int main(int argc, char **argv)
{
    struct echo_args args = echo_begin(argc, argv);
    buffer_bytes = args.buffer_bytes;
    buffer = malloc(buffer_bytes);
    base = event_base_new();
    if (!buffer || !base)
        echo_fail("event_base_new");
    struct event *listener =
        event_new(base, echo_listen(), EV_READ | EV_PERSIST, on_connections, NULL);
    if (!listener || event_add(listener, NULL))
        echo_fail("event_new");
    return event_base_dispatch(base);
}
