/*
 * The numbered, market-data-like stream of sluice load --serve feed: what is due, and as text. The
 * connections are load_serve.c's.
 */
#ifndef SLUICE_TOOLS_LOAD_FEED_H
#define SLUICE_TOOLS_LOAD_FEED_H

#include "options.h"

/* One client's. Zero but for the first two before it subscribes. */
struct feed {
    const struct options *options; /* rate, burst, duration */
    struct sluice_conn *conn;
    int64_t began_ns; /* its first message came; 0: not yet */
    uint64_t steady, bursts, sent, sent_bytes;
    uint64_t received, pings, pongs;
    bool said_end;
};

/** Send what is due: --rate a second, once a second --burst more, a PING a second, and behind
 *  --duration how many they were, and CLOSE. What the queue does not take waits. */
void feed_push(struct feed *f, int64_t now);

/** The counts as a JSON object into the file at path: 0, or an exit code after one line on stderr.
 */
int feed_report(const struct feed *f, const char *path);

#endif
