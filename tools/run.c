/*
 * sluice run: the engine as a process of its own. Prints one line when the connection opens and one
 * for its close record; ends in order on SIGINT and SIGTERM, shows the state on SIGUSR1.
 * A service manager that asks for it hears the same.
 */
#include "tools.h"

#include "engine.h"
#include "fail.h"
#include "notify.h"
#include "stat.h"
#include "stop.h"

#include <inttypes.h>
#include <signal.h>
#include <sluice/signals.h>
#include <stddef.h>

#define NAME_DEFAULT "sluice"

struct run {
    struct engine engine;
    const char *url;
    struct sluice_close_record record;
    bool closed;
    struct sluice_timer watchdog;
    struct sluice_signal *dump; /* SIGUSR1 */
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
    notify_say("STATUS=connection %" PRIu32 " open: %s", s.connection, s.peer);
}

/* An attempt that failed, or a connection that ended: the next one follows. */
static void on_retry(struct sluice_transport *t, const struct sluice_close_record *record,
                     uint64_t wait_ns, void *user)
{
    const struct run *run = user;
    char text[400];
    record_text(record, text, sizeof(text));
    sluice_log(SLUICE_LOG_WARN, "%s: %s%s%s; the next attempt in %.3f s", run->url, text,
               sluice_transport_why(t)[0] ? "; " : "", sluice_transport_why(t),
               (double)wait_ns / 1e9);
    notify_say("STATUS=waiting to connect again: %s", text);
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
    notify_say("STOPPING=1\nSTATUS=%s", text);
}

static void on_watchdog(struct sluice_timer *timer)
{
    (void)timer;
    notify_say("WATCHDOG=1");
}

static void on_dump(struct sluice_signal *signal, void *user)
{
    static struct sluice_state state;
    const struct run *run = user;
    (void)signal;
    sluice_channel_state(run->engine.channel, &state);
    stat_print(stderr, &state);
}

/* Ready: an upstream can attach; what arrives meanwhile waits for it. */
static int begin_service(struct run *run)
{
    int error = sluice_signal_create(&run->dump, run->engine.loop, SIGUSR1, on_dump, run);
    if (error)
        return fail_errno(error, "watching for SIGUSR1");
    notify_open();
    uint64_t every_ns = notify_watchdog_ns();
    notify_say("READY=1\nSTATUS=connecting to %s", run->url);
    if (!every_ns)
        return 0;
    sluice_timer_init(&run->watchdog, run->engine.loop, on_watchdog, NULL);
    sluice_timer_start(&run->watchdog, every_ns, every_ns);
    sluice_timer_unref(&run->watchdog);
    return 0;
}

static void end_service(struct run *run)
{
    sluice_timer_stop(&run->watchdog);
    sluice_signal_destroy(run->dump);
    notify_close();
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
            notify_say("STOPPING=1");
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
    const struct sluice_transport_events events = {
        .on_open = on_open, .on_retry = on_retry, .on_close = on_close};
    run.url = o->args[0];
    int failed = stop_install();
    if (!failed)
        failed =
            engine_open(&run.engine, o, o->name ? o->name : NAME_DEFAULT, run.url, &events, &run);
    if (failed)
        return failed;
    stop_loop(run.engine.loop);
    failed = begin_service(&run);
    if (!failed)
        failed = run_until_closed(&run);
    stop_loop(NULL);
    end_service(&run);
    warn_of_unread(&run);
    static struct sluice_state state;
    sluice_channel_state(run.engine.channel, &state);
    engine_close(&run.engine);
    return failed ? failed : fail_record(&run.record, &state, run.url);
}
