/*
 * Figures: one stream in writes of 64 KiB, through each model to an upstream on a thread of its own
 * that only releases, all asleep when nothing is there and all on one core, the sender on the
 * other. References: recv, and SSL_read, in a bare blocking loop of one thread.
 */
#include "bare_tls.h"
#include "tcp.h"
#include "whole.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES_MAX   (128u << 20)
#define WRITE_BYTES (64u << 10)
#define ROUNDS      25

static uint64_t expected; /* bytes */

/* From the first bytes to the last. */
static struct {
    uint64_t bytes, first_cycle, last_cycle;
} run;

static void took(uint64_t bytes)
{
    if (bytes > 0 && run.bytes == 0)
        run.first_cycle = sluice_cycles();
    run.bytes += bytes;
    if (run.bytes == expected)
        run.last_cycle = sluice_cycles();
}

/* ---- the sender, plain ---- */

static void *blast(void *arg)
{
    static char bytes[WRITE_BYTES];
    char byte;
    for (int fd; (fd = accept(*(int *)arg, NULL, NULL)) >= 0; close(fd)) {
        for (uint64_t done = 0; done < expected; done += sizeof(bytes))
            tcp_send_all(fd, bytes, sizeof(bytes));
        while (recv(fd, &byte, 1, 0) > 0) { /* to the other's end */
        }
    }
    return NULL;
}

/* ---- receivers ---- */

static void *upstream(void *arg)
{
    struct sluice_client *c = arg;
    while (run.bytes < expected) {
        BENCH_CHECK(sluice_client_wait(c, SLUICE_WAIT_INBOX, -1) > 0);
        took(engine_take(c));
    }
    BENCH_CHECK(sluice_client_request_close(c) == 0);
    return NULL;
}

static void bare_recv(uint16_t port)
{
    static char bytes[WRITE_BYTES];
    int fd = tcp_connect(port);
    while (run.bytes < expected) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
        BENCH_CHECK(n > 0);
        took((uint64_t)n);
    }
    close(fd);
}

static void bare_ssl_read(uint16_t port)
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

struct way {
    const char *text;
    bool tls;
    const char *backend; /* NULL: bare */
    enum sluice_model model;
};

enum { RECV, SINGLE, TWO_EV, TWO_URING, SSL_READ, TLS_SINGLE, THREE_EV, THREE_AUTO, WAYS };

static const struct way ways[WAYS] = {
    [RECV] = {"blocking recv", false, NULL, SLUICE_MODEL_SINGLE},
    [SINGLE] = {"single on uring", false, "uring", SLUICE_MODEL_SINGLE},
    [TWO_EV] = {"two-thread on ev", false, "ev", SLUICE_MODEL_TWO_THREAD},
    [TWO_URING] = {"two-thread on uring", false, "uring", SLUICE_MODEL_TWO_THREAD},
    [SSL_READ] = {"SSL_read, blocking", true, NULL, SLUICE_MODEL_SINGLE},
    [TLS_SINGLE] = {"TLS, single on uring", true, "uring", SLUICE_MODEL_SINGLE},
    [THREE_EV] = {"TLS, three-thread on ev", true, "ev", SLUICE_MODEL_THREE_THREAD},
    [THREE_AUTO] = {"TLS, three-thread as auto has it", true, "auto", SLUICE_MODEL_THREE_THREAD},
};

static double gb_per_s[WAYS][ROUNDS];

static void measure(int v, uint16_t port, int round)
{
    const struct way *way = &ways[v];
    const struct engine_config cfg = {.port = port,
                                      .backend = way->backend,
                                      .idle = SLUICE_IDLE_SLEEP,
                                      .tls = way->tls ? &bare_tls_config : NULL,
                                      .ktls = SLUICE_KTLS_OFF,
                                      .model = way->model,
                                      .upstream = upstream};
    struct engine_end end;
    memset(&run, 0, sizeof(run));
    if (way->backend)
        engine_run(&cfg, &end);
    else if (way->tls)
        bare_ssl_read(port);
    else
        bare_recv(port);
    BENCH_CHECK(run.bytes == expected);
    gb_per_s[v][round] = (double)run.bytes / bench_ns(run.last_cycle - run.first_cycle);
}

static void say(const char *name, int ours, int reference, double limit)
{
    bench_say_ratio(&(struct bench_ratio){.name = name,
                                          .ours_text = ways[ours].text,
                                          .reference_text = ways[reference].text,
                                          .unit = "GB/s",
                                          .ours = gb_per_s[ours],
                                          .reference = gb_per_s[reference],
                                          .rounds = ROUNDS,
                                          .goal = BENCH_AT_LEAST,
                                          .limit = limit});
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bare_tls_begin();
    expected = bench_quick ? BYTES_MAX / 8 : BYTES_MAX;
    uint16_t port, tls_port;
    int listener = tcp_listen(&port);
    struct bare_tls_blast tls = {.listener = tcp_listen(&tls_port), .bytes = expected};
    pthread_t sender = bench_start(blast, &listener);
    pthread_t tls_sender = bench_start(bare_tls_blast, &tls);
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < WAYS; k++) {
            int v = bench_order(i, k, WAYS);
            measure(v, ways[v].tls ? tls_port : port, i);
        }
    }
    shutdown(listener, SHUT_RDWR);
    shutdown(tls.listener, SHUT_RDWR);
    bench_join(sender);
    bench_join(tls_sender);
    say("single_stream", SINGLE, RECV, 0.85);
    say("two_thread_stream", TWO_EV, RECV, 0.85);
    say("two_thread_uring_stream", TWO_URING, RECV, 0.85);
    say("tls_single_stream", TLS_SINGLE, SSL_READ, 0.8);
    say("three_thread_stream", THREE_EV, SSL_READ, 0.8);
    say("three_thread_auto_stream", THREE_AUTO, SSL_READ, 0.8);
    return 0;
}
