/*
 * sluice stat: the state block of an engine, as text or JSON. Read-only, and readable while the
 * engine is stuck. The counters' names and texts come from SLUICE_COUNTER_MAP.
 */
#include "stat.h"

#include "fail.h"
#include "json.h"
#include "tools.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define NS_PER_S          1000000000ull
#define ATTACH_TIMEOUT_NS 1000000000ll /* a working engine answers within microseconds */

struct view {
    struct sluice_state state;
    bool answered; /* the engine itself let us in */
    uint64_t heartbeat_age_ns;
    const char *engine_state; /* running, asleep, stuck */
};

static const char *const counter_names[] = {
#define COUNTER_NAME(name, text) #name,
    SLUICE_COUNTER_MAP(COUNTER_NAME)
#undef COUNTER_NAME
};

static const char *const counter_texts[] = {
#define COUNTER_TEXT(name, text) text,
    SLUICE_COUNTER_MAP(COUNTER_TEXT)
#undef COUNTER_TEXT
};

static const char *const ready_names[] = {"tcp", "tls", "upstream"};

static const char *state_name(uint32_t conn_state)
{
    static const char *const names[SLUICE_CONN_STATES] = {"idle",        "resolving", "connecting",
                                                          "handshaking", "open",      "draining",
                                                          "closing",     "closed",    "waiting"};
    return conn_state < SLUICE_CONN_STATES ? names[conn_state] : "unknown";
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- reading ---- */

/* Another process wrote these: end them, and keep a terminal's control sequences out. */
static void clean(char *text, size_t bytes)
{
    text[bytes - 1] = 0;
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

static void clean_state(struct sluice_state *s)
{
    clean(s->name, sizeof(s->name));
    clean(s->peer, sizeof(s->peer));
    clean(s->backend, sizeof(s->backend));
    clean(s->backend_reason, sizeof(s->backend_reason));
    clean(s->model, sizeof(s->model));
    clean(s->model_reason, sizeof(s->model_reason));
    clean(s->tls, sizeof(s->tls));
    clean(s->tls_reason, sizeof(s->tls_reason));
}

/* A sleeping engine has no heartbeat, but it answers; one that does neither is stuck or stopped. */
static void judge(struct view *v)
{
    uint64_t now = now_ns(), beat = v->state.heartbeat_ns;
    v->heartbeat_age_ns = beat != 0 && now > beat ? now - beat : 0;
    if (!v->answered || (!v->state.asleep && v->heartbeat_age_ns > NS_PER_S))
        v->engine_state = "stuck";
    else
        v->engine_state = v->state.asleep ? "asleep" : "running";
}

static int fail_attach(int error, const char *name)
{
    switch (-error) {
    case ENOENT:
        return fail(SLUICE_REASON_NO_ENGINE, "name %s", name);
    case EBUSY:
        return fail_remedy(SLUICE_REASON_BUSY, "detach another client first",
                           "name %s: no place for one more client", name);
    case ETIMEDOUT:
        return fail_remedy(SLUICE_REASON_TIMED_OUT,
                           "run as its user or as root to read the memory of a stuck engine",
                           "name %s: no answer from its engine", name);
    case EINVAL:
        return fail_remedy(SLUICE_REASON_USAGE, "give the --name of a running engine",
                           "'%s' is no name", name);
    default:
        return fail_errno(error, "name %s", name);
    }
}

static int look(struct view *v, const char *name)
{
    struct sluice_client *client;
    uint64_t start = now_ns();
    int error = sluice_attach(&client, name, SLUICE_OBSERVER, ATTACH_TIMEOUT_NS);
    if (error)
        return fail_attach(error, name);
    v->answered = now_ns() - start < (uint64_t)ATTACH_TIMEOUT_NS;
    sluice_client_state(client, &v->state);
    sluice_detach(client);
    clean_state(&v->state);
    judge(v);
    return 0;
}

static uint64_t closes_kept(const struct sluice_state *s)
{
    return s->close_count < SLUICE_CLOSE_RECORDS ? s->close_count : SLUICE_CLOSE_RECORDS;
}

/* i from 0, oldest first. */
static const struct sluice_close_record *close_at(const struct sluice_state *s, uint64_t i)
{
    return &s->closes[(s->close_count - closes_kept(s) + i) % SLUICE_CLOSE_RECORDS];
}

/* ---- text ---- */

static void print_engine(FILE *to, const struct view *v)
{
    const struct sluice_state *s = &v->state;
    fprintf(to,
            "name        %s (engine pid %" PRIu32 ", epoch %016" PRIx64 ", layout %" PRIu32 ")\n",
            s->name, s->engine_pid, s->epoch, s->layout);
    double age_s = (double)v->heartbeat_age_ns / (double)NS_PER_S;
    if (strcmp(v->engine_state, "stuck") == 0)
        fprintf(to, "engine      stuck since %.1f s%s\n", age_s,
                v->answered ? "" : " (it does not answer: stopped, or busy elsewhere)");
    else
        fprintf(to, "engine      %s\n", v->engine_state);
    fprintf(to, "connection  %" PRIu32 " %s%s%s; ready:", s->connection, state_name(s->conn_state),
            s->peer[0] ? " " : "", s->peer);
    for (unsigned i = 0; i < 3; i++)
        if (s->ready & (1u << i))
            fprintf(to, " %s", ready_names[i]);
    fprintf(to, "%s\n", s->ready ? "" : " nothing");
    fprintf(to, "backend     %s (%s)\n", s->backend, s->backend_reason);
    fprintf(to, "model       %s (%s)\n", s->model, s->model_reason);
    fprintf(to, "TLS         %s (%s)\n", s->tls, s->tls_reason);
    if (s->upstream_pid)
        fprintf(to, "clients     upstream pid %" PRIu32 ", %" PRIu32 " producers\n",
                s->upstream_pid, s->producers);
    else
        fprintf(to, "clients     no upstream, %" PRIu32 " producers\n", s->producers);
    fprintf(to, "clock       %s, %" PRIu64 " cycles/s\n",
            s->clock.is_tsc ? "TSC" : "CLOCK_MONOTONIC", s->clock.cycles_per_s);
}

static void print_fill(FILE *to, const char *label, uint64_t used, uint64_t size, const char *unit)
{
    fprintf(to, "%-11s %" PRIu64 " of %" PRIu64 " %s unread (%.1f %%)\n", label, used, size, unit,
            size ? 100.0 * (double)used / (double)size : 0.0);
}

static void print_rings(FILE *to, const struct sluice_state *s)
{
    print_fill(to, "inbox", s->inbox_tail - s->inbox_head, s->inbox_bytes, "bytes");
    print_fill(to, "metadata", s->metadata_tail - s->metadata_head, s->metadata_entries, "entries");
    fprintf(to, "outbox      %" PRIu64 " bytes, %" PRIu64 " messages for each client\n",
            s->outbox_bytes, s->outbox_slots);
    fprintf(to, "pongs       %" PRIu64 " bytes, %" PRIu64 " messages\n", s->pongs_bytes,
            s->pongs_slots);
}

static void print_text(FILE *to, const struct view *v)
{
    const struct sluice_state *s = &v->state;
    print_engine(to, v);
    print_rings(to, s);
    for (unsigned i = 0; i < SLUICE_COUNTERS; i++)
        fprintf(to, "%-24s %14" PRIu64 "  %s\n", counter_names[i], s->counters[i],
                counter_texts[i]);
    for (uint64_t i = 0; i < closes_kept(s); i++) {
        char text[400];
        record_text(close_at(s, i), text, sizeof(text));
        fprintf(to, "%s\n", text);
    }
}

void stat_print(FILE *to, const struct sluice_state *state)
{
    static struct view view;
    view = (struct view){.state = *state, .answered = true, .engine_state = "running"};
    print_text(to, &view);
}

/* ---- JSON ---- */

static void number_or_null(struct json *j, const char *key, uint64_t value, uint64_t unknown)
{
    if (value == unknown)
        json_null(j, key);
    else
        json_number(j, key, value);
}

static void json_engine(struct json *j, const struct view *v)
{
    const struct sluice_state *s = &v->state;
    char epoch[20];
    snprintf(epoch, sizeof(epoch), "%016" PRIx64, s->epoch); /* too large for a JSON reader */
    json_text(j, "name", s->name);
    json_text(j, "epoch", epoch);
    json_number(j, "engine_pid", s->engine_pid);
    json_number(j, "layout", s->layout);
    json_text(j, "engine_state", v->engine_state);
    json_bool(j, "asleep", s->asleep != 0);
    json_bool(j, "preferred", s->preferred != 0);
    json_bool(j, "answered", v->answered);
    number_or_null(j, "heartbeat_age_ns", v->heartbeat_age_ns, s->heartbeat_ns ? UINT64_MAX : 0);
    json_text(j, "conn_state", state_name(s->conn_state));
    json_number(j, "connection", s->connection);
    for (unsigned i = 0; i < 3; i++) {
        char key[24];
        snprintf(key, sizeof(key), "ready_%s", ready_names[i]);
        json_bool(j, key, (s->ready & (1u << i)) != 0);
    }
    number_or_null(j, "upstream_pid", s->upstream_pid, 0);
    json_number(j, "producers", s->producers);
    json_text(j, "peer", s->peer);
    json_text(j, "backend", s->backend);
    json_text(j, "backend_reason", s->backend_reason);
    json_text(j, "model", s->model);
    json_text(j, "model_reason", s->model_reason);
    json_text(j, "tls", s->tls);
    json_text(j, "tls_reason", s->tls_reason);
    json_bool(j, "clock_is_tsc", s->clock.is_tsc != 0);
    json_number(j, "clock_cycles_per_s", s->clock.cycles_per_s);
}

static void json_rings(struct json *j, const struct sluice_state *s)
{
    json_number(j, "inbox_bytes", s->inbox_bytes);
    json_number(j, "inbox_unread_bytes", s->inbox_tail - s->inbox_head);
    json_number(j, "metadata_entries", s->metadata_entries);
    json_number(j, "metadata_unread_entries", s->metadata_tail - s->metadata_head);
    json_number(j, "outbox_bytes", s->outbox_bytes);
    json_number(j, "outbox_slots", s->outbox_slots);
    json_number(j, "pongs_bytes", s->pongs_bytes);
    json_number(j, "pongs_slots", s->pongs_slots);
}

static void json_record(struct json *j, const struct sluice_close_record *r)
{
    json_open(j, NULL, '{');
    json_number(j, "connection", r->connection);
    json_text(j, "reason", sluice_reason_name(r->reason));
    number_or_null(j, "os_error", (uint64_t)(uint32_t)r->os_error, 0);
    number_or_null(j, "tls_alert", (uint64_t)r->tls_alert - 1, UINT64_MAX);
    number_or_null(j, "opened_ns", r->opened_ns, 0);
    json_number(j, "closed_ns", r->closed_ns);
    json_number(j, "received_bytes", r->received_bytes);
    json_number(j, "messages_sent", r->messages_sent);
    json_number(j, "sent_bytes", r->sent_bytes);
    json_number(j, "half_sent_bytes", r->half_sent_bytes);
    json_number(j, "messages_left", r->messages_left);
    number_or_null(j, "acked_bytes", r->acked_bytes, UINT64_MAX);
    json_close(j, '}');
}

static void print_json(const struct view *v)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_engine(&j, v);
    json_rings(&j, &v->state);
    json_open(&j, "counters", '{');
    for (unsigned i = 0; i < SLUICE_COUNTERS; i++)
        json_number(&j, counter_names[i], v->state.counters[i]);
    json_close(&j, '}');
    json_number(&j, "close_count", v->state.close_count);
    json_open(&j, "closes", '[');
    for (uint64_t i = 0; i < closes_kept(&v->state); i++)
        json_record(&j, close_at(&v->state, i));
    json_close(&j, ']');
    json_close(&j, '}');
}

int cmd_stat(struct options *o)
{
    static struct view view;
    int failed = look(&view, o->args[0]);
    if (failed)
        return failed;
    if (o->json)
        print_json(&view);
    else
        print_text(stdout, &view);
    return 0;
}
