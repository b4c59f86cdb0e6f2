/*
 * Connecting again, on the simulated network and its clock: when, to whom, what the upstream reads
 * of it, what becomes of messages meant for the connection before. And that silence ends one.
 */
#include "dial.h"
#include "loop.h"
#include "retry.h"
#include "base/clock.h"
#include "tests/support/sim_net.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define MS       SLUICE_NS_PER_MS
#define FIRST_NS (100 * MS)
#define MAX_NS   (1000 * MS)
#define LASTED   (5000 * MS)

static struct sluice_loop *loop;
static struct sluice_channel *channel;
static struct sluice_transport *transport;
static struct sluice_client *upstream;
static struct sluice_close_record record;
static int retries, closed, listener, peer;
static uint64_t wait_ns;

static void on_retry(struct sluice_transport *t, const struct sluice_close_record *r, uint64_t ns,
                     void *user)
{
    (void)t, (void)user;
    retries++;
    wait_ns = ns;
    record = *r;
}

static void on_close(struct sluice_transport *t, const struct sluice_close_record *r, void *user)
{
    (void)t, (void)user;
    closed++;
    record = *r;
}

static const struct sluice_transport_events events = {.on_retry = on_retry, .on_close = on_close};
static struct sluice_transport_config config;

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
    turns(10);
}

static void create(uint32_t entries)
{
    const struct sluice_channel_config cfg = {.metadata_entries = entries};
    cr_assert_eq(sluice_channel_create(&channel, &cfg), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, channel, &config, &events, NULL), 0);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
}

static void destroy(void)
{
    sluice_detach(upstream);
    sluice_transport_destroy(transport);
    sluice_channel_destroy(channel);
}

static void set_up(void)
{
    const struct sluice_loop_config cfg = {.idle = SLUICE_IDLE_BUSY};
    config = (struct sluice_transport_config){.reconnect = true,
                                              .retry_first_ns = FIRST_NS,
                                              .retry_max_ns = MAX_NS,
                                              .retry_lasted_ns = LASTED};
    cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &cfg, 1), 0);
    sluice_sim_set_faults(loop->be, &sluice_sim_faults_none);
    create(64);
    listener = sim_listen(loop->be, 1, 80, SLUICE_SIM_OPEN);
    retries = closed = 0;
    peer = -1;
}

static void tear_down(void)
{
    destroy();
    sluice_loop_destroy(loop);
}

TestSuite(reconnect, .init = set_up, .fini = tear_down);

static void create_again(void)
{
    destroy();
    create(64);
}

static enum sluice_conn_state state(void)
{
    struct sluice_state s;
    sluice_channel_state(channel, &s);
    return (enum sluice_conn_state)s.conn_state;
}

static void open_it(void)
{
    if (state() == SLUICE_CONN_IDLE || state() == SLUICE_CONN_CLOSED)
        cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.1:80"), 0);
    turns(10);
    cr_assert_geq(peer, 0);
    cr_assert_eq(state(), SLUICE_CONN_OPEN);
}

static void lose_it(void)
{
    int before = retries;
    sluice_sim_peer_reset(loop->be, peer);
    peer = -1;
    turns(10);
    cr_assert_eq(retries, before + 1);
}

static void put(const char *text, uint32_t connection)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(upstream, strlen(text), &room), 0);
    memcpy(room, text, strlen(text));
    sluice_outbox_commit(upstream, connection, SLUICE_MESSAGE_DATA);
}

static void expect_at_peer(const char *text)
{
    char got[64] = "";
    ssize_t n = sluice_sim_peer_recv(loop->be, peer, got, sizeof(got) - 1);
    if (!text[0])
        cr_expect_eq(n, -EAGAIN, "%zd: %s", n, got);
    else
        cr_expect_str_eq(got, text);
}

/* The entries that are there, a letter each: C connected, a data, D disconnected. */
static void expect_entries(const char *letters)
{
    const struct sluice_meta *m;
    char got[64] = "";
    int64_t n = sluice_inbox_peek(upstream, &m, 60);
    for (int64_t i = 0; i < n; i++)
        got[i] = m[i].event == SLUICE_EVENT_CONNECTED ? 'C'
                 : m[i].event == SLUICE_EVENT_DATA    ? 'a'
                                                      : 'D';
    cr_expect_str_eq(got, letters);
    cr_assert_eq(sluice_inbox_release(upstream, (uint32_t)n), 0);
}

/* ---- when ---- */

Test(retry, the_wait_doubles_up_to_its_cap_less_a_random_part)
{
    struct sluice_retry r = {.first_ns = 100, .max_ns = 1000, .lasted_ns = 50};
    const uint64_t full[] = {100, 200, 400, 800, 1000, 1000, 1000};
    for (uint64_t i = 0; i < sizeof(full) / sizeof(full[0]); i++) {
        uint64_t ns = sluice_retry_wait_ns(&r, i % 50, 7919 * i);
        cr_expect(ns >= full[i] / 2 && ns <= full[i], "attempt %lu: %lu", i, ns);
    }
    cr_expect_eq(sluice_retry_wait_ns(&r, 50, 1), 0u, "one that lasted");
    uint64_t again = sluice_retry_wait_ns(&r, 0, 1);
    cr_expect(again >= 50 && again <= 100, "%lu: not from the start", again);
}

Test(retry, those_who_lost_the_same_peer_do_not_come_back_together)
{
    uint64_t least = UINT64_MAX, most = 0;
    for (uint64_t engine = 0; engine < 100; engine++) {
        struct sluice_retry r = {.first_ns = 1000, .max_ns = 1000, .lasted_ns = 1};
        uint64_t ns = sluice_retry_wait_ns(&r, 0, 1000000 + engine);
        least = ns < least ? ns : least;
        most = ns > most ? ns : most;
    }
    cr_expect(least < 600 && most > 900, "between %lu and %lu", least, most);
}

Test(retry, a_number_of_failures_beyond_all_bounds_stays_at_the_cap)
{
    struct sluice_retry r = {
        .first_ns = 1, .max_ns = UINT64_MAX / 2, .lasted_ns = 1, .failures = UINT32_MAX - 1};
    cr_expect_geq(sluice_retry_wait_ns(&r, 0, 1), UINT64_MAX / 4);
}

Test(reconnect, row_72_a_peer_that_closes_at_once_sees_no_storm)
{
    uint64_t waited = 0;
    for (int i = 0; i < 8; i++) {
        open_it();
        lose_it();
        cr_expect(wait_ns <= MAX_NS && wait_ns >= (i < 4 ? FIRST_NS << i : MAX_NS) / 2,
                  "attempt %d: %lu", i, wait_ns);
        cr_expect_eq(state(), SLUICE_CONN_WAITING);
        pass(wait_ns / 2);
        cr_expect_eq(state(), SLUICE_CONN_WAITING, "early");
        waited += wait_ns;
        pass(wait_ns / 2);
    }
    cr_expect_geq(waited, 3700 * MS);
    cr_expect_eq(closed, 0);
}

Test(reconnect, one_that_lasted_is_followed_at_once)
{
    open_it();
    lose_it();
    pass(wait_ns);
    open_it();
    pass(LASTED);
    lose_it();
    cr_expect_eq(wait_ns, 0u);
    open_it();
}

Test(reconnect, row_1_refused_is_counted_and_tried_again)
{
    struct sluice_state s;
    cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.9:80"), 0);
    for (int i = 1; i <= 3; i++) {
        turns(10);
        cr_expect_eq(retries, i);
        cr_expect_eq(record.reason, SLUICE_REASON_REFUSED);
        pass(wait_ns);
    }
    sluice_channel_state(channel, &s);
    cr_expect_eq(s.counters[SLUICE_COUNTER_connect_failures], 4u);
    expect_entries(""); /* what was never open is not told of there */
}

Test(reconnect, without_it_the_first_end_is_the_last)
{
    config.reconnect = false;
    create_again();
    open_it();
    sluice_sim_peer_reset(loop->be, peer);
    turns(10);
    cr_expect_eq(retries, 0);
    cr_expect_eq(closed, 1);
    cr_expect_eq(state(), SLUICE_CONN_CLOSED);
}

Test(reconnect, what_was_ended_from_here_stays_ended)
{
    open_it();
    sluice_transport_close(transport);
    turns(5);
    sluice_sim_peer_shutdown(loop->be, peer);
    turns(10);
    cr_expect_eq(retries, 0);
    cr_expect_eq(closed, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_LOCAL_CLOSE);
}

Test(reconnect, one_that_breaks_while_it_is_ended_from_here_is_not_tried_again)
{
    config.drain_timeout_ns = 1000 * MS;
    create_again();
    open_it();
    sluice_transport_close(transport);
    turns(3);
    sluice_sim_peer_reset(loop->be, peer);
    turns(10);
    cr_expect_eq(record.reason, SLUICE_REASON_RESET);
    cr_expect_eq(retries, 0);
    cr_expect_eq(closed, 1);
}

/* ---- to whom ---- */

static void nothing(struct sluice_life *c)
{
    (void)c;
}

/* Connects there and breaks it off: which of the addresses it was, the last byte. */
static int address_at_turn(uint32_t turn)
{
    static const struct sluice_life_config cfg = {.connect_timeout_ns = MAX_NS};
    static const struct sluice_life_events ignored = {
        .state = nothing, .open = nothing, .quiesce = nothing, .closed = nothing};
    struct sluice_life life;
    struct sluice_dial dial = {.addresses.count = 3, .turn = turn};
    for (uint32_t i = 0; i < 3; i++) {
        struct sockaddr_in *in = (struct sockaddr_in *)&dial.addresses.at[i].addr;
        *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(80)};
        in->sin_addr.s_addr = htonl(0x0a000001u + i);
        dial.addresses.at[i].bytes = sizeof(*in);
    }
    sluice_life_init(&life, loop, &cfg, &ignored);
    sluice_dial_start_at(&dial, &life);
    turns(10);
    cr_assert_eq(life.state, SLUICE_CONN_OPEN);
    const struct sockaddr_in *in =
        (const struct sockaddr_in *)&dial.addresses.at[dial.address].addr;
    int last_byte = (int)(ntohl(in->sin_addr.s_addr) & 0xff);
    sluice_life_close(&life, SLUICE_REASON_LOCAL_CLOSE, 0);
    turns(10);
    return last_byte;
}

Test(reconnect, row_6_each_attempt_begins_with_another_address)
{
    cr_assert_geq(sim_listen(loop->be, 2, 80, SLUICE_SIM_OPEN), 0); /* 10.0.0.3 refuses */
    const int expected[] = {1, 2, 1, 1};
    for (uint32_t turn = 0; turn < 4; turn++)
        cr_expect_eq(address_at_turn(turn), expected[turn], "turn %u", turn);
}

/* ---- what the upstream reads ---- */

Test(reconnect, each_connection_is_told_of_in_order_with_its_bytes)
{
    open_it();
    cr_assert_eq(sluice_sim_peer_send(loop->be, peer, "one", 3), 3);
    turns(5);
    lose_it();
    pass(wait_ns);
    open_it();
    cr_assert_eq(sluice_sim_peer_send(loop->be, peer, "two", 3), 3);
    turns(5);
    expect_entries("CaDCa");
    cr_expect_eq(sluice_inbox_position(upstream), 6u);
}

Test(reconnect, it_waits_until_the_upstream_has_read_how_the_last_one_ended)
{
    open_it();
    for (int i = 0; state() == SLUICE_CONN_OPEN; i++) { /* 64 entries: some hold two ends each */
        cr_assert_lt(i, 64);
        lose_it();
        pass(MAX_NS);
    }
    cr_expect_eq(state(), SLUICE_CONN_WAITING);
    pass(10 * MAX_NS);
    cr_expect_eq(state(), SLUICE_CONN_WAITING, "where should its CONNECTED have stood?");
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(upstream, &m, 64);
    cr_assert_eq(sluice_inbox_release(upstream, (uint32_t)n), 0);
    turns(10);
    cr_expect_eq(state(), SLUICE_CONN_OPEN);
}

/* ---- what leaves ---- */

Test(reconnect, what_was_meant_for_the_last_one_is_dropped_and_counted)
{
    struct sluice_state s;
    open_it();
    lose_it();
    put("old", 1);
    put("new", 2);
    pass(wait_ns);
    open_it();
    turns(5);
    expect_at_peer("new");
    sluice_channel_state(channel, &s);
    cr_expect_eq(s.counters[SLUICE_COUNTER_stale_messages], 1u);
}

Test(reconnect, kept_messages_leave_on_the_next_one_pongs_never)
{
    void *room;
    config.keep_outbox = true;
    create_again();
    open_it();
    lose_it();
    put("old", 1);
    cr_assert_eq(sluice_pong_claim(upstream, 4, &room), 0);
    memcpy(room, "pong", 4);
    sluice_pong_commit(upstream, 1);
    put("new", 2);
    pass(wait_ns);
    open_it();
    turns(5);
    expect_at_peer("oldnew");
}

Test(reconnect, of_a_message_half_sent_the_rest_never_leaves)
{
    static char big[2000];
    config.keep_outbox = true;
    sluice_sim_set_default_window(loop->be, 1000);
    create_again();
    open_it();
    memset(big, 'b', sizeof(big) - 1);
    put(big, 0);
    turns(5);
    lose_it();
    cr_expect_eq(record.half_sent_bytes, 1000u);
    put("next", 0);
    pass(wait_ns);
    open_it();
    turns(5);
    expect_at_peer("next");
}

/* It is for the connection that comes, however many attempts that takes. */
Test(reconnect, what_a_client_left_behind_outlives_attempts_that_fail)
{
    struct sluice_client *was = upstream;
    cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.2:80"), 0);
    turns(10);
    cr_assert_eq(state(), SLUICE_CONN_WAITING);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_PRODUCER), 0);
    put("left", 1);
    sluice_detach(upstream);
    upstream = was;
    for (int i = 0; i < 3; i++) {
        sim_show_clients(loop->be, channel);
        pass(MAX_NS);
        cr_assert_eq(state(), SLUICE_CONN_WAITING);
    }
    cr_expect_eq(retries, 4);
    listener = sim_listen(loop->be, 2, 80, SLUICE_SIM_OPEN);
    pass(MAX_NS);
    open_it();
    expect_at_peer("left");
    lose_it(); /* and only there */
    pass(MAX_NS);
    open_it();
    expect_at_peer("");
}

/* ---- asked for ---- */

Test(reconnect, an_upstream_asks_while_it_is_open)
{
    open_it();
    cr_assert_eq(sluice_client_request_reconnect(upstream), 0);
    turns(10);
    cr_expect_eq(retries, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_RECONNECT);
    pass(wait_ns);
    open_it();
    expect_entries("CDC");
}

Test(reconnect, an_upstream_asks_while_it_connects)
{
    cr_assert_geq(sim_listen(loop->be, 2, 80, SLUICE_SIM_BLACK_HOLE), 0);
    cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.2:80"), 0);
    turns(5);
    cr_expect_eq(state(), SLUICE_CONN_CONNECTING);
    cr_assert_eq(sluice_client_request_reconnect(upstream), 0);
    turns(10);
    cr_expect_eq(retries, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_RECONNECT);
}

Test(reconnect, an_upstream_asks_while_it_waits_and_waits_no_longer)
{
    open_it();
    lose_it();
    cr_assert_eq(sluice_client_request_reconnect(upstream), 0);
    open_it();
    cr_expect_eq(retries, 1);
}

Test(reconnect, an_upstream_asks_when_all_is_over_and_nothing_happens)
{
    open_it();
    sluice_transport_close(transport);
    sluice_sim_peer_shutdown(loop->be, peer);
    turns(10);
    cr_assert_eq(sluice_client_request_reconnect(upstream), 0);
    turns(10);
    cr_expect_eq(state(), SLUICE_CONN_CLOSED);
    cr_expect_eq(sluice_transport_reconnect(transport), -ENOTCONN);
}

Test(reconnect, each_word_of_the_upstream_counts_once_however_often_it_is_said)
{
    struct sluice_state s;
    open_it();
    for (int i = 0; i < 70000; i++) /* more than the field holds */
        cr_assert_eq(sluice_client_set_ready(upstream, i & 1), 0);
    cr_assert_eq(sluice_client_request_reconnect(upstream), 0);
    turns(1);
    sluice_channel_state(channel, &s);
    cr_expect_eq(closed, 0, "the count of one word ran over into another's");
    turns(10);
    cr_expect_eq(retries, 1);
    cr_expect_eq(closed, 0);
}

Test(reconnect, ready_is_heard_again_on_the_next_connection)
{
    struct sluice_state s;
    open_it();
    cr_assert_eq(sluice_client_set_ready(upstream, 1), 0);
    turns(2);
    lose_it();
    pass(wait_ns);
    open_it();
    cr_assert_eq(sluice_client_set_ready(upstream, 0), 0); /* both before the engine looks */
    cr_assert_eq(sluice_client_set_ready(upstream, 1), 0);
    turns(2);
    sluice_channel_state(channel, &s);
    cr_expect(s.ready & SLUICE_READY_UPSTREAM);
}

Test(reconnect, an_upstream_that_follows_may_be_not_ready)
{
    struct sluice_state s;
    open_it();
    cr_assert_eq(sluice_client_set_ready(upstream, 1), 0);
    turns(2);
    sluice_detach(upstream);
    sim_show_clients(loop->be, channel);
    turns(5);
    cr_assert_eq(sluice_attach_local(&upstream, channel, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_client_set_ready(upstream, 0), 0);
    turns(2);
    sluice_channel_state(channel, &s);
    cr_expect_not(s.ready & SLUICE_READY_UPSTREAM);
}

/* ---- ended meanwhile ---- */

Test(reconnect, closing_while_it_waits_is_told_later_from_the_loop)
{
    open_it();
    lose_it();
    sluice_transport_close(transport);
    cr_expect_eq(closed, 0, "told inside the call");
    turns(3);
    cr_expect_eq(closed, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_LOCAL_CLOSE);
    cr_expect_eq(state(), SLUICE_CONN_CLOSED);
    pass(2 * MAX_NS);
    cr_expect_eq(state(), SLUICE_CONN_CLOSED);
    open_it(); /* and may be opened by hand again */
}

Test(reconnect, destroyed_while_it_waits)
{
    open_it();
    lose_it();
    destroy();
    cr_expect_eq(closed, 0);
    pass(2 * MAX_NS);
    create(64);
}

/* ---- silence ---- */

Test(reconnect, row_69_silence_ends_a_connection_and_bytes_keep_it)
{
    config.silence_ns = 1000 * MS;
    create_again();
    open_it();
    for (int i = 0; i < 4; i++) {
        pass(700 * MS);
        cr_assert_eq(sluice_sim_peer_send(loop->be, peer, "x", 1), 1);
        turns(5);
    }
    cr_expect_eq(retries, 0);
    for (int i = 0; i < 5; i++)
        pass(250 * MS);
    cr_expect_eq(retries, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_SILENT);
}

Test(reconnect, a_peer_that_waits_for_room_is_not_silent)
{
    static char bytes[65536];
    config.silence_ns = 1000 * MS;
    create_again();
    open_it();
    while (sluice_sim_peer_send(loop->be, peer, bytes, sizeof(bytes)) > 0)
        turns(20); /* nobody reads: up to the brim */
    for (int i = 0; i < 20; i++)
        pass(250 * MS);
    cr_expect_eq(retries, 0);
}

/* Nobody reads, but it could all be received. */
static void fill_to(uint64_t unread)
{
    static char bytes[65536];
    uint64_t before = channel->inbox.tail;
    while (channel->inbox.tail - before < unread) {
        cr_assert_gt(sluice_sim_peer_send(loop->be, peer, bytes, sizeof(bytes)), 0);
        turns(20);
    }
}

Test(reconnect, an_inbox_that_is_half_full_does_not_excuse_silence)
{
    config.silence_ns = 1000 * MS;
    create_again();
    open_it();
    fill_to(channel->inbox.bytes / 2);
    for (int i = 0; i < 6; i++)
        pass(250 * MS);
    cr_expect_eq(retries, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_SILENT);
}

Test(reconnect, what_nobody_is_there_to_read_does_not_excuse_silence)
{
    config.silence_ns = 1000 * MS;
    config.discard_unread = true;
    create_again();
    open_it();
    sluice_detach(upstream);
    upstream = NULL;
    sim_show_clients(loop->be, channel);
    turns(5);
    cr_assert_lt(channel->upstream, 0);
    fill_to(channel->inbox.bytes - 65536);
    for (int i = 0; i < 6; i++)
        pass(250 * MS);
    cr_expect_eq(retries, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_SILENT);
}

Test(reconnect, an_orderly_end_outlasts_silence)
{
    config.silence_ns = 1000 * MS;
    config.drain_timeout_ns = 5000 * MS;
    create_again();
    open_it();
    sluice_transport_close(transport);
    for (int i = 0; i < 8; i++)
        pass(250 * MS);
    cr_expect_eq(closed, 0, "its own limit is longer");
    sluice_sim_peer_shutdown(loop->be, peer);
    turns(10);
    cr_expect_eq(closed, 1);
    cr_expect_eq(record.reason, SLUICE_REASON_LOCAL_CLOSE);
}
