/*
 * Several transports on one loop, on the simulated network: none waits for another, whatever state
 * that one is in, and one of them is preferred.
 */
#include "loop.h"
#include "tests/support/sim_net.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

enum { A, B, FEEDS };

static struct sluice_loop *loop;
static struct feed {
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    struct sluice_client *upstream;
    int listener, peer;
} feeds[FEEDS];
static uint8_t bytes[1 << 17];

static void turns(int n)
{
    for (int i = 0; i < n; i++) {
        cr_assert_geq(sluice_loop_turn(loop), 0);
        for (int f = 0; f < FEEDS; f++)
            if (feeds[f].peer < 0)
                feeds[f].peer = sluice_sim_accept(loop->be, feeds[f].listener);
    }
}

static void open_feed(int which)
{
    struct feed *f = &feeds[which];
    const struct sluice_channel_config cfg = {.metadata_entries = 64};
    const struct sluice_transport_config transport_cfg = {.reconnect = true, .retry_first_ns = 1};
    f->peer = -1;
    f->listener = sim_listen(loop->be, 1, (uint16_t)(80 + which), SLUICE_SIM_OPEN);
    cr_assert_eq(sluice_channel_create(&f->channel, &cfg), 0);
    cr_assert_eq(
        sluice_transport_create(&f->transport, loop, f->channel, &transport_cfg, NULL, NULL), 0);
    cr_assert_eq(sluice_attach_local(&f->upstream, f->channel, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_transport_connect(f->transport,
                                          which == A ? "tcp://10.0.0.1:80" : "tcp://10.0.0.1:81"),
                 0);
}

static void set_up(void)
{
    const struct sluice_loop_config cfg = {.idle = SLUICE_IDLE_BUSY};
    cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &cfg, 1), 0);
    sluice_sim_set_faults(loop->be, &sluice_sim_faults_none);
    for (int f = 0; f < FEEDS; f++)
        open_feed(f);
    turns(10);
}

static void tear_down(void)
{
    for (int f = 0; f < FEEDS; f++) {
        sluice_detach(feeds[f].upstream);
        sluice_transport_destroy(feeds[f].transport);
        sluice_channel_destroy(feeds[f].channel);
    }
    sluice_loop_destroy(loop);
}

TestSuite(feeds, .init = set_up, .fini = tear_down);

static void read_all(struct feed *f)
{
    const struct sluice_meta *m;
    for (int64_t n; (n = sluice_inbox_peek(f->upstream, &m, 64)) > 0;)
        cr_assert_eq(sluice_inbox_release(f->upstream, (uint32_t)n), 0);
}

static void commit(struct feed *f, size_t n)
{
    void *room;
    int err = sluice_outbox_claim(f->upstream, n, &room);
    cr_assert(err == 0 || err == -EAGAIN);
    if (err == 0)
        sluice_outbox_commit(f->upstream, 0, SLUICE_MESSAGE_DATA);
}

/* What of A goes on before each turn. */
static void flood(bool read)
{
    while (sluice_sim_peer_send(loop->be, feeds[A].peer, bytes, sizeof(bytes)) > 0) {
        /* up to the brim */
    }
    if (read)
        read_all(&feeds[A]);
}

static void fill_its_outbox(bool drain)
{
    while (drain && sluice_sim_peer_recv(loop->be, feeds[A].peer, bytes, sizeof(bytes)) > 0) {
        /* all that left */
    }
    for (int i = 0; i < 8; i++)
        commit(&feeds[A], 100000);
}

static void break_it(void)
{
    if (feeds[A].peer >= 0)
        sluice_sim_peer_reset(loop->be, feeds[A].peer);
    feeds[A].peer = -1;
    sluice_sim_advance(loop->be, 1000000);
}

/* From the peer of B to its upstream and back, in turns. */
static int turns_of_b(void (*meanwhile)(int how), int how)
{
    struct feed *b = &feeds[B];
    char got = 0;
    int n = 0;
    read_all(b);
    cr_assert_eq(sluice_sim_peer_send(loop->be, b->peer, "x", 1), 1);
    for (const struct sluice_meta *m; sluice_inbox_peek(b->upstream, &m, 1) == 0; n++) {
        meanwhile(how);
        turns(1);
        cr_assert_lt(n, 100);
    }
    read_all(b);
    commit(b, 1);
    for (; sluice_sim_peer_recv(loop->be, b->peer, &got, 1) != 1; n++) {
        meanwhile(how);
        turns(1);
        cr_assert_lt(n, 100);
    }
    return n;
}

enum { QUIET, UNREAD, READ, OUTBOX_FULL, OUTBOX_DRAINED, BROKEN, STATES };

static void of_a(int how)
{
    if (how == UNREAD || how == READ)
        flood(how == READ);
    else if (how == OUTBOX_FULL || how == OUTBOX_DRAINED)
        fill_its_outbox(how == OUTBOX_DRAINED);
    else if (how == BROKEN)
        break_it();
}

Test(feeds, one_takes_as_many_turns_whatever_the_other_is_in)
{
    sluice_transport_prefer(feeds[A].transport);
    int quiet = turns_of_b(of_a, QUIET);
    for (int how = QUIET; how < STATES; how++)
        for (int i = 0; i < 50; i++)
            cr_assert_leq(turns_of_b(of_a, how), quiet, "state %d, time %d", how, i);
}

static bool is_preferred(int which)
{
    struct sluice_state s;
    sluice_channel_state(feeds[which].channel, &s);
    return s.preferred;
}

Test(feeds, one_at_a_time_is_preferred_and_served_first)
{
    cr_expect(!is_preferred(A) && !is_preferred(B));
    sluice_transport_prefer(feeds[A].transport);
    cr_expect(is_preferred(A) && !is_preferred(B));
    cr_assert_eq(sluice_client_request_preference(feeds[B].upstream), 0);
    turns(2);
    cr_expect(!is_preferred(A) && is_preferred(B));
    cr_assert_eq(sluice_client_request_preference(feeds[A].upstream), 0);
    turns(2);
    cr_expect(is_preferred(A) && !is_preferred(B));
    /* Both commit in one turn: what it sends leaves first. */
    struct sluice_source *first = loop->sources;
    cr_expect_eq(first, loop->preferred);
    cr_assert_eq(sluice_client_request_preference(feeds[B].upstream), 0);
    turns(2);
    cr_expect_neq(first, loop->sources);
}

Test(feeds, who_was_preferred_and_is_gone_leaves_nobody)
{
    sluice_transport_prefer(feeds[B].transport);
    sluice_detach(feeds[B].upstream);
    sluice_transport_destroy(feeds[B].transport);
    sluice_channel_destroy(feeds[B].channel);
    cr_expect_null(loop->preferred);
    sluice_transport_prefer(feeds[A].transport);
    cr_expect(is_preferred(A));
    feeds[B] = (struct feed){.listener = -1, .peer = INT_MAX};
}
