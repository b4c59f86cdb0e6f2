/*
 * The tx path on the simulated network: which message leaves when. Bytes, faults and endings are
 * tests/sim's.
 */
#include "loop.h"
#include "tests/support/sim_net.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES 100u
#define BATCH         656u /* messages of 100 bytes: the first count with 64 KiB and 16 messages */

static struct sluice_loop *loop;
static struct sluice_channel *channel;
static struct sluice_transport *transport;
static struct sluice_client *upstream, *producer;
static int listener, peer;
static uint8_t stream[4 << 20];
static size_t got;

static void turns(int n)
{
    for (int i = 0; i < n; i++) {
        cr_assert_geq(sluice_loop_turn(loop), 0);
        if (peer < 0)
            peer = sluice_sim_accept(loop->be, listener);
        if (peer < 0)
            continue;
        ssize_t k = sluice_sim_peer_recv(loop->be, peer, stream + got, sizeof(stream) - got);
        got += k > 0 ? (size_t)k : 0;
    }
}

static void set_up(void)
{
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY};
    const struct sluice_channel_config cfg = {.outbox_slots = 16384};
    const struct sluice_transport_config transport_cfg = {.drain_timeout_ns = 1000000};
    cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &loop_cfg, 1), 0);
    sluice_sim_set_faults(loop->be, &sluice_sim_faults_none);
    sluice_sim_set_default_window(loop->be, 1 << 20);
    cr_assert_eq(sluice_channel_create(&channel, &cfg), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &transport_cfg, NULL, NULL), 0);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_attach_local(&producer, channel, SLUICE_PRODUCER), 0);
    listener = sim_listen(loop->be, 1, 80, SLUICE_SIM_OPEN);
    cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.1:80"), 0);
    peer = -1;
    got = 0;
}

static void tear_down(void)
{
    sluice_detach(upstream);
    sluice_detach(producer);
    sluice_transport_destroy(transport);
    sluice_channel_destroy(channel);
    sluice_loop_destroy(loop);
}

TestSuite(tx, .init = set_up, .fini = tear_down);

static void put(struct sluice_client *c, char mark, size_t bytes, uint32_t connection)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(c, bytes, &room), 0);
    memset(room, mark, bytes);
    sluice_outbox_commit(c, connection, SLUICE_MESSAGE_DATA);
}

static void put_pong(char mark)
{
    void *room;
    cr_assert_eq(sluice_pong_claim(upstream, MESSAGE_BYTES, &room), 0);
    memset(room, mark, MESSAGE_BYTES);
    sluice_pong_commit(upstream, 0);
}

/* Letters of the stream, one per message of MESSAGE_BYTES: "aaab" -> runs of equal ones. */
static size_t run_of(size_t *at, char mark)
{
    size_t n = 0;
    while (*at < got && stream[*at] == (uint8_t)mark) {
        *at += MESSAGE_BYTES;
        n++;
    }
    return n;
}

/* ---- what the socket takes ---- */

Test(tx, row_15_a_send_cut_short_at_any_byte_goes_on_behind_it)
{
    for (size_t window = 1; window <= 3 * MESSAGE_BYTES; window++) {
        turns(peer < 0 ? 10 : 0);
        got = 0;
        sluice_sim_set_window(loop->be, peer, window);
        for (int i = 0; i < 3; i++)
            put(upstream, (char)('a' + i), MESSAGE_BYTES, 0);
        for (int i = 0; i < 2000 && got < 3 * MESSAGE_BYTES; i++)
            turns(1);
        cr_assert_eq(got, 3 * MESSAGE_BYTES, "window %zu", window);
        for (size_t at = 0; at < got; at++)
            cr_assert_eq(stream[at], 'a' + at / MESSAGE_BYTES, "window %zu, byte %zu", window, at);
    }
}

Test(tx, row_18_a_message_of_no_bytes_is_skipped_and_counted)
{
    struct sluice_state s;
    put(upstream, 'a', MESSAGE_BYTES, 0);
    for (int i = 0; i < 3; i++)
        put(upstream, 0, 0, 0);
    put(upstream, 'b', MESSAGE_BYTES, 0);
    turns(20);
    cr_expect_eq(got, 2 * MESSAGE_BYTES);
    cr_expect_eq(stream[MESSAGE_BYTES], 'b');
    sluice_channel_state(channel, &s);
    cr_expect_eq(s.counters[SLUICE_COUNTER_empty_messages], 3u);
    cr_expect_eq(s.counters[SLUICE_COUNTER_sent_messages], 2u);
}

/* ---- whose turn it is ---- */

Test(tx, pongs_follow_a_batch_eight_at_a_time)
{
    size_t at = 0;
    for (int i = 0; i < 3000; i++)
        put(upstream, 'u', MESSAGE_BYTES, 0);
    for (int i = 0; i < 20; i++)
        put_pong('p');
    turns(100);
    cr_assert_eq(got, 3020u * MESSAGE_BYTES);
    cr_expect_eq(run_of(&at, 'u'), BATCH);
    cr_expect_eq(run_of(&at, 'p'), 8u);
    cr_expect_eq(run_of(&at, 'u'), BATCH);
    cr_expect_eq(run_of(&at, 'p'), 8u);
    cr_expect_eq(run_of(&at, 'u'), BATCH);
    cr_expect_eq(run_of(&at, 'p'), 4u);
    cr_expect_eq(run_of(&at, 'u'), 3000u - 3 * BATCH);
}

Test(tx, a_batch_has_sixteen_messages_however_long)
{
    static const size_t bytes = 10000;
    for (int i = 0; i < 20; i++)
        put(upstream, 'u', bytes, 0);
    put_pong('p');
    turns(100);
    cr_assert_eq(got, 20 * bytes + MESSAGE_BYTES);
    cr_expect_eq(stream[16 * bytes - 1], 'u');
    cr_expect_eq(stream[16 * bytes], 'p');
}

Test(tx, two_writers_take_turns)
{
    size_t at = 0;
    for (int i = 0; i < 2 * (int)BATCH; i++) {
        put(upstream, 'u', MESSAGE_BYTES, 0);
        put(producer, 'x', MESSAGE_BYTES, 0);
    }
    turns(100);
    cr_expect_eq(run_of(&at, 'u'), BATCH);
    cr_expect_eq(run_of(&at, 'x'), BATCH);
    cr_expect_eq(run_of(&at, 'u'), BATCH);
    cr_expect_eq(run_of(&at, 'x'), BATCH);
}

Test(tx, row_16_a_pong_waits_for_the_end_of_a_message)
{
    static const size_t bytes = 500000; /* sent in two pieces */
    sluice_sim_set_default_window(loop->be, 1000);
    put(upstream, 'u', bytes, 0);
    turns(30);
    cr_assert(got > 0 && got < bytes);
    put_pong('p');
    turns(2000);
    cr_assert_eq(got, bytes + MESSAGE_BYTES);
    for (size_t i = 0; i < bytes; i++)
        cr_assert_eq(stream[i], 'u');
}

Test(tx, row_59_what_was_meant_for_an_earlier_connection_is_dropped)
{
    struct sluice_state st;
    put(upstream, 'a', MESSAGE_BYTES, 1);
    put(upstream, 'b', MESSAGE_BYTES, 7); /* of another one */
    put(upstream, 'c', MESSAGE_BYTES, 1);
    turns(50);
    cr_assert_eq(got, 2 * MESSAGE_BYTES);
    cr_expect_eq(stream[0], 'a');
    cr_expect_eq(stream[MESSAGE_BYTES], 'c');
    sluice_channel_state(channel, &st);
    cr_expect_eq(st.counters[SLUICE_COUNTER_stale_messages], 1u);
}

Test(tx, row_13_nothing_follows_a_close)
{
    void *room;
    struct sluice_state st;
    put(upstream, 'a', MESSAGE_BYTES, 0);
    cr_assert_eq(sluice_outbox_claim(upstream, 0, &room), 0);
    sluice_outbox_commit(upstream, 0, SLUICE_MESSAGE_WS_CLOSE);
    put(upstream, 'b', MESSAGE_BYTES, 0);
    turns(50);
    cr_expect_eq(got, MESSAGE_BYTES);
    cr_expect(sluice_sim_peer_saw_eof(loop->be, peer));
    uint8_t late[5000];
    memset(late, 'l', sizeof(late));
    cr_expect_eq(sluice_sim_peer_send(loop->be, peer, late, sizeof(late)), (ssize_t)sizeof(late));
    sluice_sim_peer_shutdown(loop->be, peer);
    turns(50);
    sluice_channel_state(channel, &st);
    cr_expect_eq(st.conn_state, SLUICE_CONN_CLOSED);
    cr_expect_eq(st.close_count, 1u);
    cr_expect_eq(st.closes[0].received_bytes, sizeof(late)); /* still delivered */
    cr_expect_eq(st.closes[0].messages_left, 1u);
    cr_expect_eq(st.closes[0].messages_sent, 2u);
}

/* A producer that commits and leaves at once: what it committed still goes out. */
Test(tx, a_client_that_left_is_served_first)
{
    size_t at = 0;
    turns(20);
    for (int i = 0; i < 10; i++)
        put(upstream, 'o', MESSAGE_BYTES, 0);
    sluice_detach(upstream);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        if (channel->links[i].role == SLUICE_UPSTREAM)
            sluice_link_input(channel, &channel->links[i]);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
    for (int i = 0; i < 10; i++)
        put(upstream, 'n', MESSAGE_BYTES, 0);
    turns(50);
    cr_expect_eq(run_of(&at, 'o'), 10u);
    cr_expect_eq(run_of(&at, 'n'), 10u);
    cr_expect_eq(channel->writers[0].state, WRITER_FREE);
}
