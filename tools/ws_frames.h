/*
 * WebSocket frames over a channel, with libwslay: frames out of the inbox's bytes, whole frames
 * into the outbox or PONGS. What the messages mean is ws.c's.
 */
#ifndef SLUICE_TOOLS_WS_FRAMES_H
#define SLUICE_TOOLS_WS_FRAMES_H

#include <sluice/channel.h>

#include <stdbool.h>
#include <wslay/wslay.h>

#define FRAMES_MESSAGE_MAX   (64ull << 20) /* longest message received */
#define FRAMES_FRAGMENTS_MAX (1ull << 20)  /* and in how many: wslay allocates for each */
#define FRAMES_CONTROL_MAX   125u          /* RFC 6455, 5.5 */

/* Codes of a CLOSE (RFC 6455, 7.4.1) */
#define FRAMES_CLOSE_NORMAL   1000u
#define FRAMES_CLOSE_PROTOCOL 1002u
#define FRAMES_CLOSE_TOO_BIG  1009u

struct frames_events {
    void (*message)(void *user, bool text, const uint8_t *bytes, size_t count);
    void (*ping)(void *user, const uint8_t *bytes, size_t count);
    /* code 0: none was given; reason is UTF-8 */
    void (*close)(void *user, unsigned code, const uint8_t *reason, size_t reason_bytes);
};

struct frames {
    struct sluice_client *client;
    const struct frames_events *events;
    void *user;
    wslay_event_context_ptr in;
    wslay_frame_context_ptr out;
    uint64_t at;       /* position of the next byte to decode */
    uint64_t limit;    /* wslay may read below this */
    uint64_t boundary; /* behind the last whole message: where a successor would start */
    uint64_t frame_end;
    uint8_t first;          /* byte of the frame that at lies in */
    bool in_frame;          /* at lies inside a frame that is longer than what can be kept */
    bool in_message;        /* a fragmented message is not over */
    uint64_t message_bytes; /* of it, so far */
    uint64_t message_frames;
    uint64_t keep_max; /* surely kept while more is waited for; longer frames go in pieces */
    uint8_t *room;     /* being filled with an outgoing frame */
    size_t room_used;
};

/** 0 or -ENOMEM. */
int frames_init(struct frames *f, struct sluice_client *client, uint64_t at,
                const struct frames_events *events, void *user);
void frames_fini(struct frames *f);

/**
 * Decode what lies below end; events are called. What follows the peer's CLOSE is skipped.
 *
 * @return 0, or the code of the CLOSE that tells the peer how it broke the protocol.
 */
unsigned frames_decode(struct frames *f, uint64_t end);

/** Bytes from here on must be kept: for a successor, from a message's begin. */
uint64_t frames_keep_from(const struct frames *f);

/** False: a message is too long to be kept whole, so a successor would start inside it. */
bool frames_can_be_resumed(const struct frames *f);

/** Queue one frame as one message of the outbox (PONGs: of PONGS): what claim answers. */
int frames_send(struct frames *f, uint32_t connection, unsigned opcode, const void *bytes,
                size_t count, unsigned type);
int frames_send_pong(struct frames *f, uint32_t connection, const void *bytes, size_t count);

/** Longest payload that frames_send() takes. */
size_t frames_send_limit(const struct frames *f);

#endif
