/*
 * The engine of a soak, and the soak: soak BACKEND SECONDS [SEED]. One engine after the other, each
 * with some connections; in the end what the process has open, mapped and resident is what it had
 * after the first few.
 */
#include "soak.h"
#include "base/check.h"
#include "tests/support/tap.h"
#include "tests/support/usage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 40u /* of one engine */
#define WARM_ENGINES    3u
#define RSS_SLACK_KIB   2048u /* heaps of three threads settle late */

struct engine {
    struct soak *soak;
    struct sluice_loop *loop;
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    struct sluice_timer again;
    uint64_t random;
    uint64_t connections_left;
    char url[64];
};

struct usage {
    uint64_t descriptors, maps, rss_kib;
};

/* ---- what the process has ---- */

static uint64_t read_rss_kib(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    SLUICE_CHECK(file && fscanf(file, "%*u %lu", &pages) == 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static struct usage usage_now(void)
{
    return (struct usage){usage_descriptors(), usage_maps(), read_rss_kib()};
}

/* ---- an engine ---- */

static bool goes_on(const struct engine *e)
{
    return e->connections_left > 0 && !atomic_load(&e->soak->over);
}

static void connect_again(struct sluice_timer *timer)
{
    struct engine *e = timer->user;
    if (!goes_on(e)) {
        sluice_loop_stop(e->loop);
        return;
    }
    int err = sluice_transport_connect(e->transport, e->url);
    if (err == -EAGAIN || err == -EISCONN) /* the reader has yet to see the last one's end */
        sluice_timer_start(&e->again, SLUICE_NS_PER_MS, 0);
    else if (err)
        soak_fail("engine", strerror(-err), e->connections_left);
    else
        e->connections_left--;
}

static void on_close(struct sluice_transport *t, const struct sluice_close_record *record,
                     void *user)
{
    struct engine *e = user;
    (void)t;
    /* LOCAL: an upstream's last wish may reach the next connection; that ends in order too. */
    if (record->reason != SLUICE_REASON_PEER_CLOSE && record->reason != SLUICE_REASON_RESET &&
        record->reason != SLUICE_REASON_LOCAL_CLOSE)
        soak_fail("engine", sluice_reason_name(record->reason), record->connection);
    sluice_timer_start(&e->again, random_below(&e->random, 3 * SLUICE_NS_PER_MS), 0);
}

static void engine_open(struct engine *e, const char *backend)
{
    static const enum sluice_idle idles[] = {SLUICE_IDLE_SLEEP, SLUICE_IDLE_SPIN};
    const struct sluice_loop_config loop_cfg = {.backend = backend,
                                                .idle = idles[random_below(&e->random, 2)]};
    const struct sluice_channel_config channel_cfg = {
        .name = "soak",
        .inbox_bytes = 65536u << random_below(&e->random, 5),
        .metadata_entries = 64u << random_below(&e->random, 7),
        .outbox_bytes = 65536u << random_below(&e->random, 3)};
    const struct sluice_transport_config transport_cfg = {
        .model = random_below(&e->random, 2) ? SLUICE_MODEL_SINGLE : SLUICE_MODEL_TWO_THREAD};
    const struct sluice_transport_events events = {.on_close = on_close};
    char why[256] = "";
    if (sluice_loop_create(&e->loop, &loop_cfg, why, sizeof(why)))
        soak_fail("engine", why, 0);
    int err = sluice_channel_create(&e->channel, &channel_cfg);
    if (!err)
        err =
            sluice_transport_create(&e->transport, e->loop, e->channel, &transport_cfg, &events, e);
    if (err)
        soak_fail("engine", strerror(-err), 0);
    sluice_timer_init(&e->again, e->loop, connect_again, e);
    sluice_timer_start(&e->again, 1, 0);
}

/* Nothing of it is left: reader and peer have let go, too. */
static void engine_close(struct engine *e)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    atomic_store(&e->soak->engine, 0);
    sluice_transport_destroy(e->transport);
    sluice_channel_destroy(e->channel);
    sluice_loop_destroy(e->loop);
    while (atomic_load(&e->soak->is_attached) || atomic_load(&e->soak->has_connection))
        nanosleep(&moment, NULL);
}

static void engine_live(struct soak *soak, const char *backend, uint64_t number)
{
    struct engine e = {.soak = soak, .random = soak->seed + 1000003 * number};
    e.connections_left = 1 + random_below(&e.random, CONNECTIONS_MAX);
    snprintf(e.url, sizeof(e.url), "tcp://127.0.0.1:%u", soak->port);
    engine_open(&e, backend);
    atomic_store(&soak->engine, number);
    if (sluice_loop_run(e.loop) < 0)
        soak_fail("engine", "the loop ended", number);
    engine_close(&e);
}

/* ---- the soak ---- */

static void listen_anywhere(struct soak *soak)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    soak->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SLUICE_CHECK(bind(soak->listener, (struct sockaddr *)&addr, bytes) == 0);
    SLUICE_CHECK(listen(soak->listener, 8) == 0);
    SLUICE_CHECK(getsockname(soak->listener, (struct sockaddr *)&addr, &bytes) == 0);
    soak->port = ntohs(addr.sin_port);
}

static void report(struct soak *soak, uint64_t engines, const struct usage *warm,
                   const struct usage *now)
{
    uint64_t received = atomic_load(&soak->received_bytes), sent = atomic_load(&soak->sent_bytes);
    tap_note("%llu engines, %llu upstreams, %llu connections ended in order, %llu reset",
             (unsigned long long)engines, (unsigned long long)atomic_load(&soak->attached),
             (unsigned long long)atomic_load(&soak->orderly),
             (unsigned long long)atomic_load(&soak->resets));
    tap_ok(received > 0 && sent > 0 && atomic_load(&soak->orderly) > 0,
           "bytes arrive as they were sent: %llu MiB received, %llu MiB sent",
           (unsigned long long)(received >> 20), (unsigned long long)(sent >> 20));
    tap_ok(engines > WARM_ENGINES, "enough engines to compare");
    tap_ok(now->descriptors == warm->descriptors, "descriptors: %llu, %llu at first",
           (unsigned long long)now->descriptors, (unsigned long long)warm->descriptors);
    tap_ok(now->maps == warm->maps, "maps of rings: %llu, %llu at first",
           (unsigned long long)now->maps, (unsigned long long)warm->maps);
    tap_ok(now->rss_kib <= warm->rss_kib + RSS_SLACK_KIB, "resident: %llu KiB, %llu at first",
           (unsigned long long)now->rss_kib, (unsigned long long)warm->rss_kib);
    tap_ok(tap.failed == 0, "row 77: nothing is lost, nothing piles up");
}

int main(int argc, char **argv)
{
    static struct soak soak;
    struct usage warm = {0}, now = {0};
    uint64_t engines = 0;
    pthread_t peer, reader;
    tap_begin();
    SLUICE_CHECK(argc >= 3);
    uint64_t end_ns = sluice_monotonic_ns() + strtoull(argv[2], NULL, 10) * SLUICE_NS_PER_S;
    soak.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : sluice_realtime_ns() % 1000000;
    tap_note("%s, seed %llu", argv[1], (unsigned long long)soak.seed);
    listen_anywhere(&soak);
    SLUICE_CHECK(pthread_create(&peer, NULL, peer_run, &soak) == 0);
    SLUICE_CHECK(pthread_create(&reader, NULL, reader_run, &soak) == 0);
    while (sluice_monotonic_ns() < end_ns) {
        engine_live(&soak, argv[1], ++engines);
        now = usage_now();
        if (engines == WARM_ENGINES)
            warm = now;
    }
    atomic_store(&soak.over, true);
    shutdown(soak.listener, SHUT_RDWR);
    pthread_join(reader, NULL);
    pthread_join(peer, NULL);
    close(soak.listener);
    report(&soak, engines, &warm, &now);
    return tap_end();
}
