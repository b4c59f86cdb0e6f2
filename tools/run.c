/*
 * sluice run: the engine as a process of its own, with one connection or several. Prints one line
 * when one opens and one for its close record; ends in order on SIGINT and SIGTERM, shows the state
 * on SIGUSR1, opens its log anew on SIGHUP. A service manager that asks for it hears the same.
 */
#include "tools.h"

#include "fail.h"
#include "feeds.h"
#include "log_file.h"
#include "notify.h"
#include "sandbox.h"
#include "stat.h"
#include "stop.h"

#include <inttypes.h>
#include <signal.h>
#include <sluice/signals.h>
#include <stddef.h>
#include <string.h>

struct feed_end {
    struct sluice_close_record record;
    bool closed;
};

struct run {
    struct engine engine;
    struct engine_feed feeds[FEEDS_MAX];
    struct feed_end ends[FEEDS_MAX];
    uint32_t count, open; /* open: not closed for good */
    struct sluice_timer watchdog;
    struct sluice_signal *dump, *reopen; /* SIGUSR1, SIGHUP */
    const char *log_file;
};

static struct run run;

static void on_open(struct sluice_transport *t, void *user)
{
    (void)t;
    const struct engine_feed *feed = user;
    struct sluice_state s;
    sluice_channel_state(feed->channel, &s);
    sluice_log(SLUICE_LOG_INFO,
               "connection %" PRIu32 " open: %s, name %s; backend %s (%s); model %s (%s); "
               "TLS %s (%s)",
               s.connection, s.peer, s.name, s.backend, s.backend_reason, s.model, s.model_reason,
               s.tls, s.tls_reason);
    notify_say("STATUS=%s: connection %" PRIu32 " open: %s", s.name, s.connection, s.peer);
}

/* An attempt that failed, or a connection that ended: the next one follows. */
static void on_retry(struct sluice_transport *t, const struct sluice_close_record *record,
                     uint64_t wait_ns, void *user)
{
    const struct engine_feed *feed = user;
    const char *why = sluice_transport_why(t);
    char text[400];
    record_text(record, text, sizeof(text));
    sluice_log(SLUICE_LOG_WARN, "%s: %s: %s%s%s; the next attempt in %.3f s", feed->name, feed->url,
               text, why[0] ? "; " : "", why, (double)wait_ns / 1e9);
    notify_say("STATUS=%s: waiting to connect again: %s", feed->name, text);
}

static void on_close(struct sluice_transport *t, const struct sluice_close_record *record,
                     void *user)
{
    (void)t;
    const struct engine_feed *feed = user;
    struct feed_end *end = &run.ends[feed - run.feeds];
    char text[400];
    end->record = *record;
    end->closed = true;
    run.open--;
    record_text(record, text, sizeof(text)); /* never open: the last line will say the same */
    sluice_log(record->opened_ns ? SLUICE_LOG_INFO : SLUICE_LOG_DEBUG, "%s: %s", feed->name, text);
    notify_say("%sSTATUS=%s: %s", run.open ? "" : "STOPPING=1\n", feed->name, text);
}

static void on_watchdog(struct sluice_timer *timer)
{
    (void)timer;
    notify_say("WATCHDOG=1");
}

static void on_dump(struct sluice_signal *signal, void *user)
{
    static struct sluice_state state;
    (void)signal, (void)user;
    for (uint32_t i = 0; i < run.count; i++) {
        sluice_channel_state(run.feeds[i].channel, &state);
        stat_print(stderr, &state);
    }
}

static void on_reopen(struct sluice_signal *signal, void *user)
{
    (void)signal, (void)user;
    if (log_file_open(run.log_file) == 0)
        sluice_log(SLUICE_LOG_INFO, "log opened anew");
}

/* Ready: an upstream can attach; what arrives meanwhile waits for it. */
static int begin_service(void)
{
    int error = sluice_signal_create(&run.dump, run.engine.loop, SIGUSR1, on_dump, NULL);
    if (error)
        return fail_errno(error, "watching for SIGUSR1");
    if (run.log_file)
        error = sluice_signal_create(&run.reopen, run.engine.loop, SIGHUP, on_reopen, NULL);
    if (error)
        return fail_errno(error, "watching for SIGHUP");
    notify_open();
    uint64_t every_ns = notify_watchdog_ns();
    notify_say("READY=1\nSTATUS=connecting to %s%s", run.feeds[0].url,
               run.count > 1 ? " and others" : "");
    if (!every_ns)
        return 0;
    sluice_timer_init(&run.watchdog, run.engine.loop, on_watchdog, NULL);
    sluice_timer_start(&run.watchdog, every_ns, every_ns);
    sluice_timer_unref(&run.watchdog);
    return 0;
}

static void end_service(void)
{
    sluice_timer_stop(&run.watchdog);
    sluice_signal_destroy(run.dump);
    sluice_signal_destroy(run.reopen);
    notify_close();
}

static void heed_stop(bool first)
{
    notify_say("STOPPING=1");
    sluice_log(SLUICE_LOG_INFO,
               first ? "ending in order; a second signal ends at once" : "ending at once");
    for (uint32_t i = 0; i < run.count; i++)
        if (!run.ends[i].closed)
            sluice_transport_close(run.feeds[i].transport);
}

/* First signal: end in order. Second: at once. */
static int run_until_closed(void)
{
    unsigned heeded = 0;
    while (run.open) {
        int error = sluice_loop_run(run.engine.loop);
        if (error < 0)
            return fail_errno(error, "event loop");
        for (; heeded < stop_count() && run.open; heeded++)
            heed_stop(heeded == 0);
    }
    return 0;
}

static void warn_of_unread(const struct sluice_state *s)
{
    uint64_t unread = s->inbox_tail - s->inbox_head;
    if (unread > 0 && s->upstream_pid == 0)
        sluice_log(SLUICE_LOG_WARN,
                   "%s: %" PRIu64 " received bytes were read by nobody: no upstream is attached",
                   s->name, unread);
}

/* Index of the one that is preferred: that of --prefer, or the first. run.count: there is none. */
static uint32_t find_preferred(const char *name)
{
    uint32_t i = 0;
    while (name && i < run.count && strcmp(run.feeds[i].name, name) != 0)
        i++;
    return i;
}

static int run_feeds(const struct options *o)
{
    const struct sluice_transport_events events = {
        .on_open = on_open, .on_retry = on_retry, .on_close = on_close};
    for (uint32_t i = 0; i < run.count; i++)
        run.feeds[i].user = &run.feeds[i];
    run.open = run.count;
    uint32_t preferred = find_preferred(o->prefer);
    if (preferred == run.count)
        return fail_remedy(SLUICE_REASON_USAGE, "give the name of one of the connections",
                           "--prefer %s", o->prefer);
    int failed = engine_open(&run.engine, o, run.feeds, run.count, &events);
    if (failed)
        return failed;
    stop_loop(run.engine.loop);
    sluice_transport_prefer(run.feeds[preferred].transport);
    failed = begin_service();
    if (!failed)
        failed = sandbox_close(o);
    if (!failed)
        failed = run_until_closed();
    stop_loop(NULL);
    end_service();
    return failed;
}

/* A line for each that did not end well; the exit code is the first one's. */
static int say_ends(void)
{
    static struct sluice_state states[FEEDS_MAX];
    int exit_code = 0;
    for (uint32_t i = 0; i < run.count; i++) {
        sluice_channel_state(run.feeds[i].channel, &states[i]);
        warn_of_unread(&states[i]);
    }
    engine_close(&run.engine);
    for (uint32_t i = 0; i < run.count; i++) {
        int code = fail_record(&run.ends[i].record, &states[i], run.feeds[i].url);
        exit_code = exit_code ? exit_code : code;
    }
    return exit_code;
}

static int sandbox_files(const struct options *o)
{
    const struct options *each[FEEDS_MAX];
    for (uint32_t i = 0; i < run.count; i++)
        each[i] = run.feeds[i].options;
    return sandbox_begin(o, each, run.count);
}

int cmd_run(struct options *o)
{
    int failed = feeds_read(o, run.feeds, &run.count);
    run.log_file = o->log_file;
    if (!failed)
        failed = sandbox_files(o);
    if (!failed)
        failed = log_file_open(run.log_file);
    if (!failed)
        failed = stop_install();
    if (!failed)
        failed = run_feeds(o);
    if (!failed)
        return say_ends();
    engine_close(&run.engine);
    return failed;
}
