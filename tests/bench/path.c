/*
 * The length of a path, for tests/vm/ruler: one end of a connection, N times, and nothing else that
 * counts. path WHAT WAY N: WHAT is `trips` (64 bytes there and back) or `receive` (16 KiB); WAY is
 * how, see ways. All of them sleep, for the guest has one core; the peer is a process of its own,
 * waited for by nobody, and blocks.
 */
#include "bare.h"
#include "bare_tls.h"
#include "tcp.h"
#include "trips.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVED_BYTES BARE_TLS_RECORD_BYTES

static uint64_t count;
static char bytes[RECEIVED_BYTES];

/* ---- the peer ---- */

static void serve_plain(int fd, bool echoes)
{
    for (uint64_t i = 0; i < count && !echoes; i++)
        tcp_send_all(fd, bytes, sizeof(bytes));
    for (ssize_t n; (n = recv(fd, bytes, sizeof(bytes), 0)) > 0;)
        tcp_send_all(fd, bytes, (size_t)n);
}

static void serve_tls(SSL *ssl, bool echoes)
{
    for (uint64_t i = 0; i < count && !echoes; i++)
        BENCH_CHECK(SSL_write(ssl, bytes, sizeof(bytes)) == sizeof(bytes));
    for (int n; (n = SSL_read(ssl, bytes, sizeof(bytes))) > 0;)
        BENCH_CHECK(SSL_write(ssl, bytes, n) == n);
}

/* Its parent ends at once: what it uses is in nobody's account. */
static uint16_t start_peer(bool tls, bool echoes)
{
    uint16_t port;
    int listener = tcp_listen(&port);
    pid_t pid = fork();
    BENCH_CHECK(pid >= 0);
    if (pid > 0 || fork() != 0) {
        if (pid == 0)
            _exit(0);
        close(listener);
        return port;
    }
    if (tls) {
        serve_tls(bare_tls_accept(listener), echoes);
    } else {
        int fd = accept(listener, NULL, NULL);
        BENCH_CHECK(fd >= 0);
        tcp_set_nodelay(fd);
        serve_plain(fd, echoes);
    }
    _exit(0);
}

/* ---- receive ---- */

static void receive_by(int fd, int flags, int epoll)
{
    for (uint64_t left = count * sizeof(bytes); left > 0;) {
        struct epoll_event event;
        if (epoll >= 0)
            BENCH_CHECK(epoll_wait(epoll, &event, 1, -1) == 1);
        for (ssize_t n; left > 0 && (n = recv(fd, bytes, sizeof(bytes), flags)) > 0;)
            left -= (uint64_t)n;
    }
}

static void receive_blocking(int fd)
{
    receive_by(fd, 0, -1);
}

static void receive_by_epoll(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    BENCH_CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    receive_by(fd, MSG_DONTWAIT, epoll);
    close(epoll);
}

static uint64_t received;

static void on_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    struct sluice_client *c = sluice_transport_upstream(t);
    const struct sluice_meta *entries;
    int64_t n = sluice_inbox_peek(c, &entries, 64);
    BENCH_CHECK(n >= 0);
    for (int64_t i = 0; i < n; i++)
        received += entries[i].decrypted_len;
    sluice_inbox_release(c, (uint32_t)n);
    if (received == count * sizeof(bytes)) {
        received++; /* once */
        sluice_transport_close(t);
    }
}

static void receive_in_line(const struct engine_config *cfg)
{
    struct engine_end end;
    struct engine_config own = *cfg;
    own.attach = true;
    own.events = (struct sluice_transport_events){.on_inbox = on_inbox};
    engine_run(&own, &end);
    if (received != count * sizeof(bytes) + 1)
        bench_fail("%llu of %llu bytes, then %s", (unsigned long long)received,
                   (unsigned long long)(count * sizeof(bytes)),
                   sluice_reason_name(end.record.reason));
}

/* ---- TLS without sluice ---- */

static void trips_by_ssl(SSL *ssl)
{
    for (uint64_t i = 0; i < count; i++) {
        BENCH_CHECK(SSL_write(ssl, bytes, BARE_BYTES) == BARE_BYTES);
        for (int got = 0, n; got < (int)BARE_BYTES; got += n) {
            n = SSL_read(ssl, bytes + got, (int)BARE_BYTES - got);
            BENCH_CHECK(n > 0);
        }
    }
}

static void receive_by_ssl(SSL *ssl)
{
    for (uint64_t left = count * sizeof(bytes); left > 0;) {
        int n = SSL_read(ssl, bytes, sizeof(bytes));
        BENCH_CHECK(n > 0);
        left -= (uint64_t)n;
    }
}

/* ---- ways ---- */

static const struct way {
    const char *name;
    void (*trips)(int fd, int trips, double *ns); /* NULL: sluice, or SSL_read and SSL_write */
    void (*receive)(int fd);
    bool tls, ours;
    struct engine_config cfg;
} ways[] = {
    {.name = "blocking", .trips = bare_recv_blocking, .receive = receive_blocking},
    {.name = "epoll", .trips = bare_epoll_sleeping, .receive = receive_by_epoll},
    {.name = "io_uring", .trips = bare_uring_sleeping},
    {.name = "plain", .ours = true},
    {.name = "plain_ev", .ours = true, .cfg = {.backend = "ev"}},
    {.name = "ssl", .tls = true},
    {.name = "user", .tls = true, .ours = true, .cfg = {.ktls = SLUICE_KTLS_OFF}},
    {.name = "user_ev",
     .tls = true,
     .ours = true,
     .cfg = {.ktls = SLUICE_KTLS_OFF, .backend = "ev"}},
    {.name = "kernel", .tls = true, .ours = true, .cfg = {.ktls = SLUICE_KTLS_REQUIRE}},
    {.name = "kernel_ev",
     .tls = true,
     .ours = true,
     .cfg = {.ktls = SLUICE_KTLS_REQUIRE, .backend = "ev"}},
};

static const struct way *find(const char *name)
{
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(ways[i].name, name) == 0)
            return &ways[i];
    bench_fail("no way of this name: %s", name);
}

static void run_ours(const struct way *way, bool trips, uint16_t port, double *ns)
{
    struct engine_config cfg = way->cfg;
    cfg.port = port;
    cfg.tls = way->tls ? &bare_tls_config : NULL;
    if (trips)
        trips_in_line(&cfg, BARE_BYTES, (int)count, ns);
    else
        receive_in_line(&cfg);
}

int main(int argc, char **argv)
{
    BENCH_CHECK(argc == 4);
    const struct way *way = find(argv[2]);
    bool trips = strcmp(argv[1], "trips") == 0;
    count = strtoull(argv[3], NULL, 10);
    bench_begin(0, NULL);
    if (way->tls)
        bare_tls_begin();
    double *ns = calloc(count, sizeof(*ns));
    BENCH_CHECK(ns != NULL && (trips || way->receive || way->tls || way->ours));
    uint16_t port = start_peer(way->tls, trips);
    if (way->ours) {
        run_ours(way, trips, port, ns);
    } else if (way->tls) {
        SSL *ssl = bare_tls_connect(port);
        (trips ? trips_by_ssl : receive_by_ssl)(ssl);
        bare_tls_close(ssl);
    } else {
        int fd = tcp_connect(port);
        if (trips)
            way->trips(fd, (int)count, ns);
        else
            way->receive(fd);
        close(fd);
    }
    free(ns);
    return 0;
}
