/*
 * Figure: a stream of 16 KiB records, encrypted before it leaves, so that only the receiver works:
 * the engine in line, busy, with an upstream that only releases. Reference: SSL_read on a blocking
 * socket. Beside it: the CPU time of each.
 */
#include "bare_tls.h"
#include "tcp.h"
#include "whole.h"

#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BYTES_MAX (128u << 20)
#define ROUNDS    25

static uint64_t expected; /* bytes */

/* From the first bytes to the last. */
static struct {
    uint64_t bytes, cpu_ns;
    uint64_t first_cycle, last_cycle;
} run;

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void took(uint64_t bytes)
{
    if (bytes > 0 && run.bytes == 0) {
        run.first_cycle = sluice_cycles();
        run.cpu_ns = cpu_ns();
    }
    run.bytes += bytes;
    if (run.bytes == expected) {
        run.last_cycle = sluice_cycles();
        run.cpu_ns = cpu_ns() - run.cpu_ns;
    }
}

/* ---- ours ---- */

static void on_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    uint64_t bytes = engine_take(sluice_transport_upstream(t));
    took(bytes);
    if (bytes > 0 && run.bytes == expected)
        sluice_transport_close(t);
}

static void ours(uint16_t port, enum sluice_idle idle)
{
    struct engine_end end;
    const struct engine_config cfg = {.port = port,
                                      .idle = idle,
                                      .tls = &bare_tls_config,
                                      .attach = true,
                                      .events = {.on_inbox = on_inbox}};
    engine_run(&cfg, &end);
    if (run.bytes != expected)
        bench_fail("%llu of %llu bytes, then %s", (unsigned long long)run.bytes,
                   (unsigned long long)expected, sluice_reason_name(end.record.reason));
}

/* ---- bare ---- */

static void bare(uint16_t port)
{
    static char bytes[BARE_TLS_RECORD_BYTES];
    SSL *ssl = bare_tls_connect(port);
    while (run.bytes < expected) {
        int n = SSL_read(ssl, bytes, sizeof(bytes));
        BENCH_CHECK(n > 0);
        took((uint64_t)n);
    }
    bare_tls_close(ssl);
}

/* ---- rounds ---- */

enum variant { OURS, OURS_ASLEEP, BARE, VARIANTS };
static const char *const texts[VARIANTS] = {
    [OURS] = "in line, busy", [OURS_ASLEEP] = "in line, sleeping", [BARE] = "SSL_read, blocking"};

static double gb_per_s[VARIANTS][ROUNDS], cpu_s_per_gb[VARIANTS][ROUNDS];

static void measure(enum variant v, uint16_t port, int round)
{
    memset(&run, 0, sizeof(run));
    if (v == BARE)
        bare(port);
    else
        ours(port, v == OURS ? SLUICE_IDLE_BUSY : SLUICE_IDLE_SLEEP);
    gb_per_s[v][round] = (double)run.bytes / bench_ns(run.last_cycle - run.first_cycle);
    cpu_s_per_gb[v][round] = (double)run.cpu_ns / (double)run.bytes;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bare_tls_begin();
    expected = bench_quick ? BYTES_MAX / 8 : BYTES_MAX;
    uint16_t port;
    struct bare_tls_blast blast = {.listener = tcp_listen(&port), .bytes = expected};
    pthread_t sender = bench_start(bare_tls_blast, &blast);
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < VARIANTS; k++)
            measure((enum variant)bench_order(i, k, VARIANTS), port, i);
    shutdown(blast.listener, SHUT_RDWR);
    bench_join(sender);
    struct bench_ratio r = {.name = "tls_stream",
                            .ours_text = "TLS 1.3, AES-128-GCM, 16 KiB records, in line, busy",
                            .reference_text = texts[BARE],
                            .unit = "GB/s",
                            .ours = gb_per_s[OURS],
                            .reference = gb_per_s[BARE],
                            .rounds = ROUNDS,
                            .goal = BENCH_AT_LEAST,
                            .limit = 0.9};
    bench_say_ratio(&r);
    r.name = "tls_stream_asleep";
    r.ours_text = "the same, sleeping";
    r.ours = gb_per_s[OURS_ASLEEP];
    r.goal = BENCH_NO_GOAL;
    bench_say_ratio(&r);
    for (int v = 0; v < VARIANTS; v++)
        bench_say_beside("tls_stream_cpu", texts[v], "CPU s/GB", cpu_s_per_gb[v], ROUNDS);
    return 0;
}
