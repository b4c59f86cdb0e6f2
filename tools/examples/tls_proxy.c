/*
 * A proxy with TLS on one side: tls_proxy CERT KEY tls://ADDRESS:PORT tcp://HOST:PORT. What arrives
 * there is decrypted and goes to the other, and back. Whoever reads slowly makes the other wait.
 */
#include <sluice/sluice.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct side {
    struct sluice_conn *conn; /* NULL: over */
    struct side *peer;
    struct sluice_buf *kept; /* received here, and the peer had no room for it */
};

struct link {
    struct side front, back;
};

static struct sluice_loop *loop;
static const char *upstream;

static void on_signal(int number)
{
    (void)number;
    sluice_loop_stop(loop);
}

static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    struct side *side = user;
    if (sluice_conn_send_buf(side->peer->conn, buf) != -EAGAIN)
        return; /* or it ended: then so do we, soon */
    sluice_buf_retain(buf);
    side->kept = buf;
    sluice_conn_pause(c);
}

static void let_go(struct side *side)
{
    if (side->kept)
        sluice_buf_release(side->kept);
    side->kept = NULL;
}

/* There is room for what the peer kept. */
static void on_drain(struct sluice_conn *c, void *user)
{
    struct side *side = user, *peer = side->peer;
    if (!peer->kept)
        return;
    sluice_conn_send_buf(c, peer->kept);
    let_go(peer);
    if (peer->conn)
        sluice_conn_resume(peer->conn);
}

static void on_eof(struct sluice_conn *c, void *user)
{
    (void)c;
    sluice_conn_shutdown(((struct side *)user)->peer->conn);
}

/* The one that ends second frees both. */
static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    struct side *side = user;
    (void)os_error;
    if (!side) { /* no TLS came of it */
        fprintf(stderr, "%s: %s\n", sluice_reason_name(reason), sluice_conn_why(c));
        return;
    }
    struct side *peer = side->peer;
    side->conn = NULL;
    let_go(side);
    if (peer->conn)
        sluice_conn_close(peer->conn);
    else
        free(side < peer ? side : peer); /* front is first in the link */
}

static void back_open(struct sluice_conn *c, void *user)
{
    struct side *side = user;
    (void)c;
    sluice_conn_resume(side->peer->conn);
}

static const struct sluice_conn_events back_events = {.on_open = back_open,
                                                      .on_data = on_data,
                                                      .on_drain = on_drain,
                                                      .on_eof = on_eof,
                                                      .on_close = on_close};

/* The handshake is done. Nothing is read before there is somebody to send it to. */
static void front_open(struct sluice_conn *c, void *user)
{
    struct link *link = calloc(1, sizeof(*link));
    char why[200];
    (void)user;
    if (!link)
        exit(1); /* no memory */
    link->front = (struct side){.conn = c, .peer = &link->back};
    link->back.peer = &link->front;
    sluice_conn_set_user(c, &link->front);
    sluice_conn_pause(c);
    const struct sluice_connect_config config = {
        .url = upstream, .events = &back_events, .user = &link->back};
    if (sluice_conn_connect(&link->back.conn, loop, &config, why, sizeof(why))) {
        fprintf(stderr, "%s\n", why);
        sluice_conn_abort(c);
    }
}

int main(int argc, char **argv)
{
    static const struct sluice_conn_events front_events = {.on_open = front_open,
                                                           .on_data = on_data,
                                                           .on_drain = on_drain,
                                                           .on_eof = on_eof,
                                                           .on_close = on_close};
    const struct sluice_loop_config loop_config = {.backend = getenv("BACKEND"), .conns_max = 2000};
    struct sluice_listener *listener;
    struct sluice_tls *tls;
    char why[300];
    if (argc != 5)
        return fprintf(stderr, "usage: tls_proxy CERT KEY tls://ADDRESS:PORT tcp://HOST:PORT\n"), 2;
    const struct sluice_tls_config tls_config = {
        .role = SLUICE_TLS_SERVER, .cert = argv[1], .key = argv[2]};
    upstream = argv[4];
    if (sluice_loop_create(&loop, &loop_config, why, sizeof(why)) ||
        sluice_tls_create(&tls, &tls_config, NULL, why, sizeof(why)))
        return fprintf(stderr, "%s\n", why), 1;
    const struct sluice_listen_config config = {
        .url = argv[3], .events = &front_events, .tls = tls};
    if (sluice_listener_open(&listener, loop, &config, why, sizeof(why)))
        return fprintf(stderr, "%s\n", why), 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    printf("listening at %s, port %u, on %s\n", argv[3], sluice_listener_port(listener),
           sluice_loop_backend(loop));
    fflush(stdout);
    sluice_loop_run(loop);
    sluice_loop_destroy(loop);
    sluice_tls_destroy(tls);
    return 0;
}
