/*
 * A client of "URL|NAME": a NAME is attached to; for a URL an engine runs on a thread of this
 * process. cat and ws are written on top of it. What the bytes mean is theirs.
 */
#ifndef SLUICE_TOOLS_SESSION_H
#define SLUICE_TOOLS_SESSION_H

#include "options.h"

struct session_engine; /* the engine's thread, when there is one */

struct session {
    struct sluice_client *client; /* for the thread that called session_open() */
    uint32_t connection;          /* number of the connection that was open when we came */
    const struct options *options;
    const char *target; /* borrowed */
    struct session_engine *engine;
};

/**
 * Attach, and wait (--connect-timeout) until a connection is open. Returns 0, too, when it ended
 * already but left something to read: the entries up to DISCONNECTED tell.
 *
 * @param target  "tcp://host:port" or the name of a channel; borrowed while the session lives. ws
 *                makes the former out of ws://host:port/path.
 * @return 0, or an exit code after one line on stderr (nothing to close then).
 */
int session_open(struct session *s, const struct options *o, const char *target,
                 enum sluice_role role);

/** Detach; an engine of ours is stopped, its connection reset if it is still open. */
void session_close(struct session *s);

/**
 * After the DISCONNECTED entry (or -EPIPE from the client API): log its close record and return
 * the exit code, with one line on stderr when that is not 0.
 *
 * @param connection  number in the DISCONNECTED entry; 0: the engine is gone without one.
 */
int session_end(const struct session *s, uint32_t connection);

/** CLOCK_MONOTONIC, for deadlines. */
int64_t now_ns(void);

#endif
