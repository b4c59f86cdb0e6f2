/*
 * sluice load --serve: the peer that echoes, swallows or sends, for any number of connections on
 * one loop. Over WebSocket, too: frames in, frames out. What a feed sends is load_feed.c's.
 */
#include "load.h"

#include "fail.h"
#include "load_feed.h"
#include "option_tls.h"
#include "session.h"
#include "stop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIN          0x80u
#define RECV_BYTES   (64u << 10)
#define ANSWER_BYTES 256u
#define CONNS_LEAST  256u
#define FEED_RATE    2000
#define FEED_TICK_NS 1000000u
/* An answer may be longer than the piece that completed it: by a header, or by a whole PONG. */
#define OUT_BYTES (RECV_BYTES + 2 * (WIRE_FRAME_MAX + WIRE_CONTROL_MAX))

enum service { SERVE_ECHO, SERVE_SINK, SERVE_SOURCE, SERVE_FEED };

struct server {
    const struct options *options;
    enum service service;
    enum wire_kind kind;
    struct sluice_loop *loop;
    struct sluice_tls *tls; /* for tls:// */
    uint64_t connections, messages, bytes, faults;
    int failed;      /* exit code, said already */
    size_t out_used; /* in out: the answer to one piece */
    uint8_t out[OUT_BYTES];
    uint8_t *message; /* source: room for one */
};

/* A connection of a server. */
struct peer {
    struct server *server;
    struct sluice_conn *conn;
    bool open; /* what comes are messages: upgraded where that is asked for */
    bool broken;
    char *request; /* of an upgrade, so far */
    size_t request_bytes;
    uint8_t *held; /* what the queue had no room for; nothing is received meanwhile */
    size_t held_bytes;
    uint64_t number; /* of the next message: sent by a source, expected by a sink */
    struct feed feed;
    struct sluice_timer tick; /* of the feed */
    struct wire_reader reader;
};

/* ---- what goes out ---- */

static void give(struct peer *p, const uint8_t *bytes, size_t count)
{
    int err = count ? sluice_conn_write(p->conn, bytes, count) : 0;
    if (err != -EAGAIN)
        return; /* any other error: its end follows */
    p->held = malloc(count);
    if (!p->held) {
        sluice_conn_abort(p->conn);
        return;
    }
    memcpy(p->held, bytes, count);
    p->held_bytes = count;
    sluice_conn_pause(p->conn);
}

static void pump_source(struct peer *p)
{
    struct server *s = p->server;
    int err = 0;
    while (!err && p->open && s->service == SERVE_SOURCE) {
        size_t bytes = wire_write(s->message, s->kind, NULL, s->options->verify, p->number,
                                  (size_t)s->options->size_bytes.most);
        err = sluice_conn_write(p->conn, s->message, bytes);
        p->number += err == 0;
        s->messages += err == 0;
    }
}

static void on_drain(struct sluice_conn *c, void *user)
{
    struct peer *p = user;
    if (p->held) {
        sluice_conn_write(c, p->held, p->held_bytes); /* half of the queue is more than that */
        free(p->held);
        p->held = NULL;
        sluice_conn_resume(c);
    }
    pump_source(p);
}

/* ---- what comes in ---- */

static void put_out(struct server *s, const uint8_t *bytes, size_t count)
{
    memcpy(s->out + s->out_used, bytes, count);
    s->out_used += count;
}

static void on_frame(void *user, uint8_t first, uint64_t bytes)
{
    struct server *s = ((struct peer *)user)->server;
    if (s->service == SERVE_ECHO)
        s->out_used += wire_write_header(s->out + s->out_used, first, bytes);
}

static void on_payload(void *user, const uint8_t *bytes, size_t count)
{
    struct server *s = ((struct peer *)user)->server;
    if (s->service == SERVE_ECHO)
        put_out(s, bytes, count);
}

static void on_message(void *user, const struct wire_message *message)
{
    struct peer *p = user;
    p->server->messages++;
    p->feed.received++;
    if (p->feed.began_ns == 0)
        p->feed.began_ns = now_ns();
    if (!p->server->options->verify)
        return;
    if (!message->intact || message->number != p->number)
        p->server->faults++;
    p->number = message->intact ? message->number + 1 : p->number + 1;
}

static void on_control(void *user, unsigned opcode, const uint8_t *bytes, size_t count)
{
    struct peer *p = user;
    struct server *s = p->server;
    p->feed.pongs += opcode == WIRE_OPCODE_PONG;
    p->broken |= opcode == WIRE_OPCODE_CLOSE;
    if (opcode == WIRE_OPCODE_PONG || (opcode == WIRE_OPCODE_CLOSE && p->feed.said_end))
        return; /* an answer itself */
    uint8_t answer = FIN | (opcode == WIRE_OPCODE_PING ? WIRE_OPCODE_PONG : WIRE_OPCODE_CLOSE);
    s->out_used += wire_write_frame(s->out + s->out_used, answer, NULL, bytes, count);
}

static const struct wire_events reader_events = {
    .frame = on_frame, .payload = on_payload, .message = on_message, .control = on_control};

static void take_messages(struct peer *p, const uint8_t *bytes, size_t count)
{
    struct server *s = p->server;
    s->out_used = 0;
    if (s->kind == WIRE_RAW) {
        give(p, bytes, s->service == SERVE_ECHO ? count : 0);
        return;
    }
    if (wire_take(&p->reader, bytes, count)) {
        s->faults++;
        p->broken = true;
    }
    give(p, s->out, s->out_used);
    if (p->broken)
        sluice_conn_close(p->conn);
}

static size_t take_upgrade(struct peer *p, const uint8_t *bytes, size_t count)
{
    char answer[ANSWER_BYTES];
    size_t before = p->request_bytes, n = UPGRADE_REQUEST_MAX - before;
    n = n < count ? n : count;
    memcpy(p->request + before, bytes, n);
    p->request_bytes += n;
    int whole = upgrade_answer(p->request, p->request_bytes, answer, sizeof(answer));
    if (whole < 0) {
        static const char no[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        sluice_conn_write(p->conn, no, sizeof(no) - 1);
        sluice_conn_close(p->conn);
        return count;
    }
    if (whole == 0)
        return count;
    sluice_conn_write(p->conn, answer, strlen(answer));
    p->open = true;
    pump_source(p);
    return (size_t)whole - before;
}

static void on_data(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    struct peer *p = user;
    const uint8_t *bytes = buf->data;
    size_t count = buf->bytes;
    (void)c;
    p->server->bytes += count;
    if (!p->open) {
        size_t n = take_upgrade(p, bytes, count);
        bytes += n;
        count -= n;
    }
    if (p->open && !p->broken && count > 0)
        take_messages(p, bytes, count);
}

/* ---- a feed ---- */

static void on_tick(struct sluice_timer *timer)
{
    struct peer *p = timer->user;
    feed_push(&p->feed, now_ns());
}

static void begin_feed(struct peer *p)
{
    p->feed = (struct feed){.options = p->server->options, .conn = p->conn};
    sluice_timer_init(&p->tick, p->server->loop, on_tick, p);
    sluice_timer_start(&p->tick, FEED_TICK_NS, FEED_TICK_NS);
}

static void end_feed(struct peer *p)
{
    struct server *s = p->server;
    sluice_timer_stop(&p->tick);
    if (!p->feed.said_end)
        return;
    if (s->options->report && !s->failed)
        s->failed = feed_report(&p->feed, s->options->report);
    if (s->options->once || s->failed)
        sluice_loop_stop(s->loop);
}

/* ---- connections ---- */

static void on_close(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    struct peer *p = user;
    (void)c;
    (void)reason;
    (void)os_error;
    if (p->server->service == SERVE_FEED)
        end_feed(p);
    free(p->held);
    free(p->request);
    free(p);
}

static const struct sluice_conn_events peer_events = {
    .on_data = on_data, .on_drain = on_drain, .on_close = on_close};

/* No memory for it, or no TLS with it. */
static void on_refused(struct sluice_conn *c, enum sluice_reason reason, int os_error, void *user)
{
    const struct server *s = user;
    const char *why = sluice_conn_why(c);
    (void)os_error;
    if (why[0])
        sluice_log(SLUICE_LOG_WARN, "%s: a connection refused: %s: %s", s->options->args[0], why,
                   sluice_reason_name(reason));
}

/* Of the first one: the others are no different, if not for their cipher. */
static void say_tls(const struct server *s, const struct sluice_conn *c)
{
    struct sluice_tls_facts tls;
    if (s->connections == 1 && sluice_conn_tls(c, &tls) == 0)
        sluice_log(SLUICE_LOG_INFO, "%s open: %s %s by %s, %s", s->options->args[0], tls.version,
                   tls.cipher, tls.provider, tls.where);
}

static void on_accept(struct sluice_conn *c, void *user)
{
    struct server *s = user;
    struct peer *p = calloc(1, sizeof(*p));
    if (p && s->kind == WIRE_FRAMES)
        p->request = malloc(UPGRADE_REQUEST_MAX);
    if (!p || (s->kind == WIRE_FRAMES && !p->request)) {
        free(p);
        sluice_conn_abort(c);
        return;
    }
    s->connections++;
    say_tls(s, c);
    *p = (struct peer){.server = s,
                       .conn = c,
                       .open = s->kind != WIRE_FRAMES,
                       .request = p->request,
                       .reader = {.kind = s->kind,
                                  .verify = s->options->verify,
                                  .masked = true,
                                  .events = &reader_events,
                                  .user = p}};
    sluice_conn_set_user(c, p);
    sluice_conn_set_events(c, &peer_events);
    if (s->service == SERVE_FEED)
        begin_feed(p);
    pump_source(p);
}

static const struct sluice_conn_events accept_events = {.on_open = on_accept,
                                                        .on_close = on_refused};

/* ---- the server ---- */

static uint32_t queue_bytes(const struct options *o)
{
    uint32_t bytes = 4 * RECV_BYTES;
    while (bytes < 2 * ((uint64_t)o->size_bytes.most + WIRE_FRAME_MAX))
        bytes *= 2;
    return bytes;
}

static int create_loop(struct server *s)
{
    const struct options *o = s->options;
    char why[200] = "";
    const struct sluice_loop_config cfg = {
        .backend = o->backend,
        .event = o->event,
        .idle = options_idle(o),
        .spin_us = (uint32_t)o->spin_us,
        .conns_max = o->connections > CONNS_LEAST ? (uint32_t)o->connections : CONNS_LEAST,
        .recv_bufs = 256,
        .recv_buf_bytes = RECV_BYTES,
        .send_queue_bytes = queue_bytes(o)};
    int err = sluice_loop_create(&s->loop, &cfg, why, sizeof(why));
    return err ? fail(fail_reason_of_errno(err), "event loop: %s", why[0] ? why : strerror(-err))
               : 0;
}

static int create_tls(struct server *s, const char *url, const char *shown)
{
    const struct options *o = s->options;
    struct sluice_tls_config cfg;
    char why[200] = "";
    if (strncmp(url, "tls://", 6) != 0)
        return 0;
    int failed = option_tls(&cfg, o, "");
    if (failed)
        return failed;
    cfg.role = SLUICE_TLS_SERVER;
    cfg.tickets = true;
    int err = sluice_tls_create(&s->tls, &cfg, o->tls_provider, why, sizeof(why));
    return err ? fail(err == -ENOTSUP ? SLUICE_REASON_UNSUPPORTED : SLUICE_REASON_TLS_CONFIG,
                      "load --serve: %s: %s", shown, why[0] ? why : strerror(-err))
               : 0;
}

static int listen_at(struct server *s, const char *url, const char *shown)
{
    char why[200] = "";
    struct sluice_listener *listener;
    const struct sluice_listen_config cfg = {.url = url,
                                             .events = &accept_events,
                                             .user = s,
                                             .tls = s->tls,
                                             .ktls = options_ktls(s->options),
                                             .tls_timeout_ns =
                                                 (uint64_t)s->options->tls_timeout_ns};
    int err = sluice_listener_open(&listener, s->loop, &cfg, why, sizeof(why));
    if (err == -EINVAL)
        return fail_remedy(SLUICE_REASON_USAGE,
                           "write tcp://address:port (tls, ws, wss) or unix:PATH",
                           "load --serve: '%s'", shown);
    if (err == -ENOTSUP)
        return fail(SLUICE_REASON_KTLS, "load --serve: %s", why);
    if (err == -EADDRINUSE)
        return fail_remedy(SLUICE_REASON_NAME_TAKEN, "choose another port or path, or port 0",
                           "load --serve: %s", shown);
    if (err)
        return fail(fail_reason_of_errno(err), "load --serve: %s: %s", shown,
                    why[0] ? why : strerror(-err));
    if (sluice_listener_port(listener))
        printf("%u\n", sluice_listener_port(listener));
    else
        printf("%s\n", shown);
    return fflush(stdout) ? fail_stdout(-errno) : 0;
}

static int say_end(const struct server *s, const char *shown)
{
    sluice_log(SLUICE_LOG_INFO,
               "%s: %" PRIu64 " connections, %" PRIu64 " messages, %" PRIu64 " bytes came", shown,
               s->connections, s->messages, s->bytes);
    if (s->options->verify && s->faults)
        return fail(SLUICE_REASON_DAMAGED, "%s: %" PRIu64 " messages", shown, s->faults);
    return 0;
}

static int serve(struct server *s, const char *url, const char *shown)
{
    int failed = create_loop(s);
    if (!failed)
        failed = create_tls(s, url, shown);
    if (!failed)
        failed = listen_at(s, url, shown);
    if (!failed) {
        stop_loop(s->loop);
        int err = sluice_loop_run(s->loop);
        stop_loop(NULL);
        failed = err < 0 ? fail_errno(err, "event loop") : s->failed;
        failed = failed ? failed : say_end(s, shown);
    }
    sluice_loop_destroy(s->loop);
    sluice_tls_destroy(s->tls);
    return failed;
}

int load_serve(struct options *o)
{
    char room[512];
    const char *url, *shown = o->args[0];
    struct server *s = calloc(1, sizeof(*s));
    bool frames = strncmp(shown, "ws://", 5) == 0 || strncmp(shown, "wss://", 6) == 0;
    if (!s || !(s->message = malloc((size_t)o->size_bytes.most + 2ull * WIRE_FRAME_MAX))) {
        free(s);
        return fail_errno(-ENOMEM, "load --serve");
    }
    if (o->rate == 0)
        o->rate = FEED_RATE;
    s->options = o;
    s->service = strcmp(o->serve, "sink") == 0     ? SERVE_SINK
                 : strcmp(o->serve, "source") == 0 ? SERVE_SOURCE
                 : strcmp(o->serve, "feed") == 0   ? SERVE_FEED
                                                   : SERVE_ECHO;
    s->kind = frames ? WIRE_FRAMES : o->verify ? WIRE_CHECKED : WIRE_RAW;
    url = shown;
    int failed = frames ? upgrade_target(o, room, sizeof(room), &url) : 0;
    if (!failed && s->service == SERVE_FEED && (!frames || o->verify))
        failed = fail_remedy(SLUICE_REASON_USAGE, "write ws:// or wss://, without --verify",
                             "load --serve feed %s", shown);
    if (!failed && o->verify && o->size_bytes.least < (int64_t)WIRE_CHECK_BYTES)
        failed = fail_remedy(SLUICE_REASON_USAGE, "number and checksum take 16 bytes: raise --size",
                             "load --verify");
    if (!failed)
        failed = serve(s, url, shown);
    free(s->message);
    free(s);
    return failed;
}
