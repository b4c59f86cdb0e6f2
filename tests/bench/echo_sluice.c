/*
 * An echo server on sluice's embedded runtime, by its public API alone; the backend is what
 * SLUICE_BACKEND says, or auto.
 */
#include "echo_server.h"

#include <errno.h>
#include <sluice/sluice.h>
#include <stdio.h>
#include <stdlib.h>

/* No room: what is at hand is kept, not copied, until there is. */
static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)user;
    if (sluice_conn_send_buf(c, buf) == -EAGAIN) {
        sluice_buf_retain(buf);
        sluice_conn_set_user(c, buf);
        sluice_conn_pause(c);
    }
}

static void on_drain(struct sluice_conn *c, void *user)
{
    struct sluice_buf *buf = user;
    sluice_conn_send_buf(c, buf); /* half of the queue: more than any buffer */
    sluice_buf_release(buf);
    sluice_conn_set_user(c, NULL);
    sluice_conn_resume(c);
}

static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    (void)c, (void)reason, (void)os_error;
    if (user)
        sluice_buf_release(user);
}

int main(int argc, char **argv)
{
    static const struct sluice_conn_events events = {
        .on_data = on_data, .on_drain = on_drain, .on_close = on_close};
    const struct sluice_listen_config config = {
        .url = "tcp://127.0.0.1:0", .events = &events, .backlog = 4096};
    struct echo_args args = echo_begin(argc, argv);
    const struct sluice_loop_config loop_config = {.backend = getenv("SLUICE_BACKEND"),
                                                   .idle = SLUICE_IDLE_SLEEP,
                                                   .conns_max = args.conns_max,
                                                   .recv_bufs = echo_pool_bufs(&args),
                                                   .recv_buf_bytes = args.buffer_bytes};
    struct sluice_loop *loop;
    struct sluice_listener *listener;
    char why[200];
    if (sluice_loop_create(&loop, &loop_config, why, sizeof(why)) ||
        sluice_listener_open(&listener, loop, &config, why, sizeof(why))) {
        fprintf(stderr, "sluice: %s\n", why);
        return 1;
    }
    echo_say_port(sluice_listener_port(listener));
    return sluice_loop_run(loop) ? 1 : 0;
}
