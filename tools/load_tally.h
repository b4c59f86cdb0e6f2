/*
 * What sluice load counts: per interval and in all. Values only.
 */
#ifndef SLUICE_TOOLS_LOAD_TALLY_H
#define SLUICE_TOOLS_LOAD_TALLY_H

#include "hist.h"

#define LOAD_LATE_NS 1000000u /* a send that late was missed */

/** X(name, key in JSON, what it counts) */
#define LOAD_COUNT_MAP(X)                                                                        \
    X(sent, "sent_messages", "messages sent")                                                    \
    X(answered, "answered_messages", "messages that came: answers, or what a source sent")       \
    X(sent_bytes, "sent_bytes", "bytes sent, frames included")                                   \
    X(received_bytes, "received_bytes", "bytes that came, frames included")                      \
    X(opened, "opened_connections", "connections that opened")                                   \
    X(failed, "failed_connections", "connections that did not open, or ended before their time") \
    X(missed, "missed_messages", "messages sent more than 1 ms after they were due")             \
    X(lost, "lost_messages", "verify: messages that never came")                                 \
    X(duplicated, "duplicated_messages", "verify: messages that came again")                     \
    X(reordered, "reordered_messages", "verify: messages that came behind a later one")          \
    X(corrupted, "corrupted_messages", "verify: messages that came changed")                     \
    X(resumed, "resumed_connections", "connect: those opened whose TLS session was resumed")

enum load_count {
#define LOAD_COUNT_ENUM(name, key, text) LOAD_##name,
    LOAD_COUNT_MAP(LOAD_COUNT_ENUM)
#undef LOAD_COUNT_ENUM
        LOAD_COUNTS
};

struct tally {
    uint64_t count[LOAD_COUNTS];
    struct hist latency; /* rate: since the message was due; connect: until it was open */
    struct hist service; /* rate: since it was sent: what a tool without a schedule would say */
    struct hist late;    /* rate: from due to sent */
};

/** Key of a count in JSON. */
const char *tally_key(enum load_count which);

void tally_add(struct tally *t, const struct tally *other);
void tally_clear(struct tally *t);

#endif
