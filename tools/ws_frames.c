/*
 * WebSocket frames over a channel, with libwslay. The inbox is contiguous to read, so each frame's
 * end is known before wslay gets its bytes: it never reads beyond it, and a message's end is a
 * position.
 */
#include "ws_frames.h"

#include <errno.h>
#include <openssl/rand.h>
#include <string.h>

#define HEADER_MAX  14u
#define OPCODE_BITS 0x0fu /* of a header's first byte */
#define CONTROL_BIT 0x08u /* CLOSE, PING, PONG */

/* ---- in ---- */

static ssize_t give_bytes(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags,
                          void *user)
{
    struct frames *f = user;
    uint64_t left = f->limit - f->at;
    (void)flags;
    if (left == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t n = left < len ? (size_t)left : len;
    memcpy(buf, sluice_inbox_at(f->client, f->at), n);
    f->at += n;
    return (ssize_t)n;
}

static void on_close(struct frames *f, const struct wslay_event_on_msg_recv_arg *arg)
{
    if (arg->msg_length > 2)
        f->events->close(f->user, arg->status_code, arg->msg + 2, arg->msg_length - 2);
    else
        f->events->close(f->user, arg->status_code, NULL, 0);
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user)
{
    struct frames *f = user;
    (void)ctx;
    if (arg->opcode == WSLAY_PING)
        f->events->ping(f->user, arg->msg, arg->msg_length);
    else if (arg->opcode == WSLAY_CONNECTION_CLOSE)
        on_close(f, arg);
    else if (!wslay_is_ctrl_frame(arg->opcode))
        f->events->message(f->user, arg->opcode == WSLAY_TEXT_FRAME, arg->msg, arg->msg_length);
}

/* Bytes of the header at p, and of the payload behind it; 0: more bytes are needed to tell. */
static unsigned header_at(const uint8_t *p, uint64_t there, uint64_t *payload)
{
    if (there < 2)
        return 0;
    unsigned extra = (p[1] & 0x7f) == 127 ? 8 : (p[1] & 0x7f) == 126 ? 2 : 0;
    *payload = extra ? 0 : p[1] & 0x7f;
    if (there < 2 + extra)
        return 0;
    for (unsigned i = 0; i < extra; i++)
        *payload = *payload << 8 | p[2 + i];
    return 2 + extra + (p[1] & 0x80 ? 4 : 0);
}

static void note_boundary(struct frames *f)
{
    bool control = f->first & CONTROL_BIT, fin = f->first & 0x80;
    if (!control)
        f->in_message = !fin;
    if (!control && fin)
        f->message_bytes = f->message_frames = 0;
    if (!f->in_message)
        f->boundary = f->at;
}

static bool run_wslay(struct frames *f)
{
    return wslay_event_recv(f->in) == 0 && f->at == f->limit &&
           (wslay_event_get_read_enabled(f->in) || wslay_event_get_close_received(f->in));
}

/* Look at the frame that begins at f->at. 1: it may be decoded; 0: more bytes first; else the code
 * of the CLOSE that refuses it. */
static unsigned begin_frame(struct frames *f, uint64_t there)
{
    const uint8_t *p = sluice_inbox_at(f->client, f->at);
    uint64_t payload;
    unsigned header = header_at(p, there, &payload);
    if (header == 0)
        return 0;
    bool control = *p & CONTROL_BIT;
    if (payload > FRAMES_MESSAGE_MAX - f->message_bytes || /* up to 2^64 - 1: no sum before this */
        (!control && f->message_frames == FRAMES_FRAGMENTS_MAX))
        return FRAMES_CLOSE_TOO_BIG;
    if ((*p & OPCODE_BITS) == WSLAY_CONNECTION_CLOSE && payload == 1) /* RFC 6455, 5.5.1 */
        return FRAMES_CLOSE_PROTOCOL;
    if (there < header + payload && header + payload <= f->keep_max)
        return 0;
    f->frame_end = f->at + header + payload;
    f->first = *p;
    if (!control) {
        f->message_bytes += payload;
        f->message_frames++;
    }
    return 1;
}

/* One frame, or what is there of a long one. */
static unsigned decode_frame(struct frames *f, uint64_t end)
{
    f->limit = f->frame_end < end ? f->frame_end : end;
    f->in_frame = f->limit < f->frame_end;
    if (!run_wslay(f))
        return FRAMES_CLOSE_PROTOCOL;
    if (!f->in_frame)
        note_boundary(f);
    return 0;
}

unsigned frames_decode(struct frames *f, uint64_t end)
{
    while (f->at < end) {
        if (wslay_event_get_close_received(f->in)) { /* RFC 6455, 5.5.1: nothing counts behind it */
            f->at = f->limit = f->boundary = end;
            return 0;
        }
        unsigned begun = f->in_frame ? 1 : begin_frame(f, end - f->at);
        if (begun != 1)
            return begun;
        unsigned broken = decode_frame(f, end);
        if (broken)
            return broken;
    }
    return 0;
}

uint64_t frames_keep_from(const struct frames *f)
{
    return frames_can_be_resumed(f) ? f->boundary : f->at;
}

bool frames_can_be_resumed(const struct frames *f)
{
    return f->at - f->boundary <= f->keep_max / 2;
}

/* ---- out ---- */

static ssize_t take_bytes(const uint8_t *data, size_t len, int flags, void *user)
{
    struct frames *f = user;
    (void)flags;
    memcpy(f->room + f->room_used, data, len);
    f->room_used += len;
    return (ssize_t)len;
}

static int make_mask(uint8_t *buf, size_t len, void *user)
{
    (void)user;
    return RAND_bytes(buf, (int)len) == 1 ? 0 : -1;
}

static size_t header_bytes(size_t count)
{
    return 2 + 4 + (count < 126 ? 0u : count < 65536 ? 2u : 8u);
}

static int write_frame(struct frames *f, unsigned opcode, const void *bytes, size_t count)
{
    struct wslay_frame_iocb iocb = {.fin = 1,
                                    .opcode = (uint8_t)opcode,
                                    .payload_length = count,
                                    .mask = 1,
                                    .data = bytes,
                                    .data_length = count};
    f->room_used = 0;
    do {
        ssize_t n = wslay_frame_send(f->out, &iocb);
        if (n < 0)
            return -EIO;
        iocb.data += n;
        iocb.data_length -= (size_t)n;
    } while (iocb.data_length > 0);
    return 0;
}

int frames_send(struct frames *f, uint32_t connection, unsigned opcode, const void *bytes,
                size_t count, unsigned type)
{
    void *room;
    int err = sluice_outbox_claim(f->client, header_bytes(count) + count, &room);
    if (err)
        return err;
    f->room = room;
    err = write_frame(f, opcode, bytes, count);
    if (err)
        sluice_outbox_abort(f->client);
    else
        sluice_outbox_commit(f->client, connection, type);
    return err;
}

int frames_send_pong(struct frames *f, uint32_t connection, const void *bytes, size_t count)
{
    void *room;
    int err = sluice_pong_claim(f->client, header_bytes(count) + count, &room);
    if (err)
        return err;
    f->room = room;
    err = write_frame(f, WSLAY_PONG, bytes, count);
    if (err)
        sluice_pong_abort(f->client);
    else
        sluice_pong_commit(f->client, connection);
    return err;
}

size_t frames_send_limit(const struct frames *f)
{
    return sluice_outbox_limit(f->client) - HEADER_MAX;
}

/* ---- life ---- */

int frames_init(struct frames *f, struct sluice_client *client, uint64_t at,
                const struct frames_events *events, void *user)
{
    const struct wslay_event_callbacks in = {.recv_callback = give_bytes,
                                             .on_msg_recv_callback = on_message};
    const struct wslay_frame_callbacks out = {.send_callback = take_bytes,
                                              .genmask_callback = make_mask};
    struct sluice_state st;
    sluice_client_state(client, &st);
    *f = (struct frames){.client = client,
                         .keep_max = st.inbox_bytes / 2,
                         .events = events,
                         .user = user,
                         .at = at,
                         .limit = at,
                         .boundary = at};
    if (wslay_event_context_client_init(&f->in, &in, f))
        return -ENOMEM;
    if (wslay_frame_context_init(&f->out, &out, f)) {
        wslay_event_context_free(f->in);
        return -ENOMEM;
    }
    /* Answers are ours, through PONGS and the outbox: wslay queues none. */
    wslay_event_shutdown_write(f->in);
    wslay_event_config_set_max_recv_msg_length(f->in, FRAMES_MESSAGE_MAX);
    return 0;
}

void frames_fini(struct frames *f)
{
    wslay_event_context_free(f->in);
    wslay_frame_context_free(f->out);
}
