/*
 * sluice ws: the reference upstream. A WebSocket client over a channel: upgrade, messages to
 * stdout, PINGs answered through PONGS, CLOSE both ways. Frames are ws_frames.c's, the URL and the
 * handshake ws_upgrade.c's.
 */
#include "tools.h"

#include "fail.h"
#include "session.h"
#include "stop.h"
#include "ws_frames.h"
#include "ws_report.h"
#include "ws_upgrade.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES_MAX 256u
#define CLOSE_NS    5000000000ll /* how long we wait for the peer's half of the end */
#define ABANDON_NS  1000000000ll /* the same, when it is of no use any more */
#define LINES_BYTES 65536u

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
    int64_t give_up_ns;  /* of the wait in UPGRADING, CLOSING and CLOSED */
    bool ended;          /* DISCONNECTED came */
    int failed;          /* exit code of what ended us, said already */
    bool abandon;        /* nobody can go on with this connection: end it */
    unsigned abandon_as; /* with a CLOSE of this code; 0: without */
    bool unready;        /* said so while inside a message that no successor can go on with */
    bool stdout_failed, nobody_reads;
    size_t line_bytes; /* in lines, not written yet */
    uint8_t lines[LINES_BYTES];
};

/* The connection is of no use to anybody any more. */
static int fail_abandoning(struct ws *ws, unsigned code, int failed)
{
    ws->abandon = true;
    ws->abandon_as = ws->phase == OPEN ? code : 0;
    return failed;
}

static void begin_close(struct ws *ws, unsigned code)
{
    if (ws->phase != OPEN || ws->want_close)
        return;
    ws->want_close = true;
    ws->close_code = code;
    ws->give_up_ns = now_ns() + CLOSE_NS;
}

/* ---- stdout ---- */

/* EAGAIN: somebody gave us a non-blocking stdout. A second signal ends us at once. */
static void write_lines(struct ws *ws)
{
    for (size_t at = 0; at < ws->line_bytes && !ws->stdout_failed && stop_count() < 2;) {
        ssize_t n = write(STDOUT_FILENO, ws->lines + at, ws->line_bytes - at);
        if (n >= 0) {
            at += (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
            poll(&out, 1, -1);
        } else if (errno != EINTR) {
            ws->stdout_failed = true;
            ws->nobody_reads = errno == EPIPE && !ws->failed;
            int failed = errno == EPIPE ? 128 + SIGPIPE : fail_stdout(-errno);
            if (!ws->failed) /* what was said first counts */
                ws->failed = fail_abandoning(ws, FRAMES_CLOSE_NORMAL, failed);
        }
    }
    ws->line_bytes = 0;
}

static void put(struct ws *ws, const void *bytes, size_t count)
{
    const uint8_t *from = bytes;
    while (count > 0) {
        size_t n = LINES_BYTES - ws->line_bytes;
        n = n < count ? n : count;
        memcpy(ws->lines + ws->line_bytes, from, n);
        ws->line_bytes += n;
        from += n;
        count -= n;
        if (ws->line_bytes == LINES_BYTES)
            write_lines(ws);
    }
}

static void put_text(struct ws *ws, const uint8_t *bytes, size_t count)
{
    for (size_t from = 0, i = 0; i <= count; i++) {
        if (i < count && bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != '\\')
            continue;
        put(ws, bytes + from, i - from);
        if (i < count)
            put(ws, bytes[i] == '\n' ? "\\n" : bytes[i] == '\r' ? "\\r" : "\\\\", 2);
        from = i + 1;
    }
}

static void put_hex(struct ws *ws, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    put(ws, "0x", 2);
    for (size_t i = 0; i < count; i++)
        put(ws, (const char[]){digits[bytes[i] >> 4], digits[bytes[i] & 15]}, 2);
}

/* ---- what comes in ---- */

/* A message per line: text with \ and line breaks escaped, binary as hex behind "0x". */
static void on_message(void *user, bool text, const uint8_t *bytes, size_t count)
{
    struct ws *ws = user;
    if (ws->phase != OPEN || ws->want_close)
        return; /* behind our CLOSE nothing counts */
    if (text)
        put_text(ws, bytes, count);
    else
        put_hex(ws, bytes, count);
    put(ws, "\n", 1);
    ws->report.messages++;
    ws->report.bytes += count;
    if (ws->options->count && ws->report.messages == (uint64_t)ws->options->count)
        begin_close(ws, FRAMES_CLOSE_NORMAL);
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

/* The reason is the peer's: it must not steer a terminal. */
static void log_close(const struct ws *ws, unsigned code, const uint8_t *reason, size_t count)
{
    char text[FRAMES_CONTROL_MAX + 1] = "";
    for (size_t i = 0; i < count && i < FRAMES_CONTROL_MAX; i++)
        text[i] = (char)(iscntrl(reason[i]) ? '?' : reason[i]);
    if (code && code != FRAMES_CLOSE_NORMAL)
        sluice_log(SLUICE_LOG_INFO, "%s: the peer closed the WebSocket: %u%s%s", ws->session.target,
                   code, *text ? " " : "", text);
}

/* The peer's half of the end. If ours is not out yet, it is answered with the same code. */
static void on_close(void *user, unsigned code, const uint8_t *reason, size_t reason_bytes)
{
    struct ws *ws = user;
    log_close(ws, code, reason, reason_bytes);
    if (ws->phase == OPEN) {
        ws->want_close = true;
        ws->close_code = code ? code : FRAMES_CLOSE_NORMAL;
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
        return fail_abandoning(ws, 0,
                               fail(SLUICE_REASON_PROTOCOL, "%s: %s", ws->session.target, why));
    if (n > 0) {
        ws->frames.at = ws->frames.limit = ws->frames.boundary = from + (uint64_t)n;
        ws->phase = OPEN;
        ws->give_up_ns = 0;
        sluice_client_set_ready(ws->client, 1);
    }
    return 0;
}

static void take_bytes(struct ws *ws, uint64_t end)
{
    if (ws->phase == UPGRADING && ws->frames.at < end)
        ws->failed = take_upgrade(ws, end);
    if (ws->failed || ws->phase == UPGRADING)
        return;
    unsigned broken = frames_decode(&ws->frames, end);
    if (broken && !ws->failed)
        ws->failed = fail_abandoning(ws, broken,
                                     fail(SLUICE_REASON_PROTOCOL, "%s: %s", ws->session.target,
                                          broken == FRAMES_CLOSE_TOO_BIG
                                              ? "a WebSocket message too long (over 64 MiB)"
                                              : "a broken WebSocket frame"));
}

/* A successor takes an open WebSocket over at a message's begin, or not at all. */
static void say_ready(struct ws *ws)
{
    bool unready = ws->phase == OPEN && !frames_can_be_resumed(&ws->frames);
    if (unready != ws->unready && ws->phase == OPEN)
        sluice_client_set_ready(ws->client, !unready);
    ws->unready = unready;
}

static void take_event(struct ws *ws, const struct sluice_meta *entry)
{
    if (entry->event == SLUICE_EVENT_DISCONNECTED) {
        ws->ended = true;
        ws->connection = entry->connection;
    } else if (entry->event == SLUICE_EVENT_EOF && !ws->want_fin && !ws->failed) {
        ws->failed = fail_abandoning(
            ws, 0,
            fail(SLUICE_REASON_PROTOCOL, "%s: the peer ended without a CLOSE%s", ws->session.target,
                 ws->phase == UPGRADING ? ", before the upgrade was answered" : ""));
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
    stages_take(&ws->report.stages, entries, (uint32_t)n);
    for (int64_t i = 0; i < n && !ws->failed && !ws->ended; i++) {
        if (entries[i].event == SLUICE_EVENT_DATA)
            take_bytes(ws, entries[i].msg_inbox_offset + entries[i].decrypted_len);
        else
            take_event(ws, &entries[i]);
    }
    write_lines(ws); /* before the release: a successor may repeat a line, none is lost */
    if (!ws->failed) {
        say_ready(ws);
        sluice_inbox_release_to(ws->client, (uint32_t)n, frames_keep_from(&ws->frames));
    }
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
    if (ws->phase == UPGRADING) {
        ws->failed = fail_abandoning(
            ws, 0,
            fail(SLUICE_REASON_TIMED_OUT, "%s: no answer to the upgrade", ws->session.target));
        return 0;
    }
    sluice_client_request_close(ws->client); /* it answers no more: FIN and the drain limit */
    ws->give_up_ns = 0;
    return -1;
}

static void wait_for_more(struct ws *ws)
{
    struct pollfd fds[] = {
        {.fd = sluice_client_fd(ws->client), .events = POLLIN},
        {.fd = stop_fd(), .events = POLLIN},
    };
    bool spin = options_idle(ws->options) == SLUICE_IDLE_BUSY;
    unsigned what =
        SLUICE_WAIT_INBOX | (ws->outbox_full || ws->pong_waits ? SLUICE_WAIT_OUTBOX : 0);
    int ms = timeout_ms(ws);
    int there = spin ? 0 : sluice_client_arm(ws->client, what);
    int n = poll(fds, sizeof(fds) / sizeof(fds[0]), there || spin ? 0 : ms);
    if ((!spin || (n > 0 && fds[0].revents)) && sluice_client_disarm(ws->client))
        heed_hangup(ws);
}

/* First signal: CLOSE in order. Second: at once. */
static bool heed_signals(struct ws *ws)
{
    if (stop_count() == 0)
        return true;
    stop_clear();
    ws->abandon |= ws->phase == UPGRADING;
    if (stop_count() > 1 || ws->phase == UPGRADING)
        return false;
    begin_close(ws, FRAMES_CLOSE_NORMAL);
    return true;
}

/* Reads what is left until DISCONNECTED, and throws it away. True: it came. */
static bool drain(struct ws *ws, int64_t until_ns)
{
    const struct sluice_meta *entries;
    int64_t n = 0;
    while (!ws->ended && n >= 0 && stop_count() < 2) {
        int64_t left = until_ns - now_ns();
        if (left <= 0 || sluice_client_wait(ws->client, SLUICE_WAIT_INBOX, left) == -EPIPE)
            break;
        n = sluice_inbox_peek(ws->client, &entries, ENTRIES_MAX);
        for (int64_t i = 0; i < n; i++)
            ws->ended |= entries[i].event == SLUICE_EVENT_DISCONNECTED;
        if (n > 0)
            sluice_inbox_release(ws->client, (uint32_t)n);
    }
    return ws->ended;
}

/* Say why to the peer, as far as there is room, and let the engine end it: a successor would read
 * from the middle of something. */
static void abandon(struct ws *ws)
{
    const uint8_t code[2] = {(uint8_t)(ws->abandon_as >> 8), (uint8_t)ws->abandon_as};
    sluice_client_set_ready(ws->client, 0);
    if (ws->abandon_as)
        frames_send(&ws->frames, ws->connection, WSLAY_CONNECTION_CLOSE, code, sizeof(code),
                    SLUICE_MESSAGE_WS_CLOSE);
    sluice_client_request_close(ws->client);
    drain(ws, now_ns() + ABANDON_NS);
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
        if (options_idle(ws->options) == SLUICE_IDLE_BUSY && ++spins % 1024)
            continue; /* the descriptors now and then */
        if (!ws->failed)
            wait_for_more(ws);
    }
    bool ended = ws->ended && !ws->failed;
    if (ws->abandon && !ws->ended)
        abandon(ws);
    return ended ? session_end(&ws->session, ws->connection) : ws->failed;
}

/* ---- the beginning ---- */

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
    ws->give_up_ns = now_ns() + ws->options->connect_timeout_ns;
    return 0;
}

/* Whether somebody read of this connection before us. */
static bool is_begun(const struct ws *ws, const struct sluice_state *st)
{
    uint64_t begin =
        st->close_count ? st->closes[(st->close_count - 1) % SLUICE_CLOSE_RECORDS].inbox_end : 0;
    return sluice_inbox_position(ws->client) != begin && st->conn_state == SLUICE_CONN_OPEN;
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
    stages_init(&ws->report.stages, ws->client);
    if (st.ready & SLUICE_READY_UPSTREAM) {
        ws->phase = OPEN;
        sluice_client_set_ready(ws->client, 1);
        sluice_log(SLUICE_LOG_INFO, "%s: resuming a WebSocket that is open", ws->session.target);
        return 0;
    }
    if (is_begun(ws, &st))
        return fail_remedy(SLUICE_REASON_PROTOCOL, "let the engine connect anew",
                           "%s: an upstream before us left in the middle of a message",
                           ws->session.target);
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
        failed = upgrade_target(o, tcp, sizeof(tcp), &target);
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
    bool nobody_reads = ws->nobody_reads;
    free(ws);
    if (nobody_reads) { /* as cat(1) ends when nobody reads its output any more */
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return failed;
}
