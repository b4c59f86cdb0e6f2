/*
 * Messages of sluice load as bytes: what stands in one, WebSocket frames (RFC 6455, 5.2) around it,
 * and finding both again in a stream that comes in pieces of any size. No sockets, no clock.
 *
 * With --verify a message begins with three numbers, little-endian: u32 its bytes, all included,
 * u32 CRC-32 of what follows, u64 its number. Without, it is a pattern.
 */
#ifndef SLUICE_TOOLS_LOAD_WIRE_H
#define SLUICE_TOOLS_LOAD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_CHECK_BYTES   16u
#define WIRE_FRAME_MAX     14u /* header of a frame with a mask */
#define WIRE_CONTROL_MAX   125u
#define WIRE_MESSAGE_MAX   (16u << 20)
#define WIRE_OPCODE_BINARY 2u
#define WIRE_OPCODE_CLOSE  8u
#define WIRE_OPCODE_PING   9u
#define WIRE_OPCODE_PONG   10u

/* How messages are told apart. */
enum wire_kind {
    WIRE_RAW,     /* by events->size */
    WIRE_CHECKED, /* by the length that stands in each */
    WIRE_FRAMES,  /* WebSocket */
};

struct wire_message {
    uint64_t bytes;
    uint64_t number; /* when checked */
    bool intact;     /* checked and whole: length and checksum are right */
};

struct wire_events {
    /* WIRE_RAW: bytes of the message that comes next; 0: none is to come, which is an error. */
    uint64_t (*size)(void *user);
    /* WIRE_FRAMES, may be NULL: a data frame begins; its payload follows, unmasked, in pieces. */
    void (*frame)(void *user, uint8_t first, uint64_t bytes);
    void (*payload)(void *user, const uint8_t *bytes, size_t count);
    /* A whole message. */
    void (*message)(void *user, const struct wire_message *message);
    /* WIRE_FRAMES: a whole control frame. */
    void (*control)(void *user, unsigned opcode, const uint8_t *bytes, size_t count);
};

/* The state of one stream; zero but for the first five. */
struct wire_reader {
    enum wire_kind kind;
    bool verify; /* look into payloads */
    bool masked; /* frames must be: they come from a client */
    const struct wire_events *events;
    void *user;

    uint8_t header[WIRE_FRAME_MAX];
    uint32_t header_bytes;
    bool in_payload;
    uint64_t left;  /* of the frame, or of the raw message */
    uint64_t at;    /* of the message: bytes before */
    uint64_t whole; /* raw: its bytes */
    uint64_t frame_at;
    uint8_t check[WIRE_CHECK_BYTES];
    uint32_t crc;
    uint8_t control[WIRE_CONTROL_MAX];
    uint8_t scratch[4096]; /* payload unmasked */
};

/** Take bytes of the stream: 0, or -EPROTO what came is no message (nothing can be read on). */
int wire_take(struct wire_reader *r, const uint8_t *bytes, size_t count);

/** Write a message of size bytes. Returns the bytes written: size, and more with frames (then
 *  masked, as a client's, unless mask is NULL). */
size_t wire_write(uint8_t *out, enum wire_kind kind, const uint8_t mask[4], bool verify,
                  uint64_t number, size_t size);

/** Write a frame's header and payload. first: FIN and opcode. */
size_t wire_write_frame(uint8_t *out, uint8_t first, const uint8_t mask[4], const uint8_t *payload,
                        size_t bytes);

/** Only the header of a frame that is not masked. */
size_t wire_write_header(uint8_t *out, uint8_t first, uint64_t bytes);

/** CRC-32 (IEEE 802.3, as zlib has it) of more bytes; it begins with 0. */
uint32_t wire_crc(uint32_t crc, const uint8_t *bytes, size_t count);

#endif
