/*
 * A loop, a channel and a transport, opened and run to the end: what the programs that need the
 * whole engine share. Its upstream is in line, or on a thread of its own.
 */
#ifndef BENCH_WHOLE_H
#define BENCH_WHOLE_H

#include "bench.h"
#include "sluice.h"

struct engine_config {
    uint16_t port; /* of 127.0.0.1 */
    const char *name;
    const char *backend; /* NULL: auto */
    enum sluice_idle idle;
    enum sluice_receive receive;
    uint64_t inbox_bytes;
    uint32_t metadata_entries;
    const struct sluice_tls_config *tls; /* NULL: plain */
    enum sluice_ktls ktls;
    enum sluice_model model;
    bool attach;                     /* an upstream in line */
    void *(*upstream)(void *client); /* a thread's function, struct sluice_client *; or NULL */
    struct sluice_transport_events events;
    void *user;
};

/* How it ended. */
struct engine_end {
    struct sluice_state state;
    struct sluice_close_record record;
};

/** The loop that engine_run() runs, while it does; for sluice_loop_stop(). */
extern struct sluice_loop *engine_loop;

/** What an upstream has in its inbox, released: its bytes. */
uint64_t engine_take(struct sluice_client *c);

/** Connect, run until the connection is closed or the loop stopped, clean up. */
void engine_run(const struct engine_config *cfg, struct engine_end *end);

#endif
