/*
 * sluice cat: stdin -> outbox, inbox -> stdout, byte-exact. A pump of two directions around one
 * poll(2). Connecting and attaching are session.c's.
 */
#include "tools.h"

#include "fail.h"
#include "session.h"
#include "stop.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_BYTES_MAX (64u << 10)
#define WRITE_BYTES_MAX   (256u << 10) /* released together: the rest of the inbox can fill again */
#define ENTRIES_MAX       256u
#define SILENCE_NS        1000000000ll /* of stdin, after the peer's end */

struct cat {
    struct session session;
    struct sluice_client *client;
    uint8_t message[MESSAGE_BYTES_MAX]; /* read, and not in the outbox yet */
    size_t message_bytes, message_bytes_max;
    bool stdin_ended, half_closed;
    bool outbox_full;
    bool peer_ended, close_requested;
    int64_t last_input_ns;
    bool closed; /* DISCONNECTED came */
    uint32_t closed_connection;
    bool stdout_gone;
    int failed; /* exit code of what ended us, said already */
};

/* ---- inbox -> stdout ---- */

/* EAGAIN: somebody gave us a non-blocking stdout. False: nobody reads it, or a second signal. */
static bool write_all(struct cat *cat, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, count);
        if (n >= 0) {
            bytes += n;
            count -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
            poll(&out, 1, -1);
        } else if (errno != EINTR) {
            cat->stdout_gone = errno == EPIPE;
            cat->failed = errno == EPIPE ? 128 + SIGPIPE : fail_stdout(-errno);
            return false;
        }
        if (stop_count() > 1)
            return false;
    }
    return true;
}

static void take_event(struct cat *cat, const struct sluice_meta *entry)
{
    if (entry->event == SLUICE_EVENT_EOF) {
        cat->peer_ended = true;
        cat->last_input_ns = now_ns();
    } else if (entry->event == SLUICE_EVENT_DISCONNECTED) {
        cat->closed = true;
        cat->closed_connection = entry->connection;
    }
}

/* The entries one write can take: data without a break, or one event. */
static uint32_t take_run(struct cat *cat, const struct sluice_meta *entries, uint32_t count)
{
    if (entries[0].event != SLUICE_EVENT_DATA) {
        take_event(cat, &entries[0]);
        return 1;
    }
    uint32_t taken = 1;
    size_t bytes = entries[0].decrypted_len;
    while (taken < count && entries[taken].event == SLUICE_EVENT_DATA &&
           entries[taken].msg_inbox_offset == entries[0].msg_inbox_offset + bytes &&
           bytes + entries[taken].decrypted_len <= WRITE_BYTES_MAX)
        bytes += entries[taken++].decrypted_len;
    const uint8_t *at = sluice_inbox_at(cat->client, entries[0].msg_inbox_offset);
    return write_all(cat, at, bytes) ? taken : 0;
}

/* True: there may be more. */
static bool pump_inbox(struct cat *cat)
{
    const struct sluice_meta *entries;
    int64_t count = sluice_inbox_peek(cat->client, &entries, ENTRIES_MAX);
    if (count < 0) {
        cat->failed = fail_errno((int)count, "%s: inbox", cat->session.target);
        return false;
    }
    if (count == 0 || cat->closed)
        return false;
    uint32_t taken = take_run(cat, entries, (uint32_t)count);
    if (taken == 0)
        return false;
    sluice_inbox_release(cat->client, taken);
    return !cat->closed;
}

/* ---- stdin -> outbox ---- */

static void read_stdin(struct cat *cat)
{
    ssize_t n = read(STDIN_FILENO, cat->message, cat->message_bytes_max);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        sluice_log(SLUICE_LOG_WARN, "stdin: %s: taken as its end", strerror(errno));
    cat->stdin_ended = n <= 0;
    cat->message_bytes = n > 0 ? (size_t)n : 0;
    cat->last_input_ns = now_ns();
}

/* Put a message into the outbox; 0 bytes: the half-close. */
static void send_message(struct cat *cat, size_t bytes, enum sluice_message_type type)
{
    void *room;
    int error = sluice_outbox_claim(cat->client, bytes, &room);
    cat->outbox_full = error == -EAGAIN;
    if (cat->outbox_full)
        return;
    if (error) {
        cat->failed = fail_errno(error, "%s: outbox", cat->session.target);
        return;
    }
    if (bytes > 0)
        memcpy(room, cat->message, bytes);
    sluice_outbox_commit(cat->client, cat->session.connection, type);
    cat->message_bytes = 0;
    cat->half_closed = type == SLUICE_MESSAGE_WS_CLOSE;
}

static void pump_outbox(struct cat *cat)
{
    if (cat->half_closed || cat->close_requested)
        return;
    if (cat->message_bytes > 0)
        send_message(cat, cat->message_bytes, SLUICE_MESSAGE_DATA);
    else if (cat->stdin_ended)
        send_message(cat, 0, SLUICE_MESSAGE_WS_CLOSE);
}

/* ---- both ---- */

static void request_close(struct cat *cat)
{
    if (cat->close_requested)
        return;
    cat->close_requested = true;
    int error = sluice_client_request_close(cat->client);
    if (error)
        cat->failed = fail_errno(error, "%s: asking for the end", cat->session.target);
}

static bool wants_stdin(const struct cat *cat)
{
    return !cat->stdin_ended && cat->message_bytes == 0 && !cat->close_requested;
}

/* After the peer's end, stdin may go on for as long as it does not pause. */
static int64_t silence_left_ns(const struct cat *cat)
{
    if (!cat->peer_ended || !wants_stdin(cat))
        return -1;
    int64_t left = cat->last_input_ns + SILENCE_NS - now_ns();
    return left > 0 ? left : 0;
}

/* Sleeps until something can go on; reads stdin when it is its turn. */
static void wait_and_read(struct cat *cat)
{
    struct pollfd fds[] = {
        {.fd = wants_stdin(cat) ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = sluice_client_fd(cat->client), .events = POLLIN},
        {.fd = stop_fd(), .events = POLLIN},
    };
    int64_t left = silence_left_ns(cat);
    int timeout_ms = left < 0 ? -1 : (int)((left + 999999) / 1000000);
    unsigned what = SLUICE_WAIT_INBOX | (cat->outbox_full ? SLUICE_WAIT_OUTBOX : 0u);
    int there = sluice_client_arm(cat->client, what);
    int n = poll(fds, sizeof(fds) / sizeof(fds[0]), there ? 0 : timeout_ms);
    int gone = sluice_client_disarm(cat->client);
    if (n < 0)
        return; /* EINTR: stop_count() tells */
    if (fds[0].revents)
        read_stdin(cat);
    else if (left == 0)
        request_close(cat);
    if (gone) {
        while (!cat->failed && pump_inbox(cat)) {
            /* what the engine left behind */
        }
        if (!cat->closed && !cat->failed)
            cat->failed = session_end(&cat->session, 0);
    }
}

/* A connection of ours ends in order; one of another process's engine goes on without us. */
static bool heed_signals(struct cat *cat)
{
    if (stop_count() == 0)
        return true;
    stop_clear();
    if (!cat->session.engine || stop_count() > 1)
        return false;
    request_close(cat);
    return true;
}

static int pump(struct cat *cat)
{
    cat->last_input_ns = now_ns();
    while (!cat->closed && !cat->failed && heed_signals(cat)) {
        bool more = pump_inbox(cat);
        if (!more && (cat->closed || cat->failed))
            break;
        pump_outbox(cat);
        if (!cat->failed)
            wait_and_read(cat);
    }
    if (cat->failed || !cat->closed)
        return cat->failed;
    if (cat->message_bytes > 0)
        sluice_log(SLUICE_LOG_WARN, "%zu bytes of stdin were not sent: the connection ended first",
                   cat->message_bytes);
    return session_end(&cat->session, cat->closed_connection);
}

/* As cat(1) ends when nobody reads its output any more. */
static void die_of_sigpipe(void)
{
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

int cmd_cat(struct options *o)
{
    static struct cat cat;
    int failed = stop_install();
    if (!failed)
        failed = session_open(&cat.session, o, o->args[0], SLUICE_UPSTREAM);
    if (failed)
        return failed;
    cat.client = cat.session.client;
    cat.message_bytes_max = sluice_outbox_limit(cat.client);
    if (cat.message_bytes_max > MESSAGE_BYTES_MAX)
        cat.message_bytes_max = MESSAGE_BYTES_MAX;
    sluice_client_set_ready(cat.client, 1);
    failed = pump(&cat);
    session_close(&cat.session);
    if (cat.stdout_gone)
        die_of_sigpipe();
    return failed;
}
