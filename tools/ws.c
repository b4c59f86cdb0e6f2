/*
 * sluice ws: the reference upstream. A WebSocket client over a channel: upgrade, messages to
 * stdout, PINGs answered through PONGS, CLOSE both ways. Frames are ws_frames.c's, the handshake
 * ws_upgrade.c's.
 */
#include "tools.h"

#include "fail.h"
#include "session.h"
#include "stop.h"
#include "ws_frames.h"
#include "ws_report.h"
#include "ws_upgrade.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENTRIES_MAX  256u
#define CLOSE_NS     5000000000ll /* how long we wait for the peer's half of the end */
#define CLOSE_NORMAL 1000u        /* RFC 6455, 7.4.1 */
#define CLOSE_BROKEN 1002u
#define CLOSE_NONE   1005u

enum phase {
    UPGRADING,
    OPEN,
    CLOSING, /* our CLOSE is out, the peer's is awaited */
    CLOSED,  /* both are */
};

struct ws {
    struct session session;
    struct options *options;
    struct sluice_client *client;
    uint32_t connection;
    enum phase phase;
    struct upgrade upgrade;
    struct frames frames;
    struct report report;
    uint32_t sends_done;
    uint8_t pong[FRAMES_CONTROL_MAX]; /* the newest one that found PONGS full */
    size_t pong_bytes;
    bool pong_waits;
    bool want_close, want_fin; /* to be queued when the outbox has room */
    unsigned close_code;
    bool outbox_full;
    int64_t give_up_ns; /* of the wait in CLOSING and CLOSED */
    bool ended;         /* DISCONNECTED came */
    int failed;         /* exit code of what ended us, said already */
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void begin_close(struct ws *ws, unsigned code)
{
    if (ws->phase != OPEN || ws->want_close)
        return;
    ws->want_close = true;
    ws->close_code = code;
    ws->give_up_ns = now_ns() + CLOSE_NS;
}

/* ---- what comes in ---- */

/* A message per line: text with \ and line breaks escaped, binary as hex behind "0x". */
static void print_message(bool text, const uint8_t *bytes, size_t count)
{
    if (!text)
        fputs("0x", stdout);
    for (size_t i = 0; i < count; i++) {
        if (!text)
            printf("%02x", bytes[i]);
        else if (bytes[i] == '\n')
            fputs("\\n", stdout);
        else if (bytes[i] == '\r')
            fputs("\\r", stdout);
        else if (bytes[i] == '\\')
            fputs("\\\\", stdout);
        else
            putchar_unlocked(bytes[i]);
    }
    putchar_unlocked('\n');
}

static void on_message(void *user, bool text, const uint8_t *bytes, size_t count)
{
    struct ws *ws = user;
    if (ws->phase != OPEN || ws->want_close)
        return; /* behind our CLOSE nothing counts */
    print_message(text, bytes, count);
    ws->report.messages++;
    ws->report.bytes += count;
    if (ws->options->count && ws->report.messages == (uint64_t)ws->options->count)
        begin_close(ws, CLOSE_NORMAL);
}

static void send_pong(struct ws *ws)
{
    int err = frames_send_pong(&ws->frames, ws->connection, ws->pong, ws->pong_bytes);
    ws->pong_waits = err == -EAGAIN;
    ws->report.pings_answered += err == 0;
    if (err && err != -EAGAIN)
        ws->failed = fail_errno(err, "%s: PONGS", ws->session.target);
}

/* RFC 6455, 5.5.3: an endpoint may answer only the newest PING. */
static void on_ping(void *user, const uint8_t *bytes, size_t count)
{
    struct ws *ws = user;
    ws->pong_bytes = count < sizeof(ws->pong) ? count : sizeof(ws->pong);
    if (ws->pong_bytes)
        memcpy(ws->pong, bytes, ws->pong_bytes);
    send_pong(ws);
}

/* The peer's half of the end. If ours is not out yet, it is answered with the same code. */
static void on_close(void *user, unsigned code)
{
    struct ws *ws = user;
    if (ws->phase == OPEN) {
        ws->want_close = true;
        ws->close_code = code == CLOSE_NONE ? CLOSE_NORMAL : code;
    }
    ws->want_fin = true;
    ws->give_up_ns = now_ns() + CLOSE_NS;
}

static const struct frames_events frames_events = {
    .message = on_message, .ping = on_ping, .close = on_close};

static int take_upgrade(struct ws *ws, uint64_t end)
{
    char why[256];
    uint64_t from = ws->frames.at;
    int n = upgrade_check(&ws->upgrade, (const char *)sluice_inbox_at(ws->client, from),
                          (size_t)(end - from), why, sizeof(why));
    if (n < 0)
        return fail(SLUICE_REASON_PROTOCOL, "%s: %s", ws->session.target, why);
    if (n > 0) {
        ws->frames.at = ws->frames.limit = ws->frames.boundary = from + (uint64_t)n;
        ws->phase = OPEN;
        sluice_client_set_ready(ws->client, 1);
    }
    return 0;
}

static void take_bytes(struct ws *ws, uint64_t end)
{
    if (ws->phase == UPGRADING && ws->frames.at < end)
        ws->failed = take_upgrade(ws, end);
    if (ws->failed || ws->phase == UPGRADING || frames_decode(&ws->frames, end))
        return;
    ws->failed =
        fail(SLUICE_REASON_PROTOCOL, "%s: broken or too long WebSocket frame", ws->session.target);
}

static void take_event(struct ws *ws, const struct sluice_meta *entry)
{
    if (entry->event == SLUICE_EVENT_DISCONNECTED) {
        ws->ended = true;
        ws->connection = entry->connection;
    } else if (entry->event == SLUICE_EVENT_EOF && !ws->want_fin && !ws->failed) {
        ws->failed =
            fail(SLUICE_REASON_PROTOCOL, "%s: the peer ended without a CLOSE", ws->session.target);
    }
}

/* True: something was there. */
static bool take_inbox(struct ws *ws)
{
    const struct sluice_meta *entries;
    int64_t n = sluice_inbox_peek(ws->client, &entries, ENTRIES_MAX);
    if (n < 0)
        ws->failed = fail_errno((int)n, "%s: inbox", ws->session.target);
    if (n <= 0)
        return false;
    report_entries(&ws->report, entries, (uint32_t)n);
    for (int64_t i = 0; i < n && !ws->failed && !ws->ended; i++) {
        if (entries[i].event == SLUICE_EVENT_DATA)
            take_bytes(ws, entries[i].msg_inbox_offset + entries[i].decrypted_len);
        else
            take_event(ws, &entries[i]);
    }
    if (!ws->failed)
        sluice_inbox_release_to(ws->client, (uint32_t)n, frames_keep_from(&ws->frames));
    return true;
}

/* ---- what goes out ---- */

/* True: it is out; false: no room yet, or it failed. */
static bool send_frame(struct ws *ws, unsigned opcode, const void *bytes, size_t count,
                       unsigned type)
{
    int err = frames_send(&ws->frames, ws->connection, opcode, bytes, count, type);
    if (err == -EMSGSIZE)
        ws->failed =
            fail(SLUICE_REASON_USAGE, "--send: %zu bytes, the outbox takes %zu: raise --outbox",
                 count, frames_send_limit(&ws->frames));
    else if (err && err != -EAGAIN)
        ws->failed = fail_errno(err, "%s: outbox", ws->session.target);
    ws->outbox_full |= err == -EAGAIN;
    return err == 0;
}

static void send_close(struct ws *ws)
{
    const uint8_t code[2] = {(uint8_t)(ws->close_code >> 8), (uint8_t)ws->close_code};
    if (!send_frame(ws, WSLAY_CONNECTION_CLOSE, code, sizeof(code), SLUICE_MESSAGE_DATA))
        return;
    ws->want_close = false;
    ws->phase = CLOSING;
}

/* Both CLOSE frames are through: FIN. The peer closes the connection (RFC 6455, 7.1.1). */
static void send_fin(struct ws *ws)
{
    void *room;
    ws->outbox_full |= sluice_outbox_claim(ws->client, 0, &room) != 0;
    if (ws->outbox_full)
        return;
    sluice_outbox_commit(ws->client, ws->connection, SLUICE_MESSAGE_WS_CLOSE);
    sluice_client_set_ready(ws->client, 0);
    ws->phase = CLOSED;
}

static void give_outbox(struct ws *ws)
{
    const struct option_list *sends = &ws->options->sends;
    ws->outbox_full = false;
    if (ws->pong_waits)
        send_pong(ws);
    while (ws->phase == OPEN && !ws->want_close && ws->sends_done < sends->count && !ws->failed) {
        const char *text = sends->items[ws->sends_done];
        if (!send_frame(ws, WSLAY_TEXT_FRAME, text, strlen(text), SLUICE_MESSAGE_DATA))
            return;
        ws->sends_done++;
        ws->report.messages_sent++;
    }
    if (ws->want_close && !ws->failed)
        send_close(ws);
    if (ws->want_fin && ws->phase == CLOSING)
        send_fin(ws);
}

/* ---- both ---- */

static void heed_hangup(struct ws *ws)
{
    while (take_inbox(ws) && !ws->ended && !ws->failed) {
        /* what the engine left behind */
    }
    if (!ws->ended && !ws->failed)
        ws->failed = session_end(&ws->session, 0);
}

static int timeout_ms(struct ws *ws)
{
    if (!ws->give_up_ns)
        return -1;
    int64_t left = ws->give_up_ns - now_ns();
    if (left > 0)
        return (int)(left / 1000000) + 1;
    sluice_client_request_close(ws->client); /* it answers no more: FIN and the drain limit */
    ws->give_up_ns = 0;
    return -1;
}

static void wait_for_more(struct ws *ws)
{
    struct pollfd fds[] = {
        {.fd = sluice_client_fd(ws->client), .events = POLLIN},
        {.fd = sluice_client_hangup_fd(ws->client), .events = POLLIN},
        {.fd = stop_fd(), .events = POLLIN},
    };
    bool spin = options_idle(ws->options) == SLUICE_IDLE_BUSY;
    unsigned what =
        SLUICE_WAIT_INBOX | (ws->outbox_full || ws->pong_waits ? SLUICE_WAIT_OUTBOX : 0);
    int ms = timeout_ms(ws);
    int there = spin ? 0 : sluice_client_arm(ws->client, what);
    int n = poll(fds, sizeof(fds) / sizeof(fds[0]), there || spin ? 0 : ms);
    if (!spin)
        sluice_client_disarm(ws->client);
    if (n > 0 && fds[1].revents)
        heed_hangup(ws);
}

/* First signal: CLOSE in order. Second: at once. */
static bool heed_signals(struct ws *ws)
{
    if (stop_count() == 0)
        return true;
    stop_clear();
    if (stop_count() > 1 || ws->phase == UPGRADING)
        return false;
    begin_close(ws, CLOSE_NORMAL);
    return true;
}

static int run(struct ws *ws)
{
    unsigned spins = 0;
    while (!ws->ended && !ws->failed && heed_signals(ws)) {
        bool more = take_inbox(ws);
        if (!ws->failed)
            give_outbox(ws);
        if (more || ws->failed || ws->ended)
            continue;
        fflush(stdout);
        if (options_idle(ws->options) == SLUICE_IDLE_BUSY && ++spins % 1024)
            continue; /* the descriptors now and then */
        wait_for_more(ws);
    }
    if (fflush(stdout))
        return fail_stdout(errno);
    if (ws->failed || !ws->ended)
        return ws->failed;
    return session_end(&ws->session, ws->connection);
}

/* ---- the beginning ---- */

/* "ws://host:port/path" is tcp://host:port and --path; the port is 80 if none is given. */
static int split_url(struct ws *ws, char *tcp, size_t tcp_bytes, const char **target)
{
    const char *url = ws->options->args[0];
    *target = url;
    if (strncmp(url, "wss://", 6) == 0)
        return fail(SLUICE_REASON_UNSUPPORTED, "%s: this version has no TLS", url);
    if (strncmp(url, "ws://", 5) != 0)
        return 0;
    const char *host = url + 5;
    size_t n = strcspn(host, "/?");
    const char *bracket = memchr(host, ']', n);
    const char *after = bracket ? bracket : host;
    bool has_port = memchr(after, ':', n - (size_t)(after - host)) != NULL;
    int k = snprintf(tcp, tcp_bytes, "tcp://%.*s%s", (int)n, host, has_port ? "" : ":80");
    if (k < 0 || (size_t)k >= tcp_bytes)
        return fail(SLUICE_REASON_USAGE, "%s: too long", url);
    if (host[n])
        ws->options->path = host + n;
    *target = tcp;
    return 0;
}

/* host:port of the connection, as the engine was given it. */
static void peer_host(const struct ws *ws, char *out, size_t out_bytes)
{
    struct sluice_state st;
    sluice_client_state(ws->client, &st);
    const char *from = strstr(st.peer, "://");
    from = from ? from + 3 : st.peer;
    snprintf(out, out_bytes, "%.*s", (int)strcspn(from, " "), from);
}

static int send_upgrade(struct ws *ws)
{
    static char request[UPGRADE_REQUEST_MAX];
    char host[128];
    void *room;
    peer_host(ws, host, sizeof(host));
    const char *path = ws->options->path ? ws->options->path : "/";
    int n =
        upgrade_request(&ws->upgrade, request, sizeof(request), host, path, &ws->options->headers);
    if (n < 0)
        return fail(SLUICE_REASON_USAGE, "--path and --header are too long together");
    int err = sluice_outbox_claim(ws->client, (size_t)n, &room);
    if (err)
        return fail_errno(err, "%s: outbox", ws->session.target);
    memcpy(room, request, (size_t)n);
    sluice_outbox_commit(ws->client, ws->connection, SLUICE_MESSAGE_DATA);
    return 0;
}

/* An upstream before us may have done the upgrade: go on at the message behind its last. */
static int start(struct ws *ws)
{
    struct sluice_state st;
    ws->client = ws->session.client;
    ws->connection = ws->session.connection;
    sluice_client_state(ws->client, &st);
    int err =
        frames_init(&ws->frames, ws->client, sluice_inbox_position(ws->client), &frames_events, ws);
    if (err)
        return fail_errno(err, "WebSocket");
    report_init(&ws->report, ws->client);
    if (st.ready & SLUICE_READY_UPSTREAM) {
        ws->phase = OPEN;
        sluice_client_set_ready(ws->client, 1);
        sluice_log(SLUICE_LOG_INFO, "%s: resuming a WebSocket that is open", ws->session.target);
        return 0;
    }
    return send_upgrade(ws);
}

int cmd_ws(struct options *o)
{
    static char tcp[512];
    const char *target;
    struct ws *ws = calloc(1, sizeof(*ws));
    if (!ws)
        return fail_errno(-ENOMEM, "ws");
    ws->options = o;
    int failed = stop_install();
    if (!failed)
        failed = split_url(ws, tcp, sizeof(tcp), &target);
    if (!failed)
        failed = session_open(&ws->session, o, target, SLUICE_UPSTREAM);
    if (failed) {
        free(ws);
        return failed;
    }
    failed = start(ws);
    if (!failed)
        failed = run(ws);
    if (o->report) {
        int wrote = report_write(&ws->report, ws->client, o->report);
        failed = failed ? failed : wrote;
    }
    if (ws->frames.in)
        frames_fini(&ws->frames);
    session_close(&ws->session);
    free(ws);
    return failed;
}
