/*
 * A client of "URL|NAME": a NAME is attached to; for a URL an engine runs on a thread of this
 * process. cat and ws are written on top of it. What the bytes mean is theirs.
 */
#include "session.h"

#include "engine.h"
#include "fail.h"
#include "sandbox.h"
#include "stop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS             1000000ll
#define RECORD_TIMEOUT (200 * MS) /* the record follows its event at once */

/* ---- an engine of ours, on a thread of its own ---- */

struct session_engine {
    pthread_t thread;
    const struct options *options;
    const char *url;
    enum sluice_role role;
    struct engine engine;
    struct engine_feed feed;
    struct sluice_client *client; /* handed over at ready */
    int failed;
    sem_t ready, leave;
};

/* Opens, runs and closes on one thread, as loop and channel want it. The loop stays after the
 * connection's end, for stop_engine() to stop. */
static void *engine_thread(void *arg)
{
    struct session_engine *se = arg;
    struct engine *e = &se->engine;
    se->feed =
        (struct engine_feed){.options = se->options, .name = se->options->name, .url = se->url};
    se->failed = engine_open(e, se->options, &se->feed, 1, NULL);
    if (!se->failed) {
        int error = sluice_attach_local(&se->client, se->feed.channel, se->role);
        if (error)
            se->failed = fail_errno(error, "attaching to the engine in this process");
    }
    sem_post(&se->ready);
    if (!se->failed) {
        int error = sluice_loop_run(e->loop);
        if (error < 0)
            sluice_log(SLUICE_LOG_ERROR, "event loop: %s", strerror(-error));
        while (sem_wait(&se->leave) != 0) {
            /* EINTR */
        }
    }
    engine_close(e);
    return NULL;
}

static int start_thread(struct session_engine *se)
{
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);                     /* its own: a guard of memory may handle it */
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    int error = pthread_create(&se->thread, NULL, engine_thread, se);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? fail_errno(-error, "engine thread") : 0;
}

static void free_engine(struct session_engine *se)
{
    sem_destroy(&se->ready);
    sem_destroy(&se->leave);
    free(se);
}

static int start_engine(struct session *s, enum sluice_role role)
{
    struct session_engine *se = calloc(1, sizeof(*se));
    if (!se)
        return fail_errno(-ENOMEM, "engine");
    se->options = s->options;
    se->url = s->target;
    se->role = role;
    sem_init(&se->ready, 0, 0);
    sem_init(&se->leave, 0, 0);
    int failed = start_thread(se);
    if (failed) {
        free_engine(se);
        return failed;
    }
    while (sem_wait(&se->ready) != 0) {
        /* EINTR */
    }
    failed = se->failed;
    if (failed) {
        pthread_join(se->thread, NULL);
        free_engine(se);
        return failed;
    }
    s->engine = se;
    s->client = se->client;
    return 0;
}

static void stop_engine(struct session_engine *se)
{
    sluice_loop_stop(se->engine.loop); /* before leave: after it the loop is freed */
    sem_post(&se->leave);
    pthread_join(se->thread, NULL);
    free_engine(se);
}

/* ---- attaching by name ---- */

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void nap(int64_t ns)
{
    const struct timespec time = {.tv_nsec = (long)ns};
    nanosleep(&time, NULL);
}

static int fail_attach(int error, const char *name)
{
    switch (-error) {
    case EBUSY:
        return fail(SLUICE_REASON_BUSY, "name %s", name);
    case ETIMEDOUT:
        return fail_remedy(SLUICE_REASON_TIMED_OUT,
                           "the engine is stopped or stuck: see sluice stat NAME",
                           "name %s: no answer from its engine", name);
    case EINVAL:
        return fail_remedy(SLUICE_REASON_USAGE,
                           "give tcp://host:port, tls://host:port or the name of an engine",
                           "'%s' is neither", name);
    case ECONNRESET:
    case EPIPE:
        return fail(SLUICE_REASON_ENGINE_GONE, "name %s", name);
    case ENOENT:
        return fail(SLUICE_REASON_NO_ENGINE, "name %s", name);
    default:
        return fail_errno(error, "name %s", name);
    }
}

static int attach(struct session *s, enum sluice_role role)
{
    int error = sluice_attach(&s->client, s->target, role, s->options->connect_timeout_ns);
    return error ? fail_attach(error, s->target) : 0;
}

/* ---- until it is open ---- */

static bool find_record(const struct sluice_state *state, uint32_t connection,
                        struct sluice_close_record *out)
{
    uint64_t kept =
        state->close_count < SLUICE_CLOSE_RECORDS ? state->close_count : SLUICE_CLOSE_RECORDS;
    for (uint64_t i = 1; i <= kept; i++) {
        *out = state->closes[(state->close_count - i) % SLUICE_CLOSE_RECORDS];
        if (connection == 0 || out->connection == connection)
            return true;
    }
    return false;
}

/* The last record of that connection (0: of any). The engine may be just about to write it. */
static bool wait_record(const struct session *s, uint32_t connection,
                        struct sluice_close_record *out)
{
    struct sluice_state state;
    int64_t deadline = now_ns() + RECORD_TIMEOUT;
    for (;;) {
        sluice_client_state(s->client, &state);
        if (find_record(&state, connection, out))
            return true;
        if (now_ns() >= deadline)
            return false;
        nap(MS);
    }
}

static const char *peer_of(const struct session *s, struct sluice_state *state)
{
    sluice_client_state(s->client, state);
    return state->peer[0] ? state->peer : s->target;
}

/* It ended before we saw it open. 0: there is something to read all the same. */
static int ended_early(struct session *s, enum sluice_role role)
{
    struct sluice_state state;
    struct sluice_close_record record;
    if (!wait_record(s, 0, &record))
        return fail(SLUICE_REASON_INTERNAL, "%s: closed without a record", s->target);
    const char *peer = peer_of(s, &state);
    if (role == SLUICE_UPSTREAM && state.metadata_tail != state.metadata_head) {
        s->connection = record.connection;
        return 0;
    }
    int failed = fail_record(&record, &state, peer);
    return failed ? failed : fail(SLUICE_REASON_NO_ENGINE, "%s: its connection ended", s->target);
}

/* Until something in the state changed, a signal came, or the deadline. */
static void sleep_for_state(struct session *s, int64_t left_ns)
{
    struct pollfd fds[] = {{.fd = sluice_client_fd(s->client), .events = POLLIN},
                           {.fd = stop_fd(), .events = POLLIN}};
    if (!sluice_client_arm(s->client, SLUICE_WAIT_STATE))
        poll(fds, 2, (int)((left_ns + MS - 1) / MS)); /* EINTR: stop_count() tells */
    sluice_client_disarm(s->client);
}

static int wait_open(struct session *s, enum sluice_role role)
{
    int64_t deadline = now_ns() + s->options->connect_timeout_ns;
    if (s->engine)
        deadline += 1000 * MS; /* the engine's own deadline comes first, with a better reason */
    for (;;) {
        int news = sluice_client_wait(s->client, SLUICE_WAIT_STATE, 0); /* up to here it is seen */
        int error = sluice_client_wait_ready(s->client, SLUICE_READY_TCP | SLUICE_READY_TLS, 0);
        if (error == -ETIMEDOUT && news == -EPIPE)
            error = news;
        int64_t left = deadline - now_ns();
        if (error == 0)
            break;
        if (stop_count() > 0) {
            sluice_log(SLUICE_LOG_INFO, "%s: stopped by a signal before it was open", s->target);
            return 128 + SIGINT; /* as a shell says it */
        }
        if (error == -ECONNABORTED)
            return ended_early(s, role);
        if (error != -ETIMEDOUT)
            return fail_errno(error, "%s", s->target);
        if (left <= 0)
            return fail(SLUICE_REASON_TIMED_OUT, "%s: not open", s->target);
        sleep_for_state(s, left);
    }
    struct sluice_state state;
    sluice_client_state(s->client, &state);
    s->connection = state.connection;
    return 0;
}

/* ---- the session ---- */

int session_open(struct session *s, const struct options *o, const char *target,
                 enum sluice_role role)
{
    *s = (struct session){.options = o, .target = target};
    int failed = sandbox_begin(o, &o, 1);
    if (failed)
        return failed;
    failed = strstr(target, "://") ? start_engine(s, role) : attach(s, role);
    if (failed)
        return failed;
    failed = wait_open(s, role);
    if (!failed)
        failed = sandbox_close(o);
    if (failed)
        session_close(s);
    return failed;
}

void session_close(struct session *s)
{
    sluice_detach(s->client);
    s->client = NULL;
    if (s->engine)
        stop_engine(s->engine);
    s->engine = NULL;
}

int session_end(const struct session *s, uint32_t connection)
{
    struct sluice_state state;
    struct sluice_close_record record;
    if (connection == 0)
        return fail(SLUICE_REASON_ENGINE_GONE, "%s", s->target);
    if (!wait_record(s, connection, &record))
        return fail(SLUICE_REASON_INTERNAL, "%s: closed without a record", s->target);
    char text[400];
    record_text(&record, text, sizeof(text));
    sluice_log(SLUICE_LOG_INFO, "%s", text);
    const char *peer = peer_of(s, &state);
    return fail_record(&record, &state, peer);
}
