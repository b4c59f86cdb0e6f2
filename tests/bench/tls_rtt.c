/*
 * Figure: a 64-byte round trip over TLS in user space, in line, busy, the echo peer on the other
 * core. Reference: SSL_read and SSL_write spinning on a non-blocking socket. Beside it: blocking.
 */
#include "bare_tls.h"
#include "tcp.h"
#include "trips.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define BYTES     64
#define TRIPS_MAX 4000
#define ROUNDS    45  /* as in rtt.c */
#define WARM      300 /* trips of each run that do not count */

static int trips;
static double ns[TRIPS_MAX];

enum variant { OURS, SPINNING, BLOCKING, VARIANTS };

static void bare(uint16_t port, bool spinning)
{
    char out[BYTES], in[BYTES];
    SSL *ssl = bare_tls_connect(port);
    int flags = spinning ? O_NONBLOCK : 0;
    BENCH_CHECK(fcntl(SSL_get_fd(ssl), F_SETFL, flags) == 0);
    for (int i = 0; i < trips; i++) {
        uint64_t start = sluice_cycles();
        memset(out, i, sizeof(out));
        BENCH_CHECK(SSL_write(ssl, out, sizeof(out)) == sizeof(out));
        for (int got = 0; got < BYTES;) {
            int n = SSL_read(ssl, in + got, BYTES - got);
            BENCH_CHECK(n > 0 || SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ);
            got += n > 0 ? n : 0;
        }
        ns[i] = bench_ns(sluice_cycles() - start);
    }
    BENCH_CHECK(fcntl(SSL_get_fd(ssl), F_SETFL, 0) == 0);
    bare_tls_close(ssl);
}

static double run(enum variant v, uint16_t port)
{
    const struct engine_config cfg = {
        .port = port, .idle = SLUICE_IDLE_BUSY, .tls = &bare_tls_config};
    if (v == OURS)
        trips_in_line(&cfg, BYTES, trips, ns);
    else
        bare(port, v == SPINNING);
    return bench_quantile(ns + WARM, (size_t)(trips - WARM), 0.5);
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    bare_tls_begin();
    trips = bench_quick ? 1500 : TRIPS_MAX;
    uint16_t port;
    int listener = tcp_listen(&port);
    pthread_t echo = bench_start(bare_tls_echo, &listener);
    static double p50[VARIANTS][ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < VARIANTS; k++) {
            int v = bench_order(i, k, VARIANTS);
            p50[v][i] = run((enum variant)v, port);
        }
    }
    shutdown(listener, SHUT_RDWR);
    bench_join(echo);
    bench_say_ratio(
        &(struct bench_ratio){.name = "tls_round_trip",
                              .ours_text = "64-byte round trip over TLS, in line, busy, p50",
                              .reference_text = "SSL_read and SSL_write, non-blocking",
                              .unit = "ns",
                              .ours = p50[OURS],
                              .reference = p50[SPINNING],
                              .rounds = ROUNDS,
                              .goal = BENCH_AT_MOST,
                              .limit = 1.10});
    bench_say_beside("tls_round_trip_beside", "SSL_read and SSL_write, blocking", "ns",
                     p50[BLOCKING], ROUNDS);
    return 0;
}
