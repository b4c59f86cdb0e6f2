/*
 * An engine from options: loop, channel and transport, with core, priority and locked memory as
 * asked for. Runs on the thread that opens it. Signals and what is printed are the command's.
 */
#ifndef SLUICE_TOOLS_ENGINE_H
#define SLUICE_TOOLS_ENGINE_H

#include "options.h"

struct engine {
    struct sluice_loop *loop;
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    struct sluice_tls_config tls;
};

/**
 * Create everything and start connecting; the caller then runs e->loop on this thread.
 *
 * @param name    of the channel; NULL: private.
 * @param url     tcp://host:port
 * @param events  of the transport; borrowed for this call.
 * @return 0, or an exit code after one line on stderr (nothing is left behind then).
 */
int engine_open(struct engine *e, const struct options *o, const char *name, const char *url,
                const struct sluice_transport_events *events, void *user);

/** Free all; a connection that is open is reset. */
void engine_close(struct engine *e);

#endif
