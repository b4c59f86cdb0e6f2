/*
 * What the engine does not do once a connection is open: allocate. Traffic of both kinds (round
 * trips, then messages of 32 KiB with a window) runs in line; the heap's counter must not move.
 * With TLS what OpenSSL asks for is counted apart.
 *
 *   quiet hold busy|sleep   for tools/bench, which looks from outside: open a connection under the
 *                           name "quiet" with an upstream in a process of its own, say the pids
 *                           and when it is open, and let nothing happen until stdin ends
 */
#include "bare_tls.h"
#include "heap.h"
#include "tcp.h"
#include "whole.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_BYTES 64u
#define LARGE_BYTES (32u << 10)
#define WINDOW      8u
#define HOLD_MAX_S  120

/* ---- counting ---- */

static struct {
    uint64_t small_left, large_left, outstanding;
    uint64_t heap_at_open, heap_at_end;
    uint64_t openssl_at_open, openssl_at_end;
} run;

static void ask(struct sluice_transport *t, uint32_t bytes)
{
    void *room;
    struct sluice_client *c = sluice_transport_upstream(t);
    BENCH_CHECK(sluice_outbox_claim(c, bytes, &room) == 0);
    memset(room, 'q', bytes);
    sluice_outbox_commit(c, 0, SLUICE_MESSAGE_DATA);
    run.outstanding += bytes;
}

static void ask_more(struct sluice_transport *t)
{
    if (run.small_left > 0) {
        if (run.outstanding == 0) {
            run.small_left--;
            ask(t, SMALL_BYTES);
        }
        return;
    }
    while (run.large_left > 0 && run.outstanding <= (WINDOW - 1) * LARGE_BYTES) {
        run.large_left--;
        ask(t, LARGE_BYTES);
    }
    if (run.outstanding == 0) {
        run.heap_at_end = heap_calls();
        run.openssl_at_end = bare_tls_heap_calls();
        sluice_transport_close(t);
    }
}

static void on_open(struct sluice_transport *t, void *user)
{
    (void)user;
    run.heap_at_open = heap_calls();
    run.openssl_at_open = bare_tls_heap_calls();
    ask_more(t);
}

static void on_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    struct sluice_client *c = sluice_transport_upstream(t);
    const struct sluice_meta *entries;
    int64_t count = sluice_inbox_peek(c, &entries, 64);
    BENCH_CHECK(count >= 0);
    for (int64_t i = 0; i < count; i++) {
        BENCH_CHECK(entries[i].decrypted_len <= run.outstanding);
        run.outstanding -= entries[i].decrypted_len;
    }
    sluice_inbox_release(c, (uint32_t)count);
    ask_more(t);
}

/* The peer is on a thread of this process: what it asks for after its start is counted too. */
static void count_allocations(void *(*peer)(void *), struct engine_config cfg, const char *text)
{
    struct engine_end end;
    int listener = tcp_listen(&cfg.port);
    pthread_t thread = bench_start(peer, &listener);
    cfg.attach = true;
    cfg.events = (struct sluice_transport_events){.on_open = on_open, .on_inbox = on_inbox};
    memset(&run, 0, sizeof(run));
    run.small_left = bench_quick ? 2000 : 20000;
    run.large_left = bench_quick ? 2000 : 20000;
    engine_run(&cfg, &end);
    shutdown(listener, SHUT_RDWR);
    bench_join(thread);
    if (run.small_left || run.large_left || run.outstanding)
        bench_fail("the traffic did not end: %s", sluice_reason_name(end.record.reason));
    double openssl = (double)(run.openssl_at_end - run.openssl_at_open);
    bench_say_count("heap_allocations", text,
                    (double)(run.heap_at_end - run.heap_at_open) - openssl, 0);
    if (cfg.tls)
        bench_say_beside("heap_allocations_openssl", "OpenSSL's own, with those of the peer", "",
                         &openssl, 1);
}

/* ---- holding still ---- */

static void stop(int sig)
{
    (void)sig;
    if (engine_loop)
        sluice_loop_stop(engine_loop);
}

/* Reads to the end and says nothing. */
static void be_peer(int listener)
{
    char bytes[64];
    int fd = accept(listener, NULL, NULL);
    while (recv(fd, bytes, sizeof(bytes), 0) > 0)
        ;
}

static void be_upstream(void)
{
    struct sluice_client *c = NULL;
    const struct sluice_meta *entries;
    for (int tries = 0; tries < 2000 && !c; tries++)
        if (sluice_attach(&c, "quiet", SLUICE_UPSTREAM, (int64_t)SLUICE_NS_PER_S))
            usleep(5000);
    BENCH_CHECK(c != NULL);
    while (sluice_client_wait(c, SLUICE_WAIT_INBOX, -1) > 0) {
        int64_t count = sluice_inbox_peek(c, &entries, 64);
        BENCH_CHECK(count >= 0);
        if (count > 0 && entries[0].event == SLUICE_EVENT_CONNECTED)
            printf("{\"kind\": \"open\"}\n");
        sluice_inbox_release(c, (uint32_t)count);
    }
    sluice_detach(c);
}

/* The engine: stopped by SIGTERM. */
static void be_engine(uint16_t port, enum sluice_idle idle)
{
    struct engine_end end;
    const struct engine_config cfg = {.port = port, .name = "quiet", .idle = idle};
    signal(SIGTERM, stop);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* strace is not our parent */
    bench_pin(0);
    engine_run(&cfg, &end);
}

static pid_t start(int role, int listener, uint16_t port, enum sluice_idle idle)
{
    pid_t pid = fork();
    BENCH_CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    alarm(HOLD_MAX_S);
    if (role == 0)
        be_peer(listener);
    else if (role == 1)
        be_engine(port, idle);
    else
        be_upstream();
    _exit(0);
}

static int hold(enum sluice_idle idle)
{
    uint16_t port;
    int listener = tcp_listen(&port), status = 0;
    pid_t pids[3];
    for (int role = 0; role < 3; role++)
        pids[role] = start(role, listener, port, idle);
    printf("{\"kind\": \"hold\", \"engine\": %d, \"upstream\": %d}\n", pids[1], pids[2]);
    struct pollfd in = {.events = POLLIN};
    poll(&in, 1, HOLD_MAX_S * 1000);
    kill(pids[1], SIGTERM);
    for (int role = 0; role < 3; role++) {
        int one = 0;
        waitpid(pids[role], &one, 0);
        status |= one;
    }
    return status ? 1 : 0;
}

int main(int argc, char **argv)
{
    bench_begin(argc, argv);
    if (argc > 2 && strcmp(argv[1], "hold") == 0)
        return hold(strcmp(argv[2], "busy") == 0 ? SLUICE_IDLE_BUSY : SLUICE_IDLE_SLEEP);
    bare_tls_begin();
    count_allocations(tcp_echo, (struct engine_config){.idle = SLUICE_IDLE_BUSY},
                      "heap allocations after open: busy, receive auto");
    count_allocations(
        tcp_echo,
        (struct engine_config){.idle = SLUICE_IDLE_BUSY, .receive = SLUICE_RECEIVE_ONE_SHOT},
        "heap allocations after open: busy, one-shot");
    count_allocations(tcp_echo, (struct engine_config){.idle = SLUICE_IDLE_SLEEP},
                      "heap allocations after open: sleep, receive auto");
    count_allocations(bare_tls_echo,
                      (struct engine_config){.idle = SLUICE_IDLE_BUSY, .tls = &bare_tls_config},
                      "heap allocations after open: busy, TLS");
    count_allocations(tcp_echo,
                      (struct engine_config){.backend = "ev:epoll", .idle = SLUICE_IDLE_SLEEP},
                      "heap allocations after open: sleep, ev:epoll");
    count_allocations(tcp_echo,
                      (struct engine_config){.backend = "ev:poll", .idle = SLUICE_IDLE_SLEEP},
                      "heap allocations after open: sleep, ev:poll");
    count_allocations(tcp_echo,
                      (struct engine_config){.backend = "ev:select", .idle = SLUICE_IDLE_BUSY},
                      "heap allocations after open: busy, ev:select");
    return 0;
}
