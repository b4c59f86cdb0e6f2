/*
 * A transport's life at its edges: when callbacks come, how long an end may take, what survives a
 * peer that is gone. On the simulated network, and on the kernel where only it behaves like that.
 */
#include "loop.h"
#include "base/clock.h"
#include "rings/client.h"
#include "tests/support/sim_net.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRAIN_NS (10 * SLUICE_NS_PER_MS)

static struct sluice_loop *loop;
static struct sluice_channel *channel;
static struct sluice_transport *transport;
static struct sluice_client *upstream;
static struct sluice_close_record record;
static int closed, listener, peer;

static void on_close(struct sluice_transport *t, const struct sluice_close_record *r, void *user)
{
    (void)t;
    (void)user;
    closed++;
    record = *r;
}

static const struct sluice_transport_events events = {.on_close = on_close};

static void turns(int n)
{
    for (int i = 0; i < n; i++) {
        cr_assert_geq(sluice_loop_turn(loop), 0);
        if (peer < 0)
            peer = sluice_sim_accept(loop->be, listener);
    }
}

static void pass(uint64_t ns)
{
    sluice_sim_advance(loop->be, ns);
    turns(5);
}

static void set_up(void)
{
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY};
    const struct sluice_channel_config cfg = {0};
    const struct sluice_transport_config transport_cfg = {.drain_timeout_ns = DRAIN_NS};
    cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &loop_cfg, 1), 0);
    sluice_sim_set_faults(loop->be, &sluice_sim_faults_none);
    sluice_sim_set_default_window(loop->be, 1000);
    cr_assert_eq(sluice_channel_create(&channel, &cfg), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &transport_cfg, &events, NULL),
                 0);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
    listener = sim_listen(loop->be, 1, 80, SLUICE_SIM_OPEN);
    closed = 0;
    peer = -1;
}

static void tear_down(void)
{
    sluice_detach(upstream);
    sluice_transport_destroy(transport);
    sluice_channel_destroy(channel);
    sluice_loop_destroy(loop);
}

TestSuite(transport, .init = set_up, .fini = tear_down);

static void open_it(void)
{
    peer = -1;
    cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.1:80"), 0);
    turns(10);
    cr_assert_geq(peer, 0);
}

static void put(size_t bytes, enum sluice_message_type type)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(upstream, bytes, &room), 0);
    memset(room, 'u', bytes);
    sluice_outbox_commit(upstream, 0, type);
}

static uint64_t read_all(struct sluice_client *c)
{
    const struct sluice_meta *m;
    uint64_t bytes = 0;
    for (int64_t n; (n = sluice_inbox_peek(c, &m, 64)) > 0;) {
        for (int64_t i = 0; i < n; i++)
            bytes += m[i].decrypted_len;
        cr_assert_eq(sluice_inbox_release(c, (uint32_t)n), 0);
    }
    return bytes;
}

/* ---- callbacks ---- */

Test(transport, closing_twice_tells_later_from_the_loop)
{
    open_it();
    sluice_transport_close(transport);
    sluice_transport_close(transport);
    cr_expect_eq(closed, 0, "told inside the call");
    turns(5);
    cr_expect_eq(closed, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_LOCAL_CLOSE);
}

static void empty_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    read_all(sluice_transport_upstream(t));
}

static void make_inline(void)
{
    const struct sluice_channel_config small = {.metadata_entries = 64};
    const struct sluice_transport_config cfg = {.drain_timeout_ns = DRAIN_NS};
    const struct sluice_transport_events inline_events = {.on_inbox = empty_inbox};
    sluice_detach(upstream);
    upstream = NULL;
    sluice_transport_destroy(transport);
    sluice_channel_destroy(channel);
    cr_assert_eq(sluice_channel_create(&channel, &small), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &cfg, &inline_events, NULL), 0);
    cr_assert_not_null(sluice_transport_upstream(transport));
    open_it();
}

/* The last entry is published in the very turn after which the loop ends. */
Test(transport, an_inline_upstream_sees_the_end_before_the_loop_ends)
{
    make_inline();
    sluice_sim_peer_reset(loop->be, peer);
    cr_assert_eq(sluice_loop_run(loop), 0);
    cr_expect_eq(channel->inbox.meta_tail, 2u); /* CONNECTED, DISCONNECTED */
    cr_expect_eq(sluice_inbox_position(sluice_transport_upstream(transport)), channel->inbox.tail);
    sluice_inbox_refresh(channel);
    cr_expect_eq(channel->inbox.meta_head, 2u);
}

/* Nobody watched its doorbell since the first one went. */
Test(transport, the_next_one_has_an_inline_upstream_at_once)
{
    const struct sluice_transport_config cfg = {0};
    make_inline();
    for (int i = 0; i < 3 * (int)SLUICE_WRITERS_MAX; i++) {
        sluice_transport_destroy(transport);
        cr_assert_eq(sluice_transport_create(&transport, loop, channel, &cfg, NULL, NULL), 0);
        cr_assert_not_null(sluice_transport_upstream(transport), "transport %d", i);
    }
    cr_expect_eq(channel->upstream, (int)sluice_transport_upstream(transport)->index);
}

/* It was thrown out, and its place is another's. */
Test(transport, an_inline_upstream_that_lied_takes_nobody_with_it)
{
    struct sluice_client *other;
    make_inline();
    struct sluice_client *liar = sluice_transport_upstream(transport);
    atomic_store(&liar->mine->meta_head, 1u << 30);
    sluice_inbox_refresh(channel);
    for (int i = 0; i < 20 && channel->writers[liar->index].state != WRITER_FREE; i++) {
        sim_show_clients(loop->be, channel);
        turns(1);
    }
    cr_assert_eq(sluice_attach_local(&other, channel, SLUICE_UPSTREAM), 0);
    cr_assert_eq(other->index, liar->index);
    sluice_transport_destroy(transport);
    transport = NULL;
    cr_expect_eq(channel->upstream, (int)other->index);
    sluice_detach(other);
}

/* ---- how long an end may take ---- */

/* We sent FIN and the upstream left; another comes within the limit: the peer may go on sending. */
Test(transport, an_upstream_that_comes_back_stops_the_drain_limit)
{
    open_it();
    put(0, SLUICE_MESSAGE_WS_CLOSE);
    turns(5);
    sluice_detach(upstream);
    sluice_link_input(channel, &channel->links[0]);
    pass(DRAIN_NS / 2);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
    turns(1);
    for (int i = 0; i < 10; i++) {
        pass(DRAIN_NS);
        cr_assert_eq(sluice_sim_peer_send(loop->be, peer, "late", 4), 4);
    }
    turns(5);
    cr_expect_eq(closed, 0);
    cr_expect_eq(read_all(upstream), 40u);
}

/* One SEND of a long message to a peer that reads slowly: slow is not silent. */
Test(transport, row_12_a_slow_peer_gets_what_was_queued)
{
    static uint8_t sink[100];
    const size_t bytes = 100000;
    size_t got = 0;
    open_it();
    put(bytes, SLUICE_MESSAGE_DATA);
    turns(5);
    sluice_sim_peer_shutdown(loop->be, peer);
    turns(5);
    for (int i = 0; i < 5000 && got < bytes; i++) {
        ssize_t n = sluice_sim_peer_recv(loop->be, peer, sink, sizeof(sink));
        got += n > 0 ? (size_t)n : 0;
        pass(DRAIN_NS / 2);
    }
    cr_expect_eq(got, bytes, "%zu", got);
}

Test(transport, a_peer_that_takes_nothing_any_more_is_given_up)
{
    open_it();
    put(100000, SLUICE_MESSAGE_DATA);
    turns(5);
    sluice_sim_peer_shutdown(loop->be, peer);
    turns(5);
    for (int i = 0; i < 5; i++)
        pass(DRAIN_NS);
    cr_expect_eq(closed, 1);
    cr_expect_eq(record.messages_left + (record.half_sent_bytes > 0), 1u);
}

/* ---- connections count on ---- */

Test(transport, another_transport_on_the_channel_counts_on)
{
    const struct sluice_transport_config cfg = {.drain_timeout_ns = DRAIN_NS};
    open_it();
    sluice_sim_peer_reset(loop->be, peer);
    turns(10);
    cr_assert_eq(closed, 1);
    cr_expect_eq(record.connection, 1u);
    read_all(upstream);
    sluice_transport_destroy(transport);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &cfg, &events, NULL), 0);
    open_it();
    put(4, SLUICE_MESSAGE_DATA);
    turns(10);
    uint8_t got[8];
    cr_expect_eq(sluice_sim_peer_recv(loop->be, peer, got, sizeof(got)), 4);
    sluice_sim_peer_reset(loop->be, peer);
    turns(10);
    cr_expect_eq(record.connection, 2u);
}

/* ---- on the kernel ---- */

static int listen_on_loopback(char *url, size_t url_bytes)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &bytes), 0);
    snprintf(url, url_bytes, "tcp://127.0.0.1:%u", ntohs(addr.sin_port));
    return fd;
}

static void turn_for(uint64_t ns)
{
    for (uint64_t end = sluice_monotonic_ns() + ns; sluice_monotonic_ns() < end;)
        cr_assert_geq(sluice_loop_turn(loop), 0);
}

static void send_while_turning(int fd, size_t bytes)
{
    static uint8_t from[1 << 16];
    for (size_t sent = 0; sent < bytes;) {
        size_t want = bytes - sent < sizeof(from) ? bytes - sent : sizeof(from);
        ssize_t n = send(fd, from, want, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        turn_for(SLUICE_NS_PER_MS);
    }
}

/* The peer sent, closed, and is gone; a message of ours is answered by RST. What it had sent stands
 * in the kernel behind a full inbox, and is still delivered. (As much as fits there: before 6.6 a
 * window was half the buffer, which net.core.rmem_max may keep at 416 KiB.) */
Test(transport_on_uring, row_7_a_failed_send_loses_nothing_that_was_received)
{
    char url[64];
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY};
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536};
    const struct sluice_transport_config transport_cfg = {.rcvbuf_bytes = 1 << 20};
    cr_assert_eq(sluice_loop_create(&loop, &loop_cfg, NULL, 0), 0);
    cr_assert_eq(sluice_channel_create(&channel, &cfg), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &transport_cfg, &events, NULL),
                 0);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
    int listening = listen_on_loopback(url, sizeof(url));
    cr_assert_eq(sluice_transport_connect(transport, url), 0);
    int fd = -1;
    while (fd < 0) { /* the name is looked up aside */
        turn_for(SLUICE_NS_PER_MS);
        fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    }
    send_while_turning(fd, 200000);
    close(fd);
    turn_for(20 * SLUICE_NS_PER_MS);
    for (int i = 0; i < 3; i++) { /* the first is answered by RST, the next one fails */
        put(4, SLUICE_MESSAGE_DATA);
        turn_for(20 * SLUICE_NS_PER_MS);
    }
    uint64_t got = 0;
    for (int i = 0; i < 200 && !closed; i++) {
        got += read_all(upstream);
        turn_for(SLUICE_NS_PER_MS);
    }
    got += read_all(upstream);
    cr_expect_eq(got, 200000u, "%lu", (unsigned long)got);
    cr_expect_eq(closed, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_RESET);
    close(listening);
    tear_down();
}
