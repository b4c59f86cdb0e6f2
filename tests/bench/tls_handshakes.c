/*
 * Figure: CPU time of a client per full TLS 1.3 handshake (P-256, both sides verifying), with its
 * connection: from connect to close_notify both ways. The engine sleeps between events. Reference:
 * a bare blocking OpenSSL client with the same files.
 */
#include "bare_tls.h"
#include "tcp.h"
#include "whole.h"

#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#define HANDSHAKES 60
#define ROUNDS     31

static int handshakes;

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- ours ---- */

static struct {
    struct sluice_loop *loop;
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    int opened;
} engine;

static void on_open(struct sluice_transport *t, void *user)
{
    (void)user;
    engine.opened++;
    sluice_transport_close(t);
}

static void on_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    const struct sluice_meta *entries;
    struct sluice_client *c = sluice_transport_upstream(t);
    int64_t count = sluice_inbox_peek(c, &entries, 64);
    BENCH_CHECK(count >= 0);
    sluice_inbox_release(c, (uint32_t)count);
}

static void open_engine(void)
{
    char why[160];
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_SLEEP};
    const struct sluice_channel_config channel_cfg = {.name = NULL};
    const struct sluice_transport_config cfg = {.tls = &bare_tls_config};
    const struct sluice_transport_events events = {.on_open = on_open, .on_inbox = on_inbox};
    if (sluice_loop_create(&engine.loop, &loop_cfg, why, sizeof(why)))
        bench_fail("%s", why);
    BENCH_CHECK(sluice_channel_create(&engine.channel, &channel_cfg) == 0);
    BENCH_CHECK(sluice_transport_create(&engine.transport, engine.loop, engine.channel, &cfg,
                                        &events, NULL) == 0);
    BENCH_CHECK(sluice_transport_upstream(engine.transport) != NULL);
}

static void close_engine(void)
{
    sluice_transport_destroy(engine.transport);
    sluice_channel_destroy(engine.channel);
    sluice_loop_destroy(engine.loop);
}

static void ours(const char *url)
{
    engine.opened = 0;
    for (int i = 0; i < handshakes; i++) {
        BENCH_CHECK(sluice_transport_connect(engine.transport, url) == 0);
        BENCH_CHECK(sluice_loop_run(engine.loop) == 0);
    }
    if (engine.opened != handshakes)
        bench_fail("%d of %d handshakes: %s", engine.opened, handshakes,
                   sluice_transport_why(engine.transport));
}

/* ---- rounds ---- */

enum variant { OURS, BARE, VARIANTS };

static double measure(enum variant v, uint16_t port, const char *url)
{
    uint64_t before = cpu_ns();
    if (v == OURS)
        ours(url);
    for (int i = 0; v == BARE && i < handshakes; i++)
        bare_tls_close(bare_tls_connect(port));
    return (double)(cpu_ns() - before) / 1000 / handshakes;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bare_tls_begin();
    handshakes = bench_quick ? HANDSHAKES / 4 : HANDSHAKES;
    uint16_t port;
    char url[64];
    int listener = tcp_listen(&port);
    snprintf(url, sizeof(url), "tls://127.0.0.1:%u", port);
    pthread_t server = bench_start(bare_tls_greet, &listener);
    static double us[VARIANTS][ROUNDS];
    open_engine();
    measure(OURS, port, url); /* warm */
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            us[v][i] = measure((enum variant)v, port, url);
        }
    }
    close_engine();
    shutdown(listener, SHUT_RDWR);
    bench_join(server);
    bench_say_ratio(&(struct bench_ratio){
        .name = "tls_handshake",
        .ours_text = "client CPU per full TLS 1.3 handshake, P-256, both verify",
        .reference_text = "a bare OpenSSL client",
        .unit = "us",
        .ours = us[OURS],
        .reference = us[BARE],
        .rounds = ROUNDS,
        .goal = BENCH_AT_MOST,
        .limit = 1.05});
    return 0;
}
