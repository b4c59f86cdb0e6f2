/*
 * What peer, upstream and run share: the stream that the peer sends, the messages that the upstream
 * does, and the scripts that both follow.
 */
#ifndef MODELS_H
#define MODELS_H

#include "tests/support/threads.h"

#include <stdbool.h>
#include <stdint.h>

struct peer;
struct upstream;

#define ANY_BYTES UINT64_MAX

/* One script of behaviour; each side runs its own half. */
struct script {
    const char *name;
    void (*peer)(struct peer *p);
    void (*upstream)(struct upstream *u);
    uint32_t inbox_bytes, outbox_bytes, metadata_entries; /* 0: the default */
    uint32_t reason;                                      /* how it must end */
    uint64_t received_bytes;                              /* ANY_BYTES: as time has it */
    uint32_t sent_messages, sent_pongs;
};

extern const struct script scripts[];
extern const unsigned script_count;

/* In front of each message of the upstream's; its bytes follow. */
struct message_header {
    uint32_t bytes; /* with this header */
    uint32_t number;
    uint32_t is_pong;
    uint32_t check;
};

#define MESSAGE_CHECK(h) ((h)->bytes * 31u ^ (h)->number * 17u ^ (h)->is_pong ^ 0x51u)

/* Byte `at` of the peer's stream, or of a message. */
static inline uint8_t stream_byte(uint64_t at)
{
    return (uint8_t)(at * 167u ^ at >> 9);
}

void stream_fill(uint8_t *to, uint64_t at, uint64_t bytes);
bool stream_matches(const uint8_t *bytes, uint64_t at, uint64_t count);

#endif
