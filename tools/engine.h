/*
 * An engine from options: a loop, its channels and transports, with core, priority and locked
 * memory as asked for. Runs on the thread that opens it. Signals and what is printed are the
 * command's.
 */
#ifndef SLUICE_TOOLS_ENGINE_H
#define SLUICE_TOOLS_ENGINE_H

#include "options.h"

/* One connection with its channel. */
struct engine_feed {
    const struct options *options; /* the caller's, borrowed: these four */
    const char *name;              /* of the channel; NULL: private */
    const char *url;               /* tcp://host:port, tls://host:port */
    void *user;                    /* of the transport's events */
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    struct sluice_tls_config tls;
};

struct engine {
    struct sluice_loop *loop;
    struct engine_feed *feeds;
    uint32_t count;
};

/**
 * Create everything and start connecting; the caller then runs e->loop on this thread.
 *
 * @param o       what is the engine's: backend, cores and so on.
 * @param feeds   borrowed until engine_close().
 * @param events  of each transport; borrowed for this call.
 * @return 0, or an exit code after one line on stderr (nothing is left behind then).
 */
int engine_open(struct engine *e, const struct options *o, struct engine_feed *feeds,
                uint32_t count, const struct sluice_transport_events *events);

/** Free all; connections that are open are reset. */
void engine_close(struct engine *e);

#endif
