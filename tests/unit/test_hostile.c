/*
 * The engine against clients that lie: their memory says anything at any time. An engine that lies
 * to its clients is test_hostile_engine.c's, garbage by seed is test_hostile_fuzz.c's.
 */
#include "base/log.h"
#include "rings/client.h"
#include "tests/support/cores.h"
#include "tests/support/random.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

static struct sluice_channel *ch;
static struct sluice_client *liar, *honest; /* the upstream and a producer */

static void set_up(void)
{
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536,
                                              .outbox_bytes = 65536,
                                              .metadata_entries = 64,
                                              .outbox_slots = 64,
                                              .pongs_slots = 16};
    sluice_log_set_level(SLUICE_LOG_ERROR); /* each lie is a warning */
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(&liar, ch, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_attach_local(&honest, ch, SLUICE_PRODUCER), 0);
}

static void tear_down(void)
{
    sluice_detach(liar);
    sluice_detach(honest);
    sluice_channel_destroy(ch);
}

TestSuite(hostile, .init = set_up, .fini = tear_down, .timeout = 30);

static struct sluice_writer *writer_of(const struct sluice_client *c)
{
    return &ch->writers[c->index];
}

static uint64_t thrown_out(void)
{
    return atomic_load(&ch->shared->counters[SLUICE_COUNTER_clients_corrupt]);
}

static void put(struct sluice_client *c, size_t bytes, uint8_t mark)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(c, bytes, &room), 0);
    memset(room, mark, bytes);
    sluice_outbox_commit(c, 1, SLUICE_MESSAGE_DATA);
}

static void take(struct sluice_outbox *box, uint32_t bytes, uint8_t mark)
{
    struct sluice_message m;
    cr_assert_gt(sluice_outbox_refresh(box), 0);
    cr_assert_eq(sluice_outbox_slot(box, 0, 0, &m), 0);
    cr_assert_eq(m.bytes, bytes);
    cr_assert_eq(box->base[box->byte_head & (box->byte_count - 1)], mark);
    sluice_outbox_consume(box, bytes, 1);
}

/* The upstream that was thrown out leaves; the next one takes its place. */
static void replace_liar(void)
{
    sluice_detach(liar);
    serve_once(ch, 1000);
    serve_free_leaving(ch);
    cr_assert_eq(sluice_attach_local(&liar, ch, SLUICE_UPSTREAM), 0);
}

/* ---- tails ---- */

/* Three messages of 100 bytes, two of them taken: one unread, between 200 and 300. */
static void expect_tails_refused(struct sluice_outbox *box, struct ring_tails *tails)
{
    const uint64_t slots = box->slot_count, bytes = box->byte_count;
    const struct {
        uint64_t slot_tail, byte_tail;
    } lies[] = {
        {3 + slots, 300}, /* one slot more than was free */
        {3 + 2 * slots, 300},
        {2, 300}, /* backwards */
        {0, 0},
        {UINT64_MAX, 300},
        {3 + (1ull << 32), 300},
        {3 + (1ull << 63), 300},
        {4, 300 + bytes - 100 + 1}, /* one byte more than was free */
        {4, 299},
        {4, 0},
        {4, UINT64_MAX},
        {4, 300 + (1ull << 63)},
        {UINT64_MAX, UINT64_MAX},
    };
    const struct sluice_outbox before = *box;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        atomic_store(&tails->byte_tail, lies[i].byte_tail);
        atomic_store(&tails->slot_tail, lies[i].slot_tail);
        cr_expect_eq(sluice_outbox_refresh(box), -EBADMSG, "lie %zu", i);
        cr_expect_eq(memcmp(box, &before, sizeof(before)), 0, "lie %zu", i);
    }
    /* All that is free is no lie yet. */
    atomic_store(&tails->byte_tail, 300 + bytes - 100);
    atomic_store(&tails->slot_tail, 3 + slots - 1);
    cr_expect_eq(sluice_outbox_refresh(box), (int64_t)slots);
}

Test(hostile, row_25_tails_of_an_outbox_that_lie_are_refused)
{
    struct sluice_outbox *box = &writer_of(liar)->outbox;
    for (uint8_t i = 0; i < 3; i++)
        put(liar, 100, i);
    take(box, 100, 0);
    take(box, 100, 1);
    expect_tails_refused(box, &liar->mine->outbox);
}

Test(hostile, row_25_tails_of_pongs_that_lie_are_refused)
{
    void *room;
    struct sluice_outbox *box = &writer_of(liar)->pongs;
    for (uint8_t i = 0; i < 3; i++) {
        cr_assert_eq(sluice_pong_claim(liar, 100, &room), 0);
        memset(room, i, 100);
        sluice_pong_commit(liar, 1);
    }
    take(box, 100, 0);
    take(box, 100, 1);
    expect_tails_refused(box, &liar->mine->pongs);
}

/* ---- slots ---- */

static void forge_slot(struct sluice_client *c, uint64_t n, uint32_t bytes, uint8_t type)
{
    shared_u64 *words = (shared_u64 *)(void *)&c->outbox.slots[n & (c->outbox.slot_count - 1)];
    atomic_store(&words[1], bytes | (uint64_t)1 << 32 | (uint64_t)type << 48);
}

Test(hostile, row_26_slots_that_lie_are_refused)
{
    struct sluice_message m;
    struct sluice_outbox *box = &writer_of(liar)->outbox;
    for (uint8_t i = 0; i < 3; i++)
        put(liar, 100, i);
    cr_assert_eq(sluice_outbox_refresh(box), 3);
    static const uint32_t lies[] = {301, 32769, 65536, 65537, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        forge_slot(liar, 0, lies[i], SLUICE_MESSAGE_DATA);
        cr_expect_eq(sluice_outbox_slot(box, 0, 0, &m), -EBADMSG, "%u bytes", lies[i]);
    }
    for (unsigned type = SLUICE_MESSAGE_WS_CLOSE + 1; type < 256; type++) {
        forge_slot(liar, 0, 100, (uint8_t)type);
        cr_expect_eq(sluice_outbox_slot(box, 0, 0, &m), -EBADMSG, "type %u", type);
    }
    forge_slot(liar, 0, 300, SLUICE_MESSAGE_WS_CLOSE); /* all there is, of a type there is */
    cr_expect_eq(sluice_outbox_slot(box, 0, 0, &m), 0);
}

/* Each one is plausible alone. */
Test(hostile, slots_that_sum_past_the_tail_are_refused)
{
    struct sluice_message m;
    struct sluice_outbox *box = &writer_of(liar)->outbox;
    for (uint8_t i = 0; i < 3; i++)
        put(liar, 100, i);
    cr_assert_eq(sluice_outbox_refresh(box), 3);
    for (uint64_t i = 0; i < 3; i++)
        forge_slot(liar, i, 150, SLUICE_MESSAGE_DATA);
    cr_expect_eq(sluice_outbox_slot(box, 0, 0, &m), 0);
    cr_expect_eq(sluice_outbox_slot(box, 1, 150, &m), 0);
    cr_expect_eq(sluice_outbox_slot(box, 2, 300, &m), -EBADMSG);
}

static atomic_bool flipping_over;

/* A slot that is true every other moment. */
static void *flip_slot(void *arg)
{
    uint64_t seed = 7;
    while (!atomic_load_explicit(&flipping_over, memory_order_relaxed)) {
        forge_slot(arg, 0, 100, SLUICE_MESSAGE_DATA);
        if (random_below(&seed, 2))
            forge_slot(arg, 0, 32769 + (uint32_t)random_below(&seed, 1000000), SLUICE_MESSAGE_DATA);
        else
            forge_slot(arg, 0, 100, 77);
    }
    return NULL;
}

/* What was checked is what is used: the slot is loaded once. */
Test(hostile, row_26_a_slot_that_changes_under_the_check_is_taken_whole_or_refused)
{
    pthread_t flipper;
    struct sluice_outbox *box = &writer_of(liar)->outbox;
    uint64_t good = 0, refused = 0;
    needs_two_cores();
    put(liar, 100, 0);
    cr_assert_eq(sluice_outbox_refresh(box), 1);
    cr_assert_eq(pthread_create(&flipper, NULL, flip_slot, liar), 0);
    for (int i = 0; i < 100000000 && (i < 1000000 || !good || !refused); i++) {
        struct sluice_message m;
        int err = sluice_outbox_slot(box, 0, 0, &m);
        good += err == 0;
        refused += err == -EBADMSG;
        cr_assert(err == -EBADMSG || (m.bytes == 100 && m.type == SLUICE_MESSAGE_DATA),
                  "%d: %u bytes, type %u", err, m.bytes, m.type);
    }
    atomic_store(&flipping_over, true);
    pthread_join(flipper, NULL);
    cr_expect_gt(good, 0u);
    cr_expect_gt(refused, 0u);
}

/* ---- heads ---- */

static void expect_thrown_out(const char *lie)
{
    uint64_t head = ch->inbox.head, meta_head = ch->inbox.meta_head, before = thrown_out();
    int index = ch->upstream;
    cr_expect_not(sluice_inbox_refresh(ch), "%s", lie);
    cr_expect_eq(ch->inbox.head, head, "%s", lie);
    cr_expect_eq(ch->inbox.meta_head, meta_head, "%s", lie);
    cr_expect_eq(ch->writers[index].state, WRITER_CORRUPT, "%s", lie);
    cr_expect_eq(ch->upstream, -1, "%s", lie);
    cr_expect_eq(thrown_out(), before + 1, "%s", lie);
    cr_expect(ch->corrupt, "%s", lie);
    ch->corrupt = false;
    cr_expect_eq(sluice_client_wait(liar, SLUICE_WAIT_STATE, 0), -EPIPE, "%s", lie);
    replace_liar();
}

/* Entries 0 to 4 of 100 bytes, the first released. */
Test(hostile, row_25_heads_of_the_inbox_that_lie_are_refused)
{
    static const struct {
        const char *what;
        uint64_t meta_head, inbox_head;
    } lies[] = {
        {"an entry that is not there", 6, 500},
        {"a lap of entries", 1 + 64, 500},
        {"the entry backwards", 0, 100},
        {"the last of all entries", UINT64_MAX, 100},
        {"half of all entries", 1 + (1ull << 63), 100},
        {"a byte that is not there", 5, 501},
        {"a lap of bytes", 5, 100 + 65536},
        {"the byte backwards", 1, 99},
        {"the first byte again", 1, 0},
        {"the last of all bytes", 5, UINT64_MAX},
        {"half of all bytes", 5, 100 + (1ull << 63)},
    };
    const struct sluice_meta *m;
    for (int i = 0; i < 5; i++)
        serve_bytes(ch, 100);
    cr_assert_eq(sluice_inbox_peek(liar, &m, 1), 1);
    cr_assert_eq(sluice_inbox_release(liar, 1), 0);
    cr_assert(sluice_inbox_refresh(ch));
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        atomic_store(&liar->mine->inbox_head, lies[i].inbox_head);
        atomic_store(&liar->mine->meta_head, lies[i].meta_head);
        expect_thrown_out(lies[i].what);
    }
    /* The one after all these lies has what the first left. */
    cr_assert_eq(sluice_inbox_peek(liar, &m, 64), 4);
    cr_expect_eq(m[0].msg_inbox_offset, 100u);
    cr_assert_eq(sluice_inbox_release(liar, 4), 0);
    cr_expect(sluice_inbox_refresh(ch));
}

/* They are received but stand in no entry yet. */
Test(hostile, bytes_not_published_cannot_be_released)
{
    for (int i = 0; i < 64; i++)
        serve_bytes(ch, 10);
    cr_assert(ch->inbox.has_pending);
    atomic_store(&liar->mine->inbox_head, ch->inbox.pending.msg_inbox_offset + 1);
    expect_thrown_out("a pending byte");
}

/* Whatever the heads say, no byte is lent that an honest upstream could still read, and no more
 * entries are published than there are. */
Test(hostile, heads_that_lie_never_open_the_rings)
{
    uint64_t seed = 11, lies = 0;
    for (int round = 0; round < 3000; round++) {
        struct sluice_inbox *in = &ch->inbox;
        if (ch->inbox.tail + 100 <= sluice_inbox_limit(ch) && ch->upstream >= 0)
            serve_bytes(ch, random_between(&seed, 1, 100));
        atomic_store(&liar->mine->inbox_head, random_lie(&seed, in->head, in->tail - in->head + 1));
        atomic_store(&liar->mine->meta_head,
                     random_lie(&seed, in->meta_head, in->meta_tail - in->meta_head + 1));
        uint64_t limit = sluice_inbox_limit(ch);
        cr_assert_leq(in->meta_tail - in->meta_head, in->entries, "round %d", round);
        cr_assert_leq(in->tail - in->head, in->bytes, "round %d", round);
        cr_assert_eq(limit, in->head + in->bytes, "round %d", round);
        if (ch->upstream >= 0)
            continue;
        lies++;
        replace_liar();
    }
    cr_expect_gt(lies, 100u);
    cr_expect_eq(thrown_out(), lies);
}

/* ---- what becomes of a liar, and of the others ---- */

Test(hostile, the_others_go_on)
{
    struct sluice_client *observer;
    const struct sluice_meta *m;
    cr_assert_eq(sluice_attach_local(&observer, ch, SLUICE_OBSERVER), 0);
    put(honest, 50, 1);
    serve_bytes(ch, 10);
    sluice_channel_flush(ch);
    atomic_store(&liar->mine->meta_head, 1000);
    cr_assert_not(sluice_inbox_refresh(ch));
    serve_once(ch, 1000);
    sluice_channel_flush(ch);
    cr_expect_eq(writer_of(honest)->state, WRITER_ATTACHED);
    put(honest, 60, 2);
    take(&writer_of(honest)->outbox, 50, 1);
    take(&writer_of(honest)->outbox, 60, 2);
    cr_expect_eq(sluice_client_wait(honest, SLUICE_WAIT_INBOX, 0), 0); /* not hung up */
    cr_expect_eq(sluice_inbox_peek(observer, &m, 8), 1);
    cr_expect_eq(sluice_client_wait(observer, SLUICE_WAIT_INBOX, 0), SLUICE_WAIT_INBOX);
    sluice_detach(observer);
}

/* The next one gets memory of its own: nothing of the liar's is in it. */
Test(hostile, the_place_of_a_liar_is_free_again)
{
    put(liar, 100, 1);
    atomic_store(&liar->mine->outbox.slot_tail, 1000);
    cr_assert_eq(sluice_outbox_refresh(&writer_of(liar)->outbox), -EBADMSG);
    sluice_channel_throw_out(ch, writer_of(liar));
    uint32_t index = liar->index;
    replace_liar();
    cr_expect_eq(liar->index, index);
    cr_expect_eq(sluice_outbox_refresh(&writer_of(liar)->outbox), 0);
    put(liar, 200, 2);
    take(&writer_of(liar)->outbox, 200, 2);
}

/* A lie that the engine first sees when its author hung up already. */
Test(hostile, a_lie_told_while_leaving)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 5; i++)
        serve_bytes(ch, 100);
    atomic_store(&liar->mine->meta_head, 6);
    atomic_store(&liar->mine->inbox_head, 400);
    atomic_store(&liar->mine->outbox.slot_tail, 1000);
    atomic_store(&liar->mine->request, UINT64_MAX);
    replace_liar();
    cr_expect_eq(thrown_out(), 1u);
    cr_assert_eq(sluice_inbox_peek(liar, &m, 64), 5);
    cr_expect_eq(m[0].msg_inbox_offset, 0u);
}

/* release_to() of one that has seen no entry yet: a mistake must not make it a liar. */
Test(hostile, an_upstream_cannot_lie_by_mistake)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 100);
    cr_assert_eq(sluice_inbox_peek(liar, &m, 1), 1);
    cr_assert_eq(sluice_inbox_release(liar, 1), 0);
    replace_liar();
    cr_expect_eq(sluice_inbox_release_to(liar, 0, 1000000), -EINVAL);
    cr_expect(sluice_inbox_refresh(ch));
}

/* ---- words ---- */

Test(hostile, nonsense_in_the_request_word_is_only_a_request)
{
    uint64_t seed = 3, closes = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t word = random_next(&seed) >> random_below(&seed, 64), old = liar->request;
        liar->request = word;
        atomic_store(&liar->mine->request, word);
        sluice_channel_take_requests(ch);
        cr_assert_eq(atomic_load(&ch->shared->ready), word & 1 ? SLUICE_READY_UPSTREAM : 0);
        cr_assert_eq(ch->close_requested, ((word ^ old) >> REQUEST_CLOSE_AT & REQUEST_FIELD) != 0);
        cr_assert_eq(ch->reconnect_requested,
                     ((word ^ old) >> REQUEST_CONNECT_AT & REQUEST_FIELD) != 0);
        cr_assert_eq(ch->prefer_requested, (word ^ old) >> REQUEST_PREFER_AT != 0);
        cr_assert_not(sluice_channel_has_request(ch));
        closes += ch->close_requested;
        ch->close_requested = ch->reconnect_requested = ch->prefer_requested = false;
    }
    cr_expect_gt(closes, 0u);
    cr_expect_eq(thrown_out(), 0u);
}

Test(hostile, a_producer_requests_nothing)
{
    atomic_store(&honest->mine->request, UINT64_MAX);
    atomic_store(&honest->mine->meta_head, UINT64_MAX);
    atomic_store(&honest->mine->inbox_head, UINT64_MAX);
    sluice_channel_take_requests(ch);
    cr_expect_not(ch->close_requested);
    cr_expect_not(sluice_channel_has_request(ch));
    cr_expect_eq(atomic_load(&ch->shared->ready), 0u);
    cr_expect(sluice_inbox_refresh(ch));
    cr_expect_eq(sluice_inbox_limit(ch), 65536u);
}

Test(hostile, nonsense_in_the_waiting_word_costs_one_bell_at_most)
{
    uint64_t seed = 5;
    shared_u64 *bells = &ch->shared->counters[SLUICE_COUNTER_doorbells];
    for (int i = 0; i < 20000; i++) {
        uint32_t word = (uint32_t)random_next(&seed);
        uint64_t before = atomic_load(bells);
        atomic_store(&liar->mine->waiting, word);
        for (int turn = 0; turn < 2; turn++) {
            ch->news = SLUICE_WAIT_INBOX | SLUICE_WAIT_OUTBOX | SLUICE_WAIT_STATE;
            sluice_channel_flush(ch);
        }
        cr_assert_leq(atomic_load(bells), before + 1);
    }
    cr_expect_eq(thrown_out(), 0u);
}

/* ---- a liar's doorbell ---- */

#define RINGS 20000u /* more than it holds */

static void *ring_often(void *unused)
{
    for (uint32_t i = 1; i < RINGS; i++) {
        atomic_store(&liar->mine->waiting, i << 8 | SLUICE_WAIT_INBOX);
        ch->news = SLUICE_WAIT_INBOX;
        sluice_channel_flush(ch);
    }
    return unused;
}

/* It sleeps again and again and never takes what was rung. */
Test(hostile, a_doorbell_that_is_full_does_not_stop_the_engine)
{
    pthread_t thread;
    struct timespec limit;
    int flags = fcntl(liar->bell_fd, F_GETFL);
    cr_assert_eq(fcntl(liar->bell_fd, F_SETFL, flags & ~O_NONBLOCK), 0); /* its own end's only */
    cr_assert_eq(pthread_create(&thread, NULL, ring_often, NULL), 0);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 5;
    cr_assert_eq(pthread_timedjoin_np(thread, NULL, &limit), 0, "the engine hangs in send()");
    cr_expect_lt(atomic_load(&ch->shared->counters[SLUICE_COUNTER_doorbells]), RINGS / 2);
    cr_expect_eq(thrown_out(), 0u);
}
