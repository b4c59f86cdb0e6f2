/*
 * Time stamps and packet counts in MSG_METADATA: true, or not given.
 */
#include "sluice.h"
#include "base/clock.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define APART_MS 50

struct fixture {
    struct sluice_loop *loop;
    struct sluice_channel *ch;
    struct sluice_transport *transport;
    int listener, peer;
    uint16_t port;
};

static void listen_on(struct fixture *f)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    cr_assert_eq(listen(f->listener, 1), 0);
    cr_assert_eq(getsockname(f->listener, (struct sockaddr *)&addr, &bytes), 0);
    f->port = ntohs(addr.sin_port);
}

static bool open_on(struct fixture *f, const char *backend, enum sluice_timestamps stamps)
{
    const int one = 1;
    char url[64], why[160];
    const struct sluice_loop_config loop_cfg = {.backend = backend};
    const struct sluice_channel_config channel_cfg = {.name = NULL};
    const struct sluice_transport_config cfg = {.timestamps = stamps};
    struct sluice_state state;
    if (sluice_loop_create(&f->loop, &loop_cfg, why, sizeof(why)))
        return false; /* no io_uring here */
    cr_assert_eq(sluice_channel_create(&f->ch, &channel_cfg), 0);
    cr_assert_eq(sluice_transport_create(&f->transport, f->loop, f->ch, &cfg, NULL, NULL), 0);
    cr_assert(sluice_transport_upstream(f->transport) != NULL);
    listen_on(f);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", f->port);
    cr_assert_eq(sluice_transport_connect(f->transport, url), 0);
    f->peer = -1;
    do {
        cr_assert_geq(sluice_loop_turn(f->loop), 0);
        sluice_channel_state(f->ch, &state);
    } while (state.conn_state != SLUICE_CONN_OPEN);
    f->peer = accept(f->listener, NULL, NULL);
    cr_assert_geq(f->peer, 0);
    setsockopt(f->peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return true;
}

static void close_all(struct fixture *f)
{
    close(f->peer);
    close(f->listener);
    sluice_transport_destroy(f->transport);
    sluice_channel_destroy(f->ch);
    sluice_loop_destroy(f->loop);
}

static void nap_ms(long ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

/* The next entry with bytes. */
static struct sluice_meta next(struct fixture *f)
{
    struct sluice_client *up = sluice_transport_upstream(f->transport);
    const struct sluice_meta *entry;
    for (;;) {
        if (sluice_inbox_peek(up, &entry, 1) == 1) {
            struct sluice_meta copy = *entry;
            cr_assert_eq(sluice_inbox_release(up, 1), 0);
            if (copy.event == SLUICE_EVENT_DATA)
                return copy;
            continue;
        }
        cr_assert_geq(sluice_loop_turn(f->loop), 0);
    }
}

static void say(struct fixture *f, size_t bytes)
{
    static char text[3000];
    cr_assert_eq(send(f->peer, text, bytes, 0), (ssize_t)bytes);
}

/* The kernel begins to stamp packets some time after the first socket that asks for it. */
static bool open_stamped(struct fixture *f, const char *backend)
{
    if (!open_on(f, backend, SLUICE_TIMESTAMPS_SOFTWARE))
        return false;
    uint64_t end = sluice_monotonic_ns() + 5 * SLUICE_NS_PER_S;
    do {
        cr_assert_lt(sluice_monotonic_ns(), end, "%s: no packet gets a stamp", backend);
        say(f, 1);
    } while (!(next(f).flags & SLUICE_META_STAMP_SW));
    return true;
}

static const char *const backends[] = {"uring", "ev:epoll", "ev:poll", "ev:select"};
#define EACH_BACKEND(f, open)                                             \
    for (unsigned b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) \
        for (struct fixture f = {0}, *once = &f; once; once = NULL)       \
            for (bool on = (open); on; on = false, close_all(&f))

Test(stamp, one_packet_has_its_own)
{
    EACH_BACKEND(f, open_stamped(&f, backends[b]))
    {
        for (int i = 0; i < 3; i++) {
            uint64_t before = sluice_realtime_ns();
            say(&f, 100);
            struct sluice_meta m = next(&f);
            cr_expect_eq(m.decrypted_len, 100u);
            cr_expect_eq(m.nic_packet_ct, 1u, "%s: %u packets", backends[b], m.nic_packet_ct);
            cr_expect_eq(m.first_nic_timestamp_ns, m.latest_nic_timestamp_ns);
            cr_expect(m.first_nic_timestamp_ns >= before &&
                          m.first_nic_timestamp_ns <= sluice_realtime_ns(),
                      "%s: %lu, sent after %lu", backends[b],
                      (unsigned long)m.first_nic_timestamp_ns, (unsigned long)before);
            cr_expect_eq(m.flags & (SLUICE_META_STAMP_SW | SLUICE_META_STAMP_HW),
                         SLUICE_META_STAMP_SW);
        }
    }
}

Test(stamp, of_two_packets_only_the_last_is_known)
{
    EACH_BACKEND(f, open_stamped(&f, backends[b]))
    {
        say(&f, 100);
        next(&f);
        say(&f, 10);
        nap_ms(APART_MS);
        uint64_t before = sluice_realtime_ns();
        say(&f, 20);
        nap_ms(1);
        struct sluice_meta m = next(&f);
        cr_expect_eq(m.decrypted_len, 30u, "%s: read at once", backends[b]);
        cr_expect_eq(m.nic_packet_ct, 2u);
        cr_expect_eq(m.first_nic_timestamp_ns, 0u);
        cr_expect_geq(m.latest_nic_timestamp_ns, before);
        cr_expect(m.flags & SLUICE_META_STAMP_SW);
        say(&f, 5); /* and it goes on as before */
        m = next(&f);
        cr_expect_eq(m.nic_packet_ct, 1u);
        cr_expect_eq(m.first_nic_timestamp_ns, m.latest_nic_timestamp_ns);
    }
}

Test(stamp, none_unless_asked_for)
{
    EACH_BACKEND(f, open_on(&f, backends[b], SLUICE_TIMESTAMPS_OFF))
    {
        say(&f, 100);
        struct sluice_meta m = next(&f);
        cr_expect_eq(m.nic_packet_ct, 0u);
        cr_expect_eq(m.first_nic_timestamp_ns, 0u);
        cr_expect_eq(m.latest_nic_timestamp_ns, 0u);
        cr_expect_eq(m.flags & (SLUICE_META_STAMP_SW | SLUICE_META_STAMP_HW), 0);
    }
}
