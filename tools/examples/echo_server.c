/*
 * An echo server: echo_server [URL]. Listens at tcp://127.0.0.1:7777 or what is given (port 0: one
 * that is free; unix:PATH too), says where, and sends back what it receives.
 */
#include <sluice/sluice.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct sluice_loop *loop;

static void on_signal(int number)
{
    (void)number;
    sluice_loop_stop(loop);
}

/* No room in the queue: the peer does not read its echo. Read no more until it does; the bytes at
 * hand are kept, not copied. */
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
    const struct sluice_loop_config loop_config = {.backend = getenv("BACKEND"),
                                                   .conns_max = 10000};
    const struct sluice_listen_config config = {.url = argc > 1 ? argv[1] : "tcp://127.0.0.1:7777",
                                                .events = &events};
    struct sluice_listener *listener;
    char why[200];

    if (sluice_loop_create(&loop, &loop_config, why, sizeof(why)) ||
        sluice_listener_open(&listener, loop, &config, why, sizeof(why)))
        return fprintf(stderr, "%s\n", why), 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    printf("listening at %s, port %u, on %s\n", config.url, sluice_listener_port(listener),
           sluice_loop_backend(loop));
    fflush(stdout);
    int err = sluice_loop_run(loop);
    sluice_loop_destroy(loop);
    return err ? 1 : 0;
}
