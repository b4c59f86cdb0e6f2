/*
 * Garbage by seed: a client that fills its whole memory with it, against the real transport on the
 * simulated network, and an engine that does, against its clients. Each lie alone is
 * test_hostile.c's and test_hostile_engine.c's.
 */
#include "base/log.h"
#include "loop.h"
#include "rings/client.h"
#include "tests/support/random.h"
#include "tests/support/serve.h"
#include "tests/support/sim_net.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define ROUNDS 2000
#define HONEST 0xa5u /* bytes of the one that does not lie; liars' are 'g' */

static const struct sluice_channel_config cfg = {.inbox_bytes = 65536,
                                                 .outbox_bytes = 65536,
                                                 .metadata_entries = 64,
                                                 .outbox_slots = 64,
                                                 .pongs_slots = 16};

/* ---- the engine ---- */

static struct sluice_loop *loop;
static struct sluice_channel *ch;
static struct sluice_transport *transport;
static struct sluice_client *honest;
static int listener, peer;
static uint64_t honest_got;

static void set_up_engine(void)
{
    const struct sluice_loop_config loop_cfg = {.idle = SLUICE_IDLE_BUSY};
    const struct sluice_transport_config transport_cfg = {.drain_timeout_ns = 1000000};
    sluice_log_set_level(SLUICE_LOG_ERROR); /* each lie is a warning */
    cr_assert_eq(sluice_loop_create_on(&loop, &sluice_backend_sim, &loop_cfg, 1), 0);
    sluice_sim_set_faults(loop->be, &sluice_sim_faults_none);
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_transport_create(&transport, loop, ch, &transport_cfg, NULL, NULL), 0);
    cr_assert_eq(sluice_attach_local(&honest, ch, SLUICE_PRODUCER), 0);
    listener = sim_listen(loop->be, 1, 80, SLUICE_SIM_OPEN);
    peer = -1;
}

static void tear_down_engine(void)
{
    sluice_detach(honest);
    sluice_transport_destroy(transport);
    sluice_channel_destroy(ch);
    sluice_loop_destroy(loop);
}

TestSuite(fuzz_engine, .init = set_up_engine, .fini = tear_down_engine, .timeout = 110);

/* The peer sends as much as is taken and counts the honest one's bytes. */
static void peer_turn(void)
{
    static uint8_t got[65536];
    static const uint8_t piece[2000];
    ssize_t n = sluice_sim_peer_recv(loop->be, peer, got, sizeof(got));
    for (ssize_t i = 0; i < n; i++)
        honest_got += got[i] == HONEST;
    sluice_sim_peer_send(loop->be, peer, piece, sizeof(piece));
}

static void turns(int n)
{
    for (int i = 0; i < n; i++) {
        cr_assert_geq(sluice_loop_turn(loop), 0);
        if (peer < 0)
            peer = sluice_sim_accept(loop->be, listener);
        if (peer >= 0)
            peer_turn();
    }
}

static uint32_t conn_state(void)
{
    return atomic_load(&ch->shared->conn_state);
}

static void open_connection(void)
{
    peer = -1;
    cr_assert_eq(sluice_transport_connect(transport, "tcp://10.0.0.1:80"), 0);
    for (int i = 0; i < 100 && (conn_state() != SLUICE_CONN_OPEN || peer < 0); i++)
        turns(1);
    cr_assert_eq(conn_state(), SLUICE_CONN_OPEN);
}

static void close_connection(void)
{
    for (int i = 0; i < 50 && conn_state() != SLUICE_CONN_CLOSED; i++)
        turns(1);
    if (conn_state() != SLUICE_CONN_CLOSED)
        sluice_transport_close(transport);
    for (int i = 0; i < 1000 && conn_state() != SLUICE_CONN_CLOSED; i++)
        turns(1);
    cr_assert_eq(conn_state(), SLUICE_CONN_CLOSED);
    sluice_sim_peer_reset(loop->be, peer);
}

static void show_hang_ups(void)
{
    sim_show_clients(loop->be, ch);
    turns(3);
}

/* Near the truth, or anything. */
static void fill_with_garbage(struct sluice_client *c, uint32_t connection, uint64_t *seed)
{
    struct producer *const boxes[] = {&c->outbox, &c->pongs};
    struct writer_shared *w = c->mine;
    for (int b = 0; b < 2; b++) {
        struct producer *p = boxes[b];
        bool plausible = random_below(seed, 4) != 0;
        for (uint64_t i = 0; i < p->slot_count; i++) {
            shared_u64 *words = (shared_u64 *)(void *)&p->slots[i];
            uint64_t word = random_next(seed);
            if (plausible) /* lengths and types that are often possible, for this connection */
                word = random_below(seed, 1u << random_between(seed, 1, 15)) |
                       (uint64_t)(uint16_t)connection << 32 |
                       (uint64_t)(random_below(seed, 40) == 0) << 48;
            atomic_store(&words[1], word);
        }
        memset(p->base, 'g', p->byte_count);
        atomic_store(&p->tails->byte_tail,
                     plausible ? random_below(seed, p->byte_count + 1) : random_next(seed));
        atomic_store(&p->tails->slot_tail, random_lie(seed, random_below(seed, 8), p->slot_count));
    }
    if (random_below(seed, 4) == 0) {
        atomic_store(&w->meta_head, random_lie(seed, atomic_load(&w->meta_head), c->entries));
        atomic_store(&w->inbox_head, random_lie(seed, atomic_load(&w->inbox_head), c->inbox_bytes));
    }
    if (random_below(seed, 8) == 0)
        atomic_store(&w->request, random_next(seed));
    atomic_store(&w->waiting, (uint32_t)random_next(seed));
}

/* Whole pages of noise, header and all. */
static void fill_with_noise(struct sluice_client *c, uint64_t *seed)
{
    random_fill(seed, c->fixed, c->fixed_bytes);
    memset(c->outbox.base, 'g', c->outbox.byte_count);
    memset(c->pongs.base, 'g', c->pongs.byte_count);
}

static void put_honestly(int messages)
{
    void *room;
    while (messages-- > 0 && sluice_outbox_claim(honest, 100, &room) == 0) {
        memset(room, HONEST, 100);
        sluice_outbox_commit(honest, 0, SLUICE_MESSAGE_DATA);
    }
}

/* One connection with one liar: the reason for which it ended. */
static uint32_t lie_once(uint64_t *seed)
{
    struct sluice_client *liar;
    struct sluice_state st;
    enum sluice_role role = random_below(seed, 2) ? SLUICE_UPSTREAM : SLUICE_PRODUCER;
    bool noise = random_below(seed, 8) == 0;
    open_connection();
    uint32_t connection = atomic_load(&ch->shared->connection); /* not the next one's */
    cr_assert_eq(sluice_attach_local(&liar, ch, role), 0);
    for (int i = 0; i < 4 && conn_state() == SLUICE_CONN_OPEN; i++) {
        put_honestly(5);
        turns((int)random_below(seed, 3));
        if (conn_state() != SLUICE_CONN_OPEN)
            break; /* the next connection's lies are the next round's */
        if (noise)
            fill_with_noise(liar, seed);
        else
            fill_with_garbage(liar, connection, seed);
        turns((int)random_below(seed, 3)); /* 0: it leaves before anybody looked */
    }
    sluice_detach(liar);
    show_hang_ups();
    close_connection();
    sluice_channel_state(ch, &st);
    return st.closes[(st.close_count - 1) % SLUICE_CLOSE_RECORDS].reason;
}

/* An honest upstream has what was left, in order, and the honest producer's bytes all arrive. */
static void go_on(uint64_t round)
{
    struct sluice_client *up;
    const struct sluice_meta *m;
    int64_t n;
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0, "round %lu", round);
    while ((n = sluice_inbox_peek(up, &m, 64)) > 0)
        cr_assert_eq(sluice_inbox_release(up, (uint32_t)n), 0);
    cr_assert_eq(n, 0, "round %lu: %ld", round, (long)n);
    open_connection();
    honest_got = 0;
    put_honestly(10);
    for (int i = 0; i < 100 && honest_got < 1000; i++)
        turns(1);
    cr_assert_eq(honest_got, 1000u, "round %lu: %lu", round, honest_got);
    while ((n = sluice_inbox_peek(up, &m, 64)) > 0)
        cr_assert_eq(sluice_inbox_release(up, (uint32_t)n), 0);
    cr_assert_eq(n, 0, "round %lu: %ld", round, (long)n);
    sluice_detach(up);
    show_hang_ups();
    close_connection();
}

/* One that left between two connections is looked at on the next one. */
static void sweep(void)
{
    bool leaving = false;
    for (uint32_t i = 0; i < SLUICE_WRITERS_MAX; i++)
        leaving |= ch->writers[i].state == WRITER_LEAVING;
    if (!leaving)
        return;
    open_connection();
    turns(5);
    close_connection();
}

Test(fuzz_engine, garbage_of_clients_ends_in_corrupt_or_in_nothing)
{
    uint64_t ended_corrupt = 0, harmless = 0;
    struct sluice_state st;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t seed = round;
        uint32_t reason = lie_once(&seed);
        cr_assert(reason == SLUICE_REASON_CORRUPT || reason == SLUICE_REASON_LOCAL_CLOSE ||
                      reason == SLUICE_REASON_PEER_CLOSE,
                  "round %lu: %s", round, sluice_reason_name(reason));
        ended_corrupt += reason == SLUICE_REASON_CORRUPT;
        harmless += reason != SLUICE_REASON_CORRUPT;
        cr_assert_eq(ch->writers[honest->index].state, WRITER_ATTACHED, "round %lu", round);
        sweep();
        go_on(round);
    }
    sluice_channel_state(ch, &st);
    cr_expect_geq(st.counters[SLUICE_COUNTER_clients_corrupt], ended_corrupt);
    cr_expect_gt(ended_corrupt, ROUNDS / 10);
    cr_expect_gt(harmless, ROUNDS / 50);
    cr_expect_eq(st.producers, 1u);
    cr_expect_eq(st.upstream_pid, 0u);
}

/* Between two connections: it is thrown out for that, but the next one is not its business. */
Test(fuzz_engine, one_that_lied_and_left_does_not_end_the_next_connection)
{
    struct sluice_client *liar;
    cr_assert_eq(sluice_attach_local(&liar, ch, SLUICE_PRODUCER), 0);
    atomic_store(&liar->mine->outbox.slot_tail, 1000);
    sluice_detach(liar);
    show_hang_ups();
    go_on(0);
}

/* ---- clients ---- */

static struct sluice_client *up, *producer, *observer;
static volatile uint8_t sink; /* so that bytes are really read */

static void set_up_clients(void)
{
    sluice_log_set_level(SLUICE_LOG_ERROR); /* it seems to the engine that they lie */
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_attach_local(&producer, ch, SLUICE_PRODUCER), 0);
    cr_assert_eq(sluice_attach_local(&observer, ch, SLUICE_OBSERVER), 0);
}

static void tear_down_clients(void)
{
    sluice_detach(up);
    sluice_detach(producer);
    sluice_detach(observer);
    sluice_channel_destroy(ch);
}

TestSuite(fuzz_clients, .init = set_up_clients, .fini = tear_down_clients, .timeout = 110);

/* A run of entries that may be true in all but one place. */
static void forge_entries(uint64_t *seed)
{
    uint64_t offset = random_lie(seed, up->next_offset, cfg.inbox_bytes), n = up->meta_head;
    uint64_t limit = random_below(seed, 20);
    if (random_below(seed, 2))
        offset = up->next_offset;
    for (uint64_t i = 0; i < limit; i++, n++) {
        shared_u64 *words = (shared_u64 *)(void *)&ch->inbox.meta[n % 64];
        uint64_t phase = n / 64 % 2 ? 0 : SLUICE_META_PHASE;
        uint64_t bytes = random_below(seed, 1u << random_between(seed, 1, 15)), event = 0;
        if (random_below(seed, 30) == 0)
            bytes = random_next(seed) & UINT32_MAX;
        if (random_below(seed, 8) == 0)
            event = random_below(seed, 6);
        if (event && random_below(seed, 8))
            bytes = 0;
        atomic_store(&words[6], offset);
        atomic_store(&words[7], bytes | event << 32 | phase << 40);
        offset += bytes;
    }
    atomic_store(&ch->shared->meta_tail, n);
    atomic_store(&ch->shared->inbox_tail, offset);
}

static void fill_engine(uint64_t *seed)
{
    struct engine_shared *s = ch->shared;
    if (random_below(seed, 8) == 0)
        random_fill(seed, s, sizeof(*s));
    if (random_below(seed, 8) == 0)
        random_fill(seed, ch->inbox.meta, 64 * sizeof(struct sluice_meta));
    forge_entries(seed);
    for (int i = 0; i < (int)SLUICE_WRITERS_MAX; i++) {
        const struct sluice_client *c = i == (int)up->index ? up : producer;
        atomic_store(&s->writers[i].outbox.slot_head, random_lie(seed, c->outbox.slot_head, 64));
        atomic_store(&s->writers[i].outbox.byte_head, random_lie(seed, c->outbox.byte_head, 65536));
    }
    atomic_store(&s->meta_lent, random_lie(seed, observer->meta_head, 64));
    atomic_store(&s->inbox_lent, random_lie(seed, observer->inbox_head, 65536));
    atomic_store(&s->text_version, random_next(seed) & ~1ull); /* odd: test_state.c */
}

/* Returns false when the handle is of no use any more. */
static bool read_entries(struct sluice_client *c, uint64_t *seed, uint64_t round)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(c, &m, random_between(seed, 1, 80));
    cr_assert(n >= -1 * (int64_t)ESTALE && n <= 80);
    uint64_t next = n > 0 ? m[0].msg_inbox_offset : 0;
    for (int64_t i = 0; i < n && c == up; i++) {
        cr_assert_eq(m[i].msg_inbox_offset, next, "round %lu", round);
        cr_assert_leq(m[i].decrypted_len, cfg.inbox_bytes, "round %lu", round);
        const uint8_t *at = sluice_inbox_at(c, next);
        for (uint32_t k = 0; k < m[i].decrypted_len; k += 64)
            sink = at[k];
        if (m[i].decrypted_len)
            sink = at[m[i].decrypted_len - 1];
        next += m[i].decrypted_len;
    }
    if (n > 0) {
        uint32_t some = random_between(seed, 0, (uint32_t)n);
        int err = sluice_inbox_release(c, some);
        cr_assert(err == 0 || (c == observer && err == -ESTALE), "round %lu: %d", round, err);
    }
    return n != -EBADMSG;
}

static bool write_messages(struct sluice_client *c, uint64_t *seed, uint64_t round)
{
    void *room;
    for (int i = 0; i < 20; i++) {
        size_t bytes = random_between(seed, 1, 33000);
        int err = sluice_outbox_claim(c, bytes, &room);
        cr_assert(err == 0 || err == -EAGAIN || err == -EBADMSG || err == -EMSGSIZE,
                  "round %lu: %d", round, err);
        if (err == -EBADMSG)
            return false;
        if (err)
            continue;
        memset(room, 'x', bytes);
        sluice_outbox_commit(c, 0, SLUICE_MESSAGE_DATA);
    }
    return true;
}

Test(fuzz_clients, garbage_of_an_engine_is_refused_or_harmless)
{
    static struct sluice_state st;
    uint64_t refused = 0;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t seed = round;
        bool useful = true;
        for (int i = 0; i < 10 && useful; i++) {
            uint64_t messages, bytes;
            fill_engine(&seed);
            useful &= read_entries(up, &seed, round);
            useful &= read_entries(observer, &seed, round);
            useful &= write_messages(up, &seed, round);
            useful &= write_messages(producer, &seed, round);
            sluice_outbox_depth(up, &messages, &bytes);
            unsigned what = (unsigned)random_below(&seed, 8);
            int there = sluice_client_wait(up, what, 0);
            cr_assert((there & ~(int)what) == 0, "round %lu: %d", round, there);
            sluice_client_state(observer, &st);
            cr_assert_lt(strnlen(st.peer, sizeof(st.peer)), sizeof(st.peer));
        }
        refused += !useful;
        tear_down_clients();
        set_up_clients();
    }
    cr_expect_gt(refused, ROUNDS / 2);
}
