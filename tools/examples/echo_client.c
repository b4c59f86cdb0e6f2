/*
 * Sends its standard input to an echo server and prints what comes back: echo_client URL. Neither
 * end needs to be fast: what cannot leave yet waits, and input is read when there is room.
 */
#include <sluice/sluice.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct client {
    char line[4096];
    size_t bytes; /* of it, that did not fit yet */
    int failed;
};

/* As much as the queue takes; the rest when it drained. */
static void send_input(struct sluice_conn *c, struct client *client)
{
    for (;;) {
        if (client->bytes == 0)
            client->bytes = fread(client->line, 1, sizeof(client->line), stdin);
        if (client->bytes == 0) {
            sluice_conn_shutdown(c); /* the server's end, behind its last echo, closes it */
            return;
        }
        if (sluice_conn_write(c, client->line, client->bytes))
            return;
        client->bytes = 0;
    }
}

static void on_open(struct sluice_conn *c, void *user)
{
    send_input(c, user);
}

static void on_drain(struct sluice_conn *c, void *user)
{
    send_input(c, user);
}

static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)c, (void)user;
    fwrite(buf->data, 1, buf->bytes, stdout);
}

static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    struct client *client = user;
    (void)c, (void)os_error;
    client->failed = sluice_reason_class(reason) != SLUICE_CLASS_CLEAN;
    if (client->failed)
        fprintf(stderr, "%s: %s\n", sluice_reason_name(reason), sluice_reason_text(reason));
}

int main(int argc, char **argv)
{
    static const struct sluice_conn_events events = {
        .on_open = on_open, .on_data = on_data, .on_drain = on_drain, .on_close = on_close};
    static struct client client;
    const struct sluice_loop_config loop_config = {.backend = getenv("BACKEND"), .conns_max = 1};
    const struct sluice_connect_config config = {
        .url = argc > 1 ? argv[1] : "tcp://127.0.0.1:7777", .events = &events, .user = &client};
    struct sluice_loop *loop;
    struct sluice_conn *c;
    char why[200];

    if (sluice_loop_create(&loop, &loop_config, why, sizeof(why)) ||
        sluice_conn_connect(&c, loop, &config, why, sizeof(why)))
        return fprintf(stderr, "%s\n", why), 1;
    int err = sluice_loop_run(loop); /* until the connection ended */
    sluice_loop_destroy(loop);
    return err || client.failed ? 1 : 0;
}
