/*
 * TLS of connections with a server that does what ours never would: bare OpenSSL, and records made
 * by hand, on every backend.
 */
#include "tests/support/tls_ends.h"
#include "tests/tls/raw.h"
#include "tests/tls/traits.h"

#include <errno.h>

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

#define ALERT     21
#define HANDSHAKE 22
#define DATA      23
#define TICKET    81 /* bytes */

static const uint8_t ticket[TICKET] = {4, 0, 0, 77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 64};

/* Its records go through the world's server, which is a plain one here. */
struct raw_server {
    struct raw raw;
    struct end wire;     /* to the client; it has no session */
    size_t taken;        /* of what came from it */
    uint8_t got[100000]; /* the first of count */
    size_t count;
};
static struct raw_server theirs;

static void move_raw(struct conns_world *w)
{
    struct heard *h = &w->server;
    uint8_t some[4096];
    int n;
    BIO_write(theirs.raw.in, h->bytes + theirs.taken, (int)(h->count - theirs.taken));
    theirs.taken = h->count;
    SSL_do_handshake(theirs.raw.ssl);
    while ((n = BIO_read(theirs.raw.out, some, sizeof(some))) > 0)
        end_arrived(&theirs.wire, some, (size_t)n);
    for (; (n = SSL_read(theirs.raw.ssl, some, sizeof(some))) > 0; theirs.count += (size_t)n)
        if (theirs.count + (size_t)n <= sizeof(theirs.got))
            memcpy(theirs.got + theirs.count, some, (size_t)n);
    size_t bytes = theirs.wire.tail - theirs.wire.head;
    if (bytes && sluice_conn_write(h->conn, theirs.wire.wire + theirs.wire.head, bytes) == 0)
        theirs.wire.head += bytes;
}

#define RAW_UNTIL(w, cond) TURN_UNTIL(w, (move_raw(w), (cond)))

static void raw_world_open(struct conns_world *w, const char *backend,
                           const struct sluice_loop_config *cfg)
{
    struct sluice_tls_config client = client_config();
    client.verify_name = PAIR_HOST;
    theirs = (struct raw_server){.wire.wire = malloc(PAIR_WIRE_BYTES)};
    raw_open(&theirs.raw, "good", TLS1_3_VERSION, TLS1_3_VERSION);
    *w = (struct conns_world){.loop = world_loop(backend, cfg), .client_ktls = SLUICE_KTLS_OFF};
    world_listen(w);
    w->client_tls = must_tls(&client);
    memcpy(w->url, "tls", 3);
    world_connect(w);
    TURN_UNTIL(w, w->server.opened);
    RAW_UNTIL(w, w->client.opened && SSL_is_init_finished(theirs.raw.ssl));
}

static void raw_world_close(struct conns_world *w)
{
    raw_close(&theirs.raw);
    free(theirs.wire.wire);
    tls_world_close(w);
}

/* Half of a ticket, and the client has read it. */
static void begin_ticket(struct conns_world *w)
{
    raw_seal(&theirs.raw, &theirs.wire, HANDSHAKE, ticket, TICKET / 2, 0);
    move_raw(w);
    world_pass(w, 10 * SLUICE_NS_PER_MS);
}

static void end_ticket(struct conns_world *w)
{
    raw_seal(&theirs.raw, &theirs.wire, HANDSHAKE, ticket + TICKET / 2, TICKET - TICKET / 2, 0);
    raw_seal(&theirs.raw, &theirs.wire, DATA, "x", 1, 0);
    RAW_UNTIL(w, w->client.count > 0);
}

static void expect_theirs(struct conns_world *w, size_t bytes)
{
    RAW_UNTIL(w, theirs.count >= bytes);
    cr_expect_eq(w->client.closed, 0);
    cr_assert_eq(theirs.count, bytes);
    expect_bytes(theirs.got, 0, bytes);
}

/* A message of the server's in two records: what is written between them leaves at once, or waits
 * for the second, and is told so. */
EACH_BACKEND(conn_peer, written_inside_a_message)
{
    struct conns_world w;
    uint8_t bytes[100];
    struct iovec parts[2] = {{.iov_base = bytes, .iov_len = 40},
                             {.iov_base = bytes + 40, .iov_len = 60}};
    fill_pattern(bytes, 0, sizeof(bytes));
    raw_world_open(&w, on->name, &small);
    begin_ticket(&w);
    int err = sluice_conn_writev(w.client.conn, parts, 2);
    cr_assert_eq(err, traits()->writes_inside_messages ? 0 : -EAGAIN, "%d", err);
    world_pass(&w, 10 * SLUICE_NS_PER_MS);
    cr_expect_eq(w.client.drained, 0);
    end_ticket(&w);
    if (err) {
        RAW_UNTIL(&w, w.client.drained);
        cr_assert_eq(sluice_conn_writev(w.client.conn, parts, 2), 0);
    }
    expect_theirs(&w, sizeof(bytes));
    raw_world_close(&w);
}

/* So does what is sent from where it is, or from a file, and the end behind it. */
EACH_BACKEND(conn_peer, sent_inside_a_message)
{
    enum { BYTES = 100000 };
    static uint8_t all[BYTES];
    fill_pattern(all, 0, BYTES);
    for (int is_file = 0; is_file < 2; is_file++) {
        struct conns_world w;
        struct heard_send sent = {
            .send = {
                .data = all, .file = pattern_file(0, BYTES), .bytes = BYTES, .done = heard_sent}};
        raw_world_open(&w, on->name, &small);
        begin_ticket(&w);
        cr_assert_eq(is_file ? sluice_conn_send_file(w.client.conn, &sent.send)
                             : sluice_conn_send(w.client.conn, &sent.send),
                     0);
        cr_assert_eq(sluice_conn_shutdown(w.client.conn), 0);
        world_pass(&w, SLUICE_NS_PER_MS);
        end_ticket(&w);
        expect_theirs(&w, BYTES);
        cr_expect_eq(sent.ends, 1);
        cr_expect_eq(sent.result, 0);
        RAW_UNTIL(&w, SSL_get_shutdown(theirs.raw.ssl) & SSL_RECEIVED_SHUTDOWN);
        close(sent.send.file);
        raw_world_close(&w);
    }
}

/* It is dropped with the buffer it came in. */
EACH_BACKEND(conn_peer, nothing_is_kept_behind_close_notify)
{
    static const uint8_t close_notify[] = {1, 0};
    struct conns_world w;
    raw_world_open(&w, on->name, &small);
    raw_seal(&theirs.raw, &theirs.wire, ALERT, close_notify, sizeof(close_notify), 0);
    raw_seal(&theirs.raw, &theirs.wire, DATA, "x", 1, 0);
    RAW_UNTIL(&w, w.client.eofs);
    world_pass(&w, SLUICE_NS_PER_MS);
    cr_expect_eq(w.client.conn->conns->leases[LEASE_WIRE].leased, 0);
    cr_expect_eq(w.client.count, 0);
    raw_world_close(&w);
}

/* Until neither the socket nor what is encrypted has room. */
static size_t write_all_there_is_room_for(struct conns_world *w)
{
    static const uint8_t bytes[30000];
    size_t sent = 0;
    for (size_t piece = sizeof(bytes); piece >= 100; piece /= 300)
        for (int still = 0; still < 50; world_turn(w)) {
            int err = sluice_conn_write(w->client.conn, bytes, piece);
            still = err ? still + 1 : 0;
            sent += err ? 0 : piece;
        }
    return sent;
}

/* A peer that does not take the answers it asks for: what else it sends stays with it, and leaves
 * the other connections their buffers. */
EACH_BACKEND(conn_peer, one_peer_does_not_take_all_buffers)
{
    struct conns_world w;
    struct sluice_loop_config cfg = small;
    cfg.recv_bufs = 8;
    raw_world_open(&w, on->name, &cfg);
    const struct conn_tls *tls = w.client.conn->tls;
    sluice_conn_pause(w.server.conn);
    size_t sent = write_all_there_is_room_for(&w), came = 0;
    for (; came < 200 && !tls->output_full; came++) {
        cr_assert_eq(SSL_key_update(theirs.raw.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        cr_assert_eq(SSL_write(theirs.raw.ssl, "x", 1), 1);
        move_raw(&w);
        world_pass(&w, SLUICE_NS_PER_MS / 5);
    }
    cr_assert(tls->output_full);
    for (int i = 0; i < 20; i++, came++) {
        cr_assert_eq(SSL_write(theirs.raw.ssl, "y", 1), 1);
        move_raw(&w);
        world_pass(&w, SLUICE_NS_PER_MS);
    }
    cr_expect_lt(w.client.conn->conns->leases[LEASE_WIRE].leased, cfg.recv_bufs);
    sluice_conn_resume(w.server.conn);
    RAW_UNTIL(&w, theirs.count == sent && w.client.count == came);
    raw_world_close(&w);
}
