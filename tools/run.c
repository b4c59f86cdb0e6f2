/*
 * sluice run: the engine as a process of its own. Prints one line when the connection opens and one
 * for its close record; ends in order on SIGINT and SIGTERM.
 */
#include "tools.h"

#include "engine.h"
#include "fail.h"
#include "stop.h"

#include <inttypes.h>
#include <stddef.h>

#define NAME_DEFAULT "sluice"

struct run {
    struct engine engine;
    const char *url;
    struct sluice_close_record record;
    bool closed;
};

static void on_open(struct sluice_transport *t, void *user)
{
    (void)t;
    struct run *run = user;
    struct sluice_state s;
    sluice_channel_state(run->engine.channel, &s);
    sluice_log(SLUICE_LOG_INFO,
               "connection %" PRIu32 " open: %s, name %s; backend %s (%s); model %s (%s); "
               "TLS %s (%s)",
               s.connection, s.peer, s.name, s.backend, s.backend_reason, s.model, s.model_reason,
               s.tls, s.tls_reason);
}

static void on_close(struct sluice_transport *t, const struct sluice_close_record *record,
                     void *user)
{
    (void)t;
    struct run *run = user;
    char text[400];
    run->record = *record;
    run->closed = true;
    record_text(record, text, sizeof(text)); /* never open: the last line will say the same */
    sluice_log(record->opened_ns ? SLUICE_LOG_INFO : SLUICE_LOG_DEBUG, "%s", text);
}

/* First signal: end in order. Second: at once. */
static int run_until_closed(struct run *run)
{
    unsigned heeded = 0;
    while (!run->closed) {
        int error = sluice_loop_run(run->engine.loop);
        if (error < 0)
            return fail_errno(error, "event loop");
        for (; heeded < stop_count() && !run->closed; heeded++) {
            sluice_log(SLUICE_LOG_INFO, heeded == 0
                                            ? "ending in order; a second signal ends at once"
                                            : "ending at once");
            sluice_transport_close(run->engine.transport);
        }
    }
    return 0;
}

static void warn_of_unread(const struct run *run)
{
    struct sluice_state s;
    sluice_channel_state(run->engine.channel, &s);
    uint64_t unread = s.inbox_tail - s.inbox_head;
    if (unread > 0 && s.upstream_pid == 0)
        sluice_log(SLUICE_LOG_WARN,
                   "%" PRIu64 " received bytes were read by nobody: no upstream is attached",
                   unread);
}

int cmd_run(struct options *o)
{
    static struct run run;
    const struct sluice_transport_events events = {.on_open = on_open, .on_close = on_close};
    run.url = o->args[0];
    int failed = stop_install();
    if (!failed)
        failed =
            engine_open(&run.engine, o, o->name ? o->name : NAME_DEFAULT, run.url, &events, &run);
    if (failed)
        return failed;
    stop_loop(run.engine.loop);
    failed = run_until_closed(&run);
    stop_loop(NULL);
    warn_of_unread(&run);
    static struct sluice_state state;
    sluice_channel_state(run.engine.channel, &state);
    engine_close(&run.engine);
    return failed ? failed : fail_record(&run.record, &state, run.url);
}
