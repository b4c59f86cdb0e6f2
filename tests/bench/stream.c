/*
 * Figures: a long stream from a bare sender, through the engine, to an upstream that checks every
 * byte: three processes, inbox 1 MiB, the upstream pausing at random so that it fills. A byte that
 * is wrong or missing is a failure. The same, shorter, with small sends. Then the rate and the
 * engine's CPU time per GB: one-shot and multishot receive with an upstream in line that only
 * releases, against a bare recv loop.
 */
#include "heap.h"
#include "tcp.h"
#include "whole.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME            "stream"
#define PIECE_BYTES     (256u << 10)
#define INBOX_BYTES     (1u << 20)
#define PAUSE_EVERY     (64u << 20) /* bytes, on average */
#define PAUSE_NS_MAX    (4 * SLUICE_NS_PER_MS)
#define ATTACH_TRIES    2000
#define SLICE_BYTES_MAX 3000u
#define ENTRIES_FEW     64u
#define WORDS_IN_PIECE  (PIECE_BYTES / 8)

/* What the processes of a run tell their parent; shared memory. */
struct result {
    uint64_t checked_bytes, entries, pauses; /* upstream */
    uint64_t ns, cpu_ns;                     /* of the receiving process, open to end */
    uint64_t heap_calls;
    struct engine_end end;
};
static struct result *result;

/* ---- the bytes: words that are a function of where they stand ---- */

static inline uint64_t word_at(uint64_t position)
{
    uint64_t x = (position >> 3) * 0x9E3779B97F4A7C15ull;
    return x ^ x >> 31;
}

static inline uint8_t byte_at(uint64_t position)
{
    return (uint8_t)(word_at(position) >> (8 * (position & 7)));
}

/* Position of the first wrong byte, or the end. */
static uint64_t check(const uint8_t *bytes, uint64_t position, uint64_t count)
{
    uint64_t end = position + count;
    for (; position < end && (position & 7); position++)
        if (*bytes++ != byte_at(position))
            return position;
    for (; end - position >= 8; position += 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, sizeof(word));
        if (word != word_at(position))
            break;
    }
    for (; position < end; position++)
        if (*bytes++ != byte_at(position))
            return position;
    return end;
}

/* ---- processes ---- */

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void send_sliced(int fd, const void *piece)
{
    const char *bytes = piece;
    for (size_t at = 0; at < PIECE_BYTES;) {
        size_t slice = 1 + next_random() % SLICE_BYTES_MAX;
        if (slice > PIECE_BYTES - at)
            slice = PIECE_BYTES - at;
        tcp_send_all(fd, bytes + at, slice);
        at += slice;
    }
}

static void send_stream(int listener, uint64_t bytes, bool patterned, bool sliced)
{
    static uint64_t piece[WORDS_IN_PIECE];
    int fd = accept(listener, NULL, NULL);
    BENCH_CHECK(fd >= 0);
    if (sliced)
        tcp_set_nodelay(fd);
    for (uint64_t at = 0; at < bytes; at += PIECE_BYTES) {
        if (patterned || at == 0)
            for (uint64_t i = 0; i < WORDS_IN_PIECE; i++)
                piece[i] = word_at(at + 8 * i);
        if (sliced)
            send_sliced(fd, piece);
        else
            tcp_send_all(fd, piece, PIECE_BYTES);
    }
    BENCH_CHECK(shutdown(fd, SHUT_WR) == 0);
    char end;
    ssize_t n = recv(fd, &end, 1, 0); /* the engine's FIN: it has read everything */
    BENCH_CHECK(n <= 0);
}

static uint64_t cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * SLUICE_NS_PER_S +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * SLUICE_NS_PER_US;
}

static void begin_result(void)
{
    result->ns = sluice_monotonic_ns();
    result->cpu_ns = cpu_ns();
    result->heap_calls = heap_calls();
}

static void end_result(void)
{
    result->ns = sluice_monotonic_ns() - result->ns;
    result->cpu_ns = cpu_ns() - result->cpu_ns;
    result->heap_calls = heap_calls() - result->heap_calls;
}

static void on_open(struct sluice_transport *t, void *user)
{
    (void)t;
    (void)user;
    begin_result();
}

static void on_close(struct sluice_transport *t, const struct sluice_close_record *record,
                     void *user)
{
    (void)t;
    (void)record;
    (void)user;
    end_result();
}

/* The upstream in line: releases what it is shown. */
static void on_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    struct sluice_client *c = sluice_transport_upstream(t);
    const struct sluice_meta *entries;
    int64_t count = sluice_inbox_peek(c, &entries, 256);
    BENCH_CHECK(count >= 0);
    bool eof = false;
    for (int64_t i = 0; i < count; i++)
        eof |= entries[i].event == SLUICE_EVENT_EOF;
    sluice_inbox_release(c, (uint32_t)count);
    if (eof)
        sluice_transport_close(t);
}

static void run_engine(uint16_t port, enum sluice_receive receive, uint32_t entries, bool in_line)
{
    struct engine_config cfg = {.port = port,
                                .name = in_line ? NULL : NAME,
                                .idle = SLUICE_IDLE_SLEEP,
                                .receive = receive,
                                .inbox_bytes = INBOX_BYTES,
                                .metadata_entries = entries,
                                .attach = in_line,
                                .events = {.on_open = on_open, .on_close = on_close}};
    if (in_line)
        cfg.events.on_inbox = on_inbox;
    engine_run(&cfg, &result->end);
}

static void run_bare(uint16_t port)
{
    static char ring[INBOX_BYTES];
    int fd = tcp_connect(port);
    begin_result();
    uint64_t at = 0;
    for (;;) {
        size_t room = INBOX_BYTES - at % INBOX_BYTES;
        ssize_t n = recv(fd, ring + at % INBOX_BYTES, room < PIECE_BYTES ? room : PIECE_BYTES, 0);
        if (n <= 0)
            break;
        at += (uint64_t)n;
    }
    end_result();
    result->end.record.received_bytes = at;
    close(fd);
}

/* ---- the upstream of the checked run ---- */

static struct sluice_client *attach(void)
{
    struct sluice_client *c;
    int err = 0;
    for (int tries = 0; tries < ATTACH_TRIES; tries++) {
        err = sluice_attach(&c, NAME, SLUICE_UPSTREAM, (int64_t)SLUICE_NS_PER_S);
        if (!err)
            return c;
        usleep(5000);
    }
    bench_fail("attach: %s", strerror(-err));
}

static void pause_at_random(uint64_t bytes)
{
    if (next_random() % PAUSE_EVERY >= bytes)
        return;
    result->pauses++;
    nanosleep(&(struct timespec){.tv_nsec = (long)(next_random() % PAUSE_NS_MAX)}, NULL);
}

/* True at the end of the connection. */
static bool read_entry(struct sluice_client *c, const struct sluice_meta *m)
{
    if (m->event == SLUICE_EVENT_EOF)
        sluice_client_request_close(c);
    if (m->event != SLUICE_EVENT_DATA)
        return m->event == SLUICE_EVENT_DISCONNECTED;
    if (m->msg_inbox_offset != result->checked_bytes)
        bench_fail("an entry at %llu, expected at %llu", (unsigned long long)m->msg_inbox_offset,
                   (unsigned long long)result->checked_bytes);
    uint64_t end = m->msg_inbox_offset + m->decrypted_len;
    uint64_t good =
        check(sluice_inbox_at(c, m->msg_inbox_offset), m->msg_inbox_offset, m->decrypted_len);
    if (good != end)
        bench_fail("byte %llu is wrong", (unsigned long long)good);
    result->checked_bytes = end;
    result->entries++;
    pause_at_random(m->decrypted_len);
    return false;
}

static void run_upstream(void)
{
    struct sluice_client *c = attach();
    bool over = false;
    while (!over) {
        const struct sluice_meta *entries;
        int64_t count = sluice_inbox_peek(c, &entries, 64);
        BENCH_CHECK(count >= 0);
        if (count == 0)
            BENCH_CHECK(sluice_client_wait(c, SLUICE_WAIT_INBOX, -1) > 0);
        for (int64_t i = 0; i < count; i++) {
            over = read_entry(c, &entries[i]);
            BENCH_CHECK(sluice_inbox_release(c, 1) == 0);
        }
    }
    sluice_detach(c);
}

/* ---- runs ---- */

enum variant { AUTO, ONE_SHOT, BARE, VARIANTS };
static const char *const names[VARIANTS] = {"multishot (auto)", "one-shot", "bare recv loop"};

enum role { SENDER, RECEIVER, UPSTREAM, ROLES };

struct job {
    enum variant variant;
    uint64_t bytes;
    bool checked; /* with an upstream in a process of its own, and nobody pinned */
    bool sliced;  /* small sends and few metadata entries, so that receives are merged */
};

static void play(enum role role, const struct job *job, int listener, uint16_t port)
{
    if (!job->checked)
        bench_pin(role == SENDER ? 1 : 0);
    if (role == SENDER)
        send_stream(listener, job->bytes, job->checked, job->sliced);
    else if (role == UPSTREAM)
        run_upstream();
    else if (job->variant == BARE)
        run_bare(port);
    else
        run_engine(port, job->variant == AUTO ? SLUICE_RECEIVE_AUTO : SLUICE_RECEIVE_ONE_SHOT,
                   job->sliced ? ENTRIES_FEW : 0, !job->checked);
}

/* Until all have ended, or one has failed: the others are then ended as well. */
static bool wait_for(pid_t *pids, int count)
{
    bool good = true;
    for (int left = count; left > 0; left--) {
        int status;
        pid_t pid = wait(&status);
        BENCH_CHECK(pid > 0);
        for (int i = 0; i < count; i++)
            if (pids[i] == pid)
                pids[i] = 0;
        if (status == 0 || !good)
            continue;
        good = false;
        for (int i = 0; i < count; i++)
            if (pids[i])
                kill(pids[i], SIGKILL);
    }
    return good;
}

static void run_job(const struct job *job)
{
    uint16_t port;
    int listener = tcp_listen(&port);
    int roles = job->checked ? ROLES : UPSTREAM;
    pid_t pids[ROLES];
    memset(result, 0, sizeof(*result));
    for (int role = 0; role < roles; role++) {
        pids[role] = fork();
        BENCH_CHECK(pids[role] >= 0);
        if (pids[role] == 0) {
            alarm(BENCH_LIMIT_S);
            play((enum role)role, job, listener, port);
            exit(0);
        }
    }
    close(listener);
    if (!wait_for(pids, roles))
        bench_fail("%s: a process of the run failed", names[job->variant]);
    uint64_t arrived = job->checked ? result->checked_bytes : result->end.record.received_bytes;
    if (arrived != job->bytes)
        bench_fail("%s: %llu bytes arrived of %llu", names[job->variant],
                   (unsigned long long)arrived, (unsigned long long)job->bytes);
}

static double gb_per_s(uint64_t bytes)
{
    return (double)bytes / (double)result->ns;
}

static double cpu_s_per_gb(uint64_t bytes)
{
    return (double)result->cpu_ns / (double)bytes;
}

/* Every byte checked. */
static void run_checked(enum variant variant, uint64_t bytes, bool sliced)
{
    const struct job job = {variant, bytes, true, sliced};
    run_job(&job);
    const uint64_t *n = result->end.state.counters;
    printf("{\"kind\": \"stream\", \"text\": \"%s%s\", \"bytes\": %llu, \"gb_per_s\": %.3g, "
           "\"cpu_s_per_gb\": %.3g, \"wraps\": %llu, \"entries\": %llu, \"pauses\": %llu, "
           "\"inbox_full_stalls\": %llu, \"merged\": %llu, \"starvations\": %llu}\n",
           names[variant], sliced ? ", small sends, 64 entries" : "", (unsigned long long)bytes,
           gb_per_s(bytes), cpu_s_per_gb(bytes), (unsigned long long)(bytes / INBOX_BYTES),
           (unsigned long long)result->entries, (unsigned long long)result->pauses,
           (unsigned long long)n[SLUICE_COUNTER_inbox_full_stalls],
           (unsigned long long)n[SLUICE_COUNTER_merged_receives],
           (unsigned long long)n[SLUICE_COUNTER_buffer_starvations]);
    char text[120];
    snprintf(text, sizeof(text), "heap allocations of the engine in %.3g GB, %s%s",
             (double)bytes / 1e9, names[variant], sliced ? ", small sends" : "");
    bench_say_count("heap_allocations_stream", text, (double)result->heap_calls, 0);
}

static void compare(const char *name, const char *unit, double values[VARIANTS][BENCH_ROUNDS],
                    enum variant ours, enum variant reference)
{
    bench_say_ratio(&(struct bench_ratio){.name = name,
                                          .ours_text = names[ours],
                                          .reference_text = names[reference],
                                          .unit = unit,
                                          .ours = values[ours],
                                          .reference = values[reference],
                                          .rounds = BENCH_ROUNDS,
                                          .goal = BENCH_NO_GOAL});
}

static void run_rates(uint64_t bytes)
{
    static double rate[VARIANTS][BENCH_ROUNDS], cpu[VARIANTS][BENCH_ROUNDS];
    for (int i = 0; i < BENCH_ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            run_job(&(const struct job){(enum variant)v, bytes, false, false});
            rate[v][i] = gb_per_s(bytes);
            cpu[v][i] = cpu_s_per_gb(bytes);
        }
    }
    compare("stream_rate", "GB/s", rate, AUTO, ONE_SHOT);
    compare("stream_rate_bare", "GB/s", rate, AUTO, BARE);
    compare("stream_cpu", "CPU s/GB", cpu, AUTO, ONE_SHOT);
    compare("stream_cpu_bare", "CPU s/GB", cpu, AUTO, BARE);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    alarm(0); /* each process has its own */
    result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    BENCH_CHECK(result != MAP_FAILED);
    uint64_t bytes = bench_quick ? 1ull << 30 : 10ull << 30;
    for (int v = AUTO; v <= ONE_SHOT; v++) {
        run_checked((enum variant)v, bytes, false);
        run_checked((enum variant)v, bytes / 16, true);
    }
    run_rates(bench_quick ? 128u << 20 : 1u << 30);
    return 0;
}
