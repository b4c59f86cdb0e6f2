/*
 * Messages of sluice load as bytes, and back.
 */
#include "load_wire.h"

#include <errno.h>
#include <string.h>

#define FIN        0x80u
#define RESERVED   0x70u
#define MASKED     0x80u
#define CRC_POLY   0xedb88320u
#define LENGTH_16  126u
#define LENGTH_64  127u
#define CHECKED_AT 8u /* where what the checksum covers begins */

/* ---- numbers ---- */

static void put_little(uint8_t *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_little(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* ---- checksum ---- */

/* Eight bytes at a time: table k is what a byte does that k more stand behind. */
static uint32_t crc_table[8][256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (unsigned bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? CRC_POLY : 0);
        crc_table[0][i] = value;
    }
    for (unsigned k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            crc_table[k][i] = crc_table[k - 1][i] >> 8 ^ crc_table[0][crc_table[k - 1][i] & 255];
}

uint32_t wire_crc(uint32_t crc, const uint8_t *bytes, size_t count)
{
    size_t i = 0;
    if (crc_table[0][1] == 0)
        make_crc_table();
    crc = ~crc;
    for (; i + 8 <= count; i += 8) {
        uint64_t word = get_little(bytes + i, 8) ^ crc;
        crc = 0;
        for (unsigned k = 0; k < 8; k++)
            crc ^= crc_table[7 - k][word >> (8 * k) & 255];
    }
    for (; i < count; i++)
        crc = crc >> 8 ^ crc_table[0][(crc ^ bytes[i]) & 255];
    return ~crc;
}

/* ---- writing ---- */

static void put_big(uint8_t *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

size_t wire_write_header(uint8_t *out, uint8_t first, uint64_t bytes)
{
    out[0] = first;
    if (bytes < LENGTH_16) {
        out[1] = (uint8_t)bytes;
        return 2;
    }
    bool is_short = bytes <= UINT16_MAX;
    out[1] = is_short ? LENGTH_16 : LENGTH_64;
    put_big(out + 2, bytes, is_short ? 2 : 8);
    return is_short ? 4 : 10;
}

static void apply_mask(uint8_t *out, const uint8_t *from, const uint8_t mask[4], uint64_t at,
                       size_t count)
{
    uint8_t turned[8];
    for (unsigned i = 0; i < 8; i++)
        turned[i] = mask[(at + i) & 3];
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t word, with;
        memcpy(&word, from + i, 8);
        memcpy(&with, turned, 8);
        word ^= with;
        memcpy(out + i, &word, 8);
    }
    for (; i < count; i++)
        out[i] = (uint8_t)(from[i] ^ turned[i & 7]);
}

size_t wire_write_frame(uint8_t *out, uint8_t first, const uint8_t mask[4], const uint8_t *payload,
                        size_t bytes)
{
    size_t header = wire_write_header(out, first, bytes);
    if (mask) {
        out[1] |= MASKED;
        memcpy(out + header, mask, 4);
        header += 4;
        apply_mask(out + header, payload, mask, 0, bytes);
    } else if (bytes) {
        memmove(out + header, payload, bytes);
    }
    return header + bytes;
}

static uint8_t pattern[4096];

static void make_pattern(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(1 + i * 131 + (i >> 8));
}

static void put_payload(uint8_t *out, bool verify, uint64_t number, size_t size)
{
    if (pattern[0] == 0)
        make_pattern();
    for (size_t at = 0; at < size; at += sizeof(pattern))
        memcpy(out + at, pattern, size - at < sizeof(pattern) ? size - at : sizeof(pattern));
    if (!verify)
        return;
    put_little(out, size, 4);
    put_little(out + CHECKED_AT, number, 8);
    put_little(out + 4, wire_crc(0, out + CHECKED_AT, size - CHECKED_AT), 4);
}

size_t wire_write(uint8_t *out, enum wire_kind kind, const uint8_t mask[4], bool verify,
                  uint64_t number, size_t size)
{
    if (kind != WIRE_FRAMES) {
        put_payload(out, verify, number, size);
        return size;
    }
    uint8_t *payload = out + WIRE_FRAME_MAX; /* the frame moves it down to where it belongs */
    put_payload(payload, verify, number, size);
    return wire_write_frame(out, FIN | WIRE_OPCODE_BINARY, mask, payload, size);
}

/* ---- reading: payloads ---- */

static void check_payload(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    uint64_t at = r->at;
    for (; count > 0 && at < WIRE_CHECK_BYTES; at++, bytes++, count--) {
        r->check[at] = *bytes;
        if (at >= CHECKED_AT)
            r->crc = wire_crc(r->crc, bytes, 1);
    }
    r->crc = wire_crc(r->crc, bytes, count);
}

static void begin_message(struct wire_reader *r)
{
    r->at = 0;
    r->crc = 0;
}

static void end_message(struct wire_reader *r)
{
    struct wire_message message = {.bytes = r->at};
    if (r->verify) {
        message.intact = r->at >= WIRE_CHECK_BYTES && get_little(r->check, 4) == r->at &&
                         get_little(r->check + 4, 4) == r->crc;
        message.number = get_little(r->check + CHECKED_AT, 8);
    }
    begin_message(r);
    r->events->message(r->user, &message);
}

static void take_payload(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    if (r->verify)
        check_payload(r, bytes, count);
    r->at += count;
    r->left -= count;
    if (r->events->payload)
        r->events->payload(r->user, bytes, count);
}

/* ---- reading: raw ---- */

/* The length of a checked message is its first word: until that is whole, byte by byte. */
static int take_length(struct wire_reader *r, const uint8_t *byte)
{
    r->left = 1;
    take_payload(r, byte, 1);
    if (r->at < 4)
        return 0;
    uint64_t whole = get_little(r->check, 4);
    if (whole < WIRE_CHECK_BYTES || whole > WIRE_MESSAGE_MAX)
        return -EPROTO;
    r->left = whole - r->at;
    r->in_payload = true;
    return 0;
}

static int take_raw(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        if (!r->in_payload && r->kind == WIRE_CHECKED) {
            int err = take_length(r, bytes + at++);
            if (err)
                return err;
            continue;
        }
        if (!r->in_payload) {
            r->left = r->events->size(r->user);
            r->in_payload = true;
            if (r->left == 0)
                return -EPROTO;
        }
        size_t n = r->left < count - at ? (size_t)r->left : count - at;
        take_payload(r, bytes + at, n);
        at += n;
        if (r->left == 0) {
            r->in_payload = false;
            end_message(r);
        }
    }
    return 0;
}

/* ---- reading: frames ---- */

static uint32_t header_length(const struct wire_reader *r)
{
    if (r->header_bytes < 2)
        return 2;
    uint8_t length = r->header[1] & 0x7f;
    return 2 + (length == LENGTH_16 ? 2u : length == LENGTH_64 ? 8u : 0u) + (r->masked ? 4u : 0u);
}

static bool is_control(const struct wire_reader *r)
{
    return r->header[0] & 0x08;
}

static int begin_frame(struct wire_reader *r)
{
    const uint8_t *at = r->header + 2;
    r->left = r->header[1] & 0x7f;
    unsigned wide = r->left == LENGTH_16 ? 2 : r->left == LENGTH_64 ? 8 : 0;
    if (wide)
        r->left = 0;
    for (unsigned i = 0; i < wide; i++)
        r->left = r->left << 8 | *at++;
    if ((r->header[0] & RESERVED) || !(r->header[1] & MASKED) != !r->masked ||
        r->left > WIRE_MESSAGE_MAX || (is_control(r) && r->left > WIRE_CONTROL_MAX))
        return -EPROTO;
    r->in_payload = true;
    r->frame_at = 0;
    if (!is_control(r) && (r->header[0] & 0x0f) != 0)
        begin_message(r);
    if (!is_control(r) && r->events->frame)
        r->events->frame(r->user, r->header[0], r->left);
    return 0;
}

static void take_frame_bytes(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    if (is_control(r)) {
        memcpy(r->control + r->frame_at, bytes, count);
        r->left -= count;
    } else {
        take_payload(r, bytes, count);
    }
    r->frame_at += count;
}

static size_t take_some_of_frame(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    size_t n = r->left < count ? (size_t)r->left : count;
    if (r->masked) {
        n = n < sizeof(r->scratch) ? n : sizeof(r->scratch);
        apply_mask(r->scratch, bytes, r->header + header_length(r) - 4, r->frame_at, n);
        bytes = r->scratch;
    }
    take_frame_bytes(r, bytes, n);
    return n;
}

static void end_frame(struct wire_reader *r)
{
    r->header_bytes = 0;
    r->in_payload = false;
    if (is_control(r))
        r->events->control(r->user, r->header[0] & 0x0f, r->control, (size_t)r->frame_at);
    else if (r->header[0] & FIN)
        end_message(r);
}

static int take_frames(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    size_t at = 0;
    while (at < count || (r->in_payload && r->left == 0)) {
        if (r->in_payload) {
            at += take_some_of_frame(r, bytes + at, count - at);
            if (r->left == 0)
                end_frame(r);
            continue;
        }
        r->header[r->header_bytes++] = bytes[at++];
        int err = r->header_bytes < 2 || r->header_bytes < header_length(r) ? 0 : begin_frame(r);
        if (err)
            return err;
    }
    return 0;
}

int wire_take(struct wire_reader *r, const uint8_t *bytes, size_t count)
{
    return r->kind == WIRE_FRAMES ? take_frames(r, bytes, count) : take_raw(r, bytes, count);
}
