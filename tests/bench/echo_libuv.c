/*
 * An echo server on libuv: one buffer for all reads, uv_try_write() first, uv_write() for what it
 * did not take.
 */
#include "echo_server.h"

#include <stdlib.h>
#include <uv.h>

struct conn {
    uv_tcp_t tcp;
    uv_write_t write;
    char *rest;
};

static uv_buf_t buffer;

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void end(struct conn *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)handle, (void)suggested;
    *out = buffer;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf);

static void on_written(uv_write_t *write, int status)
{
    struct conn *c = write->handle->data;
    free(c->rest);
    c->rest = NULL;
    if (status < 0)
        end(c);
    else
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

static void write_rest(struct conn *c, const char *bytes, size_t count)
{
    c->rest = echo_keep(bytes, count);
    uv_buf_t rest = uv_buf_init(c->rest, (unsigned)count);
    uv_read_stop((uv_stream_t *)&c->tcp);
    if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &rest, 1, on_written) < 0) {
        free(c->rest);
        end(c);
    }
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (count == 0)
        return;
    if (count < 0) {
        end(c);
        return;
    }
    uv_buf_t out = uv_buf_init(buf->base, (unsigned)count);
    int sent = uv_try_write(stream, &out, 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        end(c);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    if (sent < count)
        write_rest(c, buf->base + sent, (size_t)(count - sent));
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct conn *c = status < 0 ? NULL : calloc(1, sizeof(*c));
    if (!c)
        return;
    uv_tcp_init(listener->loop, &c->tcp);
    c->tcp.data = c;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp)) {
        end(c);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

int main(int argc, char **argv)
{
    struct echo_args args = echo_begin(argc, argv);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    buffer = uv_buf_init(malloc(args.buffer_bytes), args.buffer_bytes);
    if (!buffer.base || uv_tcp_init(loop, &listener) || uv_tcp_open(&listener, echo_listen()) ||
        uv_listen((uv_stream_t *)&listener, 4096, on_connection))
        echo_fail("libuv");
    return uv_run(loop, UV_RUN_DEFAULT);
}
