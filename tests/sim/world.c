/*
 * What happens in the world, by seed: everybody does something at random, the loop takes turns,
 * then all calm down, the connection ends in one of many ways, and another one follows: asked for,
 * or by the transport itself.
 */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS       220
#define CALM_TURNS  20000
#define PEER_CHUNK  20000u
#define CONNECTIONS 3u
#define RETRY_NS    (1000000 * SLUICE_NS_PER_S) /* longer than all calming down */

static uint8_t scratch[1 << 17];

uint32_t world_random(struct world *w, uint32_t below)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return (uint32_t)((w->rng >> 11) % below);
}

static bool chance(struct world *w, uint32_t percent)
{
    return world_random(w, 100) < percent;
}

static void on_open(struct sluice_transport *t, void *user)
{
    struct world *w = user;
    (void)t;
    w->open = true;
}

static void on_close(struct sluice_transport *t, const struct sluice_close_record *r, void *user)
{
    struct world *w = user;
    (void)t;
    if (w->closed && w->wait_ns && r->reason == SLUICE_REASON_LOCAL_CLOSE) {
        w->wait_ns = 0; /* asked for when it had ended by itself: there is no next one */
        return;
    }
    RULE(w, !w->closed); /* exactly one close record */
    w->closed = true;
    w->open = false;
    w->record = *r;
}

static void on_retry(struct sluice_transport *t, const struct sluice_close_record *r,
                     uint64_t wait_ns, void *user)
{
    struct world *w = user;
    on_close(t, r, user);
    w->wait_ns = wait_ns;
    RULE(w, wait_ns >= RETRY_NS / 2 && wait_ns <= RETRY_NS);
}

/* ---- what each of them can do ---- */

static void do_turn(struct world *w)
{
    int n = sluice_loop_turn(w->loop);
    RULE(w, n >= 0);
    if (w->neighbour)
        neighbour_step(w, w->neighbour);
    if (w->peer < 0)
        w->peer = sluice_sim_accept(w->loop->be, w->listener);
}

static void do_read(struct world *w)
{
    const struct sluice_meta *m;
    if (!w->upstream)
        return;
    check_kept(w);
    int64_t n = sluice_inbox_peek(w->upstream, &m, 1 + world_random(w, 40));
    RULE(w, n >= 0);
    if (n == 0)
        return;
    uint32_t take = 1 + world_random(w, (uint32_t)n);
    for (uint32_t i = 0; i < take; i++)
        check_entry(w, &m[i]);
    /* Sometimes the last bytes are kept, as of a message that is not complete. */
    uint64_t unread = w->next_position - w->released;
    if (chance(w, 30) && unread < 30000) {
        w->released += unread / 2;
        RULE(w, sluice_inbox_release_to(w->upstream, take, w->released) == 0);
    } else {
        w->released = w->next_position;
        RULE(w, sluice_inbox_release(w->upstream, take) == 0);
    }
    RULE(w, sluice_inbox_position(w->upstream) == w->released);
}

static void do_observe(struct world *w)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(w->observer, &m, 16);
    if (n == -ESTALE) {
        w->observer_synced = false;
        return;
    }
    RULE(w, n >= 0);
    for (int64_t i = 0; i < n; i++)
        check_observed(w, &m[i]);
    if (n > 0 && sluice_inbox_release(w->observer, (uint32_t)n) == -ESTALE)
        w->observer_synced = false;
}

static void fill_message(struct world *w, uint8_t *room, enum source source, uint32_t body)
{
    struct source_log *log = &w->sources[source];
    const uint32_t header[3] = {source, log->next, body};
    memcpy(room, header, sizeof(header));
    for (uint32_t i = 0; i < body; i++)
        room[MESSAGE_HEADER + i] = pattern_tx(source, log->next, i);
}

/* A message for the connection that is open, or one that comes too late for the one before. */
static void do_send(struct world *w, struct sluice_client *c, enum source source)
{
    void *room;
    bool stale = w->connection > 1 && chance(w, 10);
    if (!c || w->closed || w->fin_wanted)
        return;
    uint32_t body = chance(w, 5) ? world_random(w, 30000) : world_random(w, 300);
    int err = sluice_outbox_claim(c, MESSAGE_HEADER + body, &room);
    RULE(w, err == 0 || err == -EAGAIN);
    if (err)
        return;
    if (chance(w, 5)) {
        memset(room, 0xee, MESSAGE_HEADER + body);
        sluice_outbox_abort(c);
        return;
    }
    if (stale) {
        memset(room, 0xdd, MESSAGE_HEADER + body);
        sluice_outbox_commit(c, w->connection - 1, SLUICE_MESSAGE_DATA);
        return;
    }
    fill_message(w, room, source, body);
    w->sources[source].next++;
    w->sources[source].committed++;
    sluice_outbox_commit(c, chance(w, 50) ? w->connection : 0, SLUICE_MESSAGE_DATA);
}

static void do_pong(struct world *w)
{
    void *room;
    uint32_t body = world_random(w, 120);
    if (!w->upstream || w->closed || w->fin_wanted)
        return;
    if (sluice_pong_claim(w->upstream, MESSAGE_HEADER + body, &room))
        return;
    fill_message(w, room, FROM_PONGS, body);
    w->sources[FROM_PONGS].next++;
    w->sources[FROM_PONGS].committed++;
    sluice_pong_commit(w->upstream, w->connection);
}

static void do_peer_send(struct world *w, uint32_t max)
{
    if (w->peer < 0 || w->peer_fin || w->peer_rst)
        return;
    uint32_t n = 1 + world_random(w, max);
    for (uint32_t i = 0; i < n; i++)
        scratch[i] = pattern_rx(w->connection, w->peer_sent + i);
    ssize_t took = sluice_sim_peer_send(w->loop->be, w->peer, scratch, n);
    if (took > 0)
        w->peer_sent += (uint64_t)took;
}

static ssize_t do_peer_read(struct world *w, uint32_t max)
{
    if (w->peer < 0 || w->peer_rst)
        return -EAGAIN;
    ssize_t n = sluice_sim_peer_recv(w->loop->be, w->peer, scratch, 1 + world_random(w, max));
    if (n > 0)
        check_peer_bytes(w, scratch, (size_t)n);
    return n;
}

/* Detach between two reads; the next one continues exactly behind what was released. */
static void do_replace_upstream(struct world *w)
{
    sluice_detach(w->upstream);
    w->upstream = NULL;
    for (int i = 0; i < 2000 && w->ch->upstream >= 0; i++) {
        sim_show_clients(w->loop->be, w->ch);
        do_turn(w);
    }
    RULE(w, w->ch->upstream < 0);
    /* What those before it left behind may still hold every place. */
    for (int i = 0; i < 20000; i++) {
        if (sluice_attach_local(&w->upstream, w->ch, SLUICE_UPSTREAM) != -EBUSY)
            break;
        do_turn(w);
        do_peer_read(w, PEER_CHUNK);
    }
    RULE(w, w->upstream != NULL);
    RULE(w, sluice_inbox_position(w->upstream) == w->released);
}

static void step(struct world *w)
{
    switch (world_random(w, 12)) {
    case 0:
    case 1:
        if (!w->lazy || chance(w, 3))
            do_read(w);
        break;
    case 2:
        do_observe(w);
        break;
    case 3:
    case 4:
        do_send(w, w->upstream, FROM_UPSTREAM);
        break;
    case 5:
        do_send(w, w->producer, FROM_PRODUCER);
        break;
    case 6:
        do_pong(w);
        break;
    case 7:
    case 8:
        do_peer_send(w, w->lazy ? 100 : PEER_CHUNK);
        break;
    case 9:
        do_peer_read(w, PEER_CHUNK);
        break;
    case 10:
        /* What one that left wrote for a connection that never opens is only in the record. */
        if (chance(w, 5) && (w->open || !w->reconnects))
            do_replace_upstream(w);
        else if (chance(w, 30))
            check_asleep(w);
        break;
    default:
        if (w->reconnects && w->upstream && world_random(w, 1000) < 3)
            sluice_client_request_reconnect(w->upstream);
        break;
    }
    if (chance(w, 70))
        do_turn(w);
    check_positions(w);
}

/* ---- endings ---- */

enum ending {
    BY_PEER_FIN,
    BY_PEER_RST,
    BY_RECONNECT,
    BY_OUTBOX,
    BY_REQUEST,
    BY_CALL,
    BY_FAULT,
    ENDINGS
};

static bool begin_ending(struct world *w, enum ending how)
{
    void *room;
    w->fin_wanted = true;
    switch (how) {
    case BY_PEER_FIN:
        w->peer_fin = true;
        sluice_sim_peer_shutdown(w->loop->be, w->peer);
        return true;
    case BY_PEER_RST:
        w->peer_rst = true;
        sluice_sim_peer_reset(w->loop->be, w->peer);
        return true;
    case BY_OUTBOX:
        if (sluice_outbox_claim(w->upstream, 0, &room))
            return false; /* full: later */
        sluice_outbox_commit(w->upstream, w->connection, SLUICE_MESSAGE_WS_CLOSE);
        w->sources[FROM_UPSTREAM].committed++;
        return true;
    case BY_RECONNECT:
        sluice_client_request_reconnect(w->upstream);
        return true;
    case BY_REQUEST:
        sluice_client_request_close(w->upstream);
        return true;
    case BY_CALL:
    case BY_FAULT:
    case ENDINGS:
        sluice_transport_close(w->transport);
        return true;
    }
    return true;
}

/* Everybody takes what comes, so it must end: no stall, no lost re-arm. */
static void calm_down(struct world *w, enum ending how)
{
    bool begun = false;
    for (int turns = 0; turns < CALM_TURNS && !(w->closed && w->end_seen); turns++) {
        do_turn(w);
        if (!w->lazy || turns > 500)
            do_read(w); /* a lazy upstream lets even the end wait */
        do_observe(w);
        ssize_t n = do_peer_read(w, PEER_CHUNK);
        if (!begun && w->open && w->peer >= 0)
            begun = begin_ending(w, how);
        bool over = n == 0 || n == -ECONNRESET;
        if (over && !w->peer_fin && !w->peer_rst && how != BY_PEER_RST) {
            w->peer_fin = true; /* it saw our end: it ends as well */
            sluice_sim_peer_shutdown(w->loop->be, w->peer);
        }
        if (turns > CALM_TURNS / 10) /* what only a deadline ends must end by it */
            sluice_sim_advance(w->loop->be, SLUICE_NS_PER_S);
        if (w->closed && !w->upstream_knows && !w->record.opened_ns)
            return; /* it never opened: nothing to read */
        check_positions(w);
    }
    RULE(w, w->closed);
    RULE(w, w->end_seen);
}

static void drain_peer(struct world *w)
{
    for (int i = 0; i < 1000; i++)
        if (do_peer_read(w, PEER_CHUNK) <= 0)
            break;
}

/* One that never opened leaves its number, and what was meant for it, to the next. */
static void reset_connection(struct world *w)
{
    bool next = w->connection == 0 || w->record.opened_ns;
    w->connection += next;
    w->open = w->closed = w->upstream_knows = w->eof_seen = w->end_seen = false;
    w->peer_fin = w->peer_rst = w->fin_wanted = false;
    w->peer = -1;
    w->peer_sent = w->peer_got = w->wait_ns = 0;
    w->header_have = w->body_left = 0;
    for (int i = 0; i < SOURCES && next; i++) {
        struct source_log *log = &w->sources[i];
        log->first = log->seen = log->next;
        log->committed = 0;
    }
}

static void connect_it(struct world *w, uint64_t wait_ns)
{
    if (wait_ns)
        sluice_sim_advance(w->loop->be, wait_ns);
    else
        RULE(w, sluice_transport_connect(w->transport, "tcp://10.0.0.1:80") == 0);
}

static void one_connection(struct world *w)
{
    enum ending how = world_random(w, ENDINGS);
    struct sluice_sim_faults faults = sluice_sim_faults_default;
    uint64_t wait_ns = w->wait_ns;
    reset_connection(w);
    w->lazy = chance(w, 30);
    if (how == BY_FAULT)
        faults.reset_ppm = 3000;
    faults.delay_max_ns = 1 + world_random(w, 200000);
    sluice_sim_set_faults(w->loop->be, &faults);
    sluice_sim_set_default_window(w->loop->be, 100 + world_random(w, 60000));
    connect_it(w, wait_ns);
    for (int i = 0; i < (w->lazy ? 4 * STEPS : STEPS) && !w->closed; i++)
        step(w);
    calm_down(w, how);
    drain_peer(w);
    if (w->record.opened_ns)
        check_end(w);
}

/* ---- life ---- */

static void world_open(struct world *w)
{
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY};
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536u << world_random(w, 3),
                                              .outbox_bytes = 65536u << world_random(w, 2),
                                              .metadata_entries = 64u << world_random(w, 3),
                                              .outbox_slots = 64u << world_random(w, 4),
                                              .pongs_slots = 16u << world_random(w, 2)};
    const struct sluice_transport_config transport_cfg = {
        .receive = chance(w, 50) ? SLUICE_RECEIVE_AUTO : SLUICE_RECEIVE_ONE_SHOT,
        .drain_timeout_ns = 50 * SLUICE_NS_PER_S,
        .reconnect = w->reconnects,
        .retry_first_ns = RETRY_NS,
        .retry_max_ns = RETRY_NS,
        .retry_lasted_ns = 100 * RETRY_NS};
    const struct sluice_transport_events events = {
        .on_open = on_open, .on_retry = on_retry, .on_close = on_close};
    RULE(w, sluice_loop_create_on(&w->loop, &sluice_backend_sim, &loop_cfg, w->seed) == 0);
    w->neighbour =
        chance(w, 40) ? neighbour_open(w) : NULL; /* first: what is done last is served first */
    RULE(w, sluice_channel_create(&w->ch, &cfg) == 0);
    RULE(w,
         sluice_transport_create(&w->transport, w->loop, w->ch, &transport_cfg, &events, w) == 0);
    RULE(w, sluice_attach_local(&w->upstream, w->ch, SLUICE_UPSTREAM) == 0);
    RULE(w, sluice_attach_local(&w->producer, w->ch, SLUICE_PRODUCER) == 0);
    RULE(w, sluice_attach_local(&w->observer, w->ch, SLUICE_OBSERVER) == 0);
    w->listener = sim_listen(w->loop->be, 1, 80, SLUICE_SIM_OPEN);
    RULE(w, w->listener >= 0);
    w->peer = -1;
}

static void world_close(struct world *w)
{
    sluice_detach(w->upstream);
    sluice_detach(w->producer);
    sluice_detach(w->observer);
    sluice_transport_destroy(w->transport);
    sluice_channel_destroy(w->ch);
    if (w->neighbour)
        neighbour_close(w, w->neighbour);
    sluice_loop_destroy(w->loop);
}

void world_run(uint64_t seed, bool loud)
{
    struct world w = {.seed = seed, .rng = seed * 0x9e3779b97f4a7c15ull + 1, .loud = loud};
    w.reconnects = chance(&w, 50);
    world_open(&w);
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        one_connection(&w);
    world_close(&w);
}
