/*
 * Clients against an engine that lies, through the engine's own mappings, and observers that are
 * overtaken. Clients that lie are test_hostile.c's, garbage by seed is test_hostile_fuzz.c's.
 */
#include "base/clock.h"
#include "rings/client.h"
#include "tests/support/cores.h"
#include "tests/support/random.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#define INBOX   65536u
#define ENTRIES 64u

static struct sluice_channel *ch;
static struct sluice_client *up, *observer;

static void set_up(void)
{
    const struct sluice_channel_config cfg = {.inbox_bytes = INBOX,
                                              .outbox_bytes = 65536,
                                              .metadata_entries = ENTRIES,
                                              .outbox_slots = 64,
                                              .pongs_slots = 16};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_attach_local(&observer, ch, SLUICE_OBSERVER), 0);
}

static void tear_down(void)
{
    sluice_detach(up);
    sluice_detach(observer);
    sluice_channel_destroy(ch);
}

TestSuite(hostile_engine, .init = set_up, .fini = tear_down, .timeout = 30);

/* Entry number n, whatever stands in it, with the phase of its lap. */
static void forge(uint64_t n, uint64_t offset, uint32_t bytes, uint8_t event)
{
    shared_u64 *words = (shared_u64 *)(void *)&ch->inbox.meta[n % ENTRIES];
    uint64_t phase = n / ENTRIES % 2 ? 0 : SLUICE_META_PHASE;
    atomic_store(&words[6], offset);
    atomic_store(&words[7], bytes | (uint64_t)event << 32 | phase << 40);
}

static void forge_tail(uint64_t meta_tail, uint64_t inbox_tail)
{
    atomic_store(&ch->shared->inbox_tail, inbox_tail);
    atomic_store(&ch->shared->meta_tail, meta_tail);
}

/* ---- entries, for an upstream ---- */

struct lie {
    const char *what;
    uint64_t offset;
    uint32_t bytes;
    uint8_t event;
};

/* The upstream has released 1000 bytes in one entry; the lie is entry 1. */
static const struct lie first_lies[] = {
    {"before what was released", 999, 10, SLUICE_EVENT_DATA},
    {"from the beginning", 0, 10, SLUICE_EVENT_DATA},
    {"beyond the inbox", 1000 + INBOX + 1, 0, SLUICE_EVENT_CONNECTED},
    {"in another half of all positions", 1ull << 63, 10, SLUICE_EVENT_DATA},
    {"the last position", UINT64_MAX, 10, SLUICE_EVENT_DATA},
    {"a gap of one byte", 1001, 10, SLUICE_EVENT_DATA},
    {"longer than the inbox", 1000, INBOX + 1, SLUICE_EVENT_DATA},
    {"half of all lengths", 1000, 1u << 31, SLUICE_EVENT_DATA},
    {"the longest length", 1000, UINT32_MAX, SLUICE_EVENT_DATA},
    {"an unknown event", 1000, 0, SLUICE_EVENT_DISCONNECTED + 1},
    {"the last event", 1000, 0, 255},
    {"a control event with bytes", 1000, 1, SLUICE_EVENT_CONNECTED},
    {"another one", 1000, 1, SLUICE_EVENT_DISCONNECTED},
};

static void restart(void)
{
    tear_down();
    set_up();
}

static void release_one(void)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 1000);
    cr_assert_eq(sluice_inbox_peek(up, &m, 8), 1);
    cr_assert_eq(sluice_inbox_release(up, 1), 0);
}

Test(hostile_engine, entries_that_lie_are_refused)
{
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(first_lies) / sizeof(first_lies[0]); i++) {
        const struct lie *lie = &first_lies[i];
        release_one();
        forge(1, lie->offset, lie->bytes, lie->event);
        cr_expect_eq(sluice_inbox_peek(up, &m, 8), -EBADMSG, "%s", lie->what);
        cr_expect_eq(sluice_inbox_peek(up, &m, 1), -EBADMSG, "%s, again", lie->what);
        cr_expect_eq(sluice_inbox_release(up, 1), -EINVAL, "%s", lie->what);
        cr_expect_eq(sluice_inbox_position(up), 1000u, "%s", lie->what);
        restart();
    }
    release_one();
    forge(1, 1000, INBOX, SLUICE_EVENT_DATA); /* all that fits is no lie */
    cr_expect_eq(sluice_inbox_peek(up, &m, 8), 1);
}

/* The first entry of one that continues tells where it is: within what the inbox can hold. */
Test(hostile_engine, the_first_entry_of_the_next_upstream_is_checked_too)
{
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(first_lies) / sizeof(first_lies[0]); i++) {
        const struct lie *lie = &first_lies[i];
        if (lie->offset == 1001)
            continue; /* bytes that were kept may stand before it */
        release_one();
        sluice_detach(up);
        serve_once(ch, 1000);
        cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
        forge(1, lie->offset, lie->bytes, lie->event);
        cr_expect_eq(sluice_inbox_peek(up, &m, 8), -EBADMSG, "%s", lie->what);
        restart();
    }
}

Test(hostile_engine, entries_must_follow_each_other)
{
    static const uint64_t offsets[] = {99, 101, 0, 100 + INBOX, UINT64_MAX};
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        serve_bytes(ch, 100);
        forge(1, offsets[i], 10, SLUICE_EVENT_DATA);
        cr_expect_eq(sluice_inbox_peek(up, &m, 8), -EBADMSG, "%lu", (unsigned long)offsets[i]);
        cr_expect_eq(sluice_inbox_peek(up, &m, 1), 1); /* the good one before it */
        restart();
    }
}

/* Each one is plausible alone. */
Test(hostile_engine, entries_that_sum_past_the_inbox_are_refused)
{
    const struct sluice_meta *m;
    for (uint64_t n = 0; n < 5; n++)
        forge(n, 16384 * n, 16384, SLUICE_EVENT_DATA);
    cr_expect_eq(sluice_inbox_peek(up, &m, 4), 4);
    cr_expect_eq(sluice_inbox_peek(up, &m, 5), -EBADMSG);
}

/* The lease is on memory that the engine may still write: what was checked must be what counts. */
Test(hostile_engine, row_26_entries_that_change_after_the_peek_move_nobody_out_of_bounds)
{
    static const uint64_t offsets[] = {0, 299, 301, 1000, 1ull << 63, UINT64_MAX};
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (int k = 0; k < 3; k++)
            serve_bytes(ch, 100);
        cr_assert_eq(sluice_inbox_peek(up, &m, 8), 3);
        cr_assert_eq(sluice_inbox_release(up, 1), 0);
        forge(2, offsets[i], UINT32_MAX, 99);
        cr_expect_eq(sluice_inbox_release_to(up, 1, 301), -EINVAL);
        cr_assert_eq(sluice_inbox_release(up, 1), 0);
        uint64_t at = sluice_inbox_position(up);
        cr_expect(at >= 100 && at <= 300, "%lu", (unsigned long)at);
        cr_assert_eq(sluice_inbox_release(up, 1), 0);
        cr_expect_eq(sluice_inbox_position(up), 300u);
        restart();
    }
}

static atomic_bool over;

/* Goes on lap after lap, no matter how far the upstream is. */
static void *publish_for_ever(void *arg)
{
    (void)arg;
    for (uint64_t n = 0; !atomic_load_explicit(&over, memory_order_relaxed); n++)
        forge(n, 0, 0, SLUICE_EVENT_CONNECTED);
    return NULL;
}

/* The array that a peek gives ends with the second mapping. */
Test(hostile_engine, a_peek_gives_no_more_than_there_can_be)
{
    pthread_t thread;
    const struct sluice_meta *m;
    int64_t most = 0;
    cr_assert_eq(pthread_create(&thread, NULL, publish_for_ever, NULL), 0);
    uint64_t start = sluice_monotonic_ns();
    while (most <= ENTRIES && sluice_monotonic_ns() - start < SLUICE_NS_PER_S) {
        int64_t n = sluice_inbox_peek(up, &m, 1000000);
        most = n > most ? n : most;
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    cr_expect_leq(most, ENTRIES);
}

/* ---- entries, for an observer ---- */

/* Five entries of 100 bytes, read. */
static void observe_five(void)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 5; i++)
        serve_bytes(ch, 100);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 8), 5);
    cr_assert_eq(sluice_inbox_release(observer, 5), 0);
}

Test(hostile_engine, an_observer_refuses_entries_that_lie)
{
    static const struct lie lies[] = {
        {"longer than the inbox", 500, INBOX + 1, SLUICE_EVENT_DATA},
        {"the longest length", 500, UINT32_MAX, SLUICE_EVENT_DATA},
        {"an unknown event", 500, 0, SLUICE_EVENT_DISCONNECTED + 1},
        {"a control event with bytes", 500, 1, SLUICE_EVENT_CONNECTED},
    };
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        observe_five();
        forge(5, lies[i].offset, lies[i].bytes, lies[i].event);
        forge_tail(6, 500 + lies[i].bytes);
        int64_t n = sluice_inbox_peek(observer, &m, 8);
        cr_expect_eq(n, -EBADMSG, "%s: %ld", lies[i].what, (long)n);
        restart();
    }
}

/* There are five entries. What is not there must not be given. */
Test(hostile_engine, an_observer_refuses_tails_that_lie)
{
    static const uint64_t tails[] = {4, 0, UINT64_MAX, 5 + ENTRIES + 1, 5 + (1ull << 63)};
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        observe_five();
        forge_tail(tails[i], 500);
        int64_t n = sluice_inbox_peek(observer, &m, 8);
        cr_expect(n == -EBADMSG || n == -ESTALE, "tail %lu: %ld", (unsigned long)tails[i], (long)n);
        restart();
    }
}

/* One that says it lends everything, always: nothing can be read, and nobody hangs or crashes. */
Test(hostile_engine, an_observer_outlives_marks_that_lie)
{
    static const uint64_t marks[] = {1ull << 62, INT64_MAX, 1ull << 63, UINT64_MAX};
    const struct sluice_meta *m;
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        serve_bytes(ch, 100);
        sluice_channel_flush(ch);
        atomic_store(&ch->shared->meta_lent, marks[i]);
        atomic_store(&ch->shared->inbox_lent, marks[i]);
        int64_t n = sluice_inbox_peek(observer, &m, 8);
        cr_expect(n == 1 || n == -ESTALE, "%ld", (long)n);
        int err = n == 1 ? sluice_inbox_release(observer, 1) : 0;
        cr_expect(err == 0 || err == -ESTALE, "%d", err);
        restart();
    }
}

/* ---- observers of an honest engine that overtakes them ---- */

static void upstream_takes_all(void)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(up, &m, ENTRIES);
    cr_assert_geq(n, 0);
    cr_assert_eq(sluice_inbox_release(up, (uint32_t)n), 0);
    sluice_inbox_refresh(ch);
}

static void serve_laps(uint32_t entries, uint32_t bytes)
{
    for (uint32_t i = 0; i < entries; i++) {
        serve_bytes(ch, bytes);
        upstream_takes_all();
        sluice_channel_flush(ch);
    }
}

/* One count decides: as long as it may be whole it is given, and from then on it is not. */
Test(hostile_engine, an_observer_is_told_from_the_first_entry_that_may_be_gone)
{
    const struct sluice_meta *m;
    for (uint32_t behind = 1; behind <= 2 * ENTRIES; behind++) {
        serve_laps(behind, 1);
        bool gone = atomic_load(&ch->shared->meta_lent) > ENTRIES;
        int64_t n = sluice_inbox_peek(observer, &m, 1);
        cr_expect_eq(n, gone ? -ESTALE : 1, "%u behind: %ld", behind, (long)n);
        if (n == 1)
            cr_expect_eq(m[0].msg_inbox_offset, 0u);
        if (behind > ENTRIES)
            cr_expect(gone, "%u behind", behind);
        restart();
    }
}

Test(hostile_engine, an_overtaken_observer_goes_on_at_the_newest)
{
    const struct sluice_meta *m;
    for (int round = 0; round < 20; round++) {
        serve_laps(3 * ENTRIES, 10);
        cr_assert_eq(sluice_inbox_peek(observer, &m, 8), -ESTALE);
        cr_expect_eq(sluice_inbox_position(observer), ch->inbox.tail);
        cr_assert_eq(sluice_inbox_peek(observer, &m, 8), 0);
        uint64_t tail = ch->inbox.tail;
        serve_laps(2, 10);
        cr_assert_eq(sluice_inbox_peek(observer, &m, 8), 2);
        cr_expect_eq(m[0].msg_inbox_offset, tail);
        cr_assert_eq(sluice_inbox_release(observer, 2), 0);
    }
}

/* Its bytes go before its entries do. */
Test(hostile_engine, an_observer_is_told_that_the_bytes_went)
{
    const struct sluice_meta *m;
    serve_laps(1, 1000);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 8), 1);
    serve_laps(3, 30000);
    cr_expect_eq(sluice_inbox_release(observer, 1), -ESTALE);
    cr_expect_eq(sluice_inbox_release(observer, 1), -EINVAL); /* there is no such peek any more */
    cr_expect_eq(sluice_inbox_peek(observer, &m, 8), 0);
    serve_laps(1, 10);
    cr_expect_eq(sluice_inbox_peek(observer, &m, 8), 1);
}

#define TORN_BYTES 7u

/* Entry n says n in every word; as many laps as fit into the time. Nobody releases: the engine
 * takes its own heads along. */
static void *publish_numbered(void *arg)
{
    (void)arg;
    for (uint64_t n = 0; !atomic_load_explicit(&over, memory_order_relaxed); n++) {
        struct sluice_inbox *in = &ch->inbox;
        const struct sluice_meta stamps = {.first_nic_timestamp_ns = n,
                                           .first_nic_frame_poll_cycle = n,
                                           .latest_nic_timestamp_ns = n,
                                           .latest_nic_frame_poll_cycle = n,
                                           .latest_raw_frame_poll_cycle = n,
                                           .ssl_read_cycle = n,
                                           .nic_packet_ct = (uint16_t)n};
        sluice_inbox_lend(ch, in->tail + TORN_BYTES);
        sluice_inbox_arrived(ch, &stamps, TORN_BYTES);
        in->head = in->tail;
        in->meta_head = in->meta_tail;
        sluice_channel_flush(ch);
        if (n % 8 == 0)
            sched_yield(); /* a reader must have a chance, be it on the same core */
    }
    return NULL;
}

static bool entry_is_whole(const struct sluice_meta *m)
{
    uint64_t n = m->first_nic_timestamp_ns;
    uint64_t phase = n / ENTRIES % 2 ? 0 : SLUICE_META_PHASE;
    return m->first_nic_frame_poll_cycle == n && m->latest_nic_timestamp_ns == n &&
           m->latest_nic_frame_poll_cycle == n && m->latest_raw_frame_poll_cycle == n &&
           m->ssl_read_cycle == n && m->msg_inbox_offset == n * TORN_BYTES &&
           m->decrypted_len == TORN_BYTES && m->event == SLUICE_EVENT_DATA && m->flags == phase &&
           m->nic_packet_ct == (uint16_t)n;
}

Test(hostile_engine, an_observer_never_gets_a_torn_entry)
{
    pthread_t thread;
    uint64_t good = 0, stale = 0, next = 0, looks = 0;
    needs_two_cores();
    sluice_detach(up);
    up = NULL;
    serve_once(ch, 1000);
    cr_assert_eq(pthread_create(&thread, NULL, publish_numbered, NULL), 0);
    uint64_t start = sluice_monotonic_ns();
    while (sluice_monotonic_ns() - start < SLUICE_NS_PER_S) {
        const struct sluice_meta *m;
        int64_t n = sluice_inbox_peek(observer, &m, 1 + (uint32_t)(good % ENTRIES));
        stale += n == -ESTALE;
        if (n <= 0)
            sched_yield();
        if (++looks % 256 == 0)
            usleep(1000); /* and the engine one to lap it */
        for (int64_t i = 0; i < n; i++) {
            cr_assert(entry_is_whole(&m[i]), "after %lu good ones", (unsigned long)good);
            cr_assert(m[i].first_nic_timestamp_ns == next || (i == 0 && stale),
                      "entry %lu, not %lu", (unsigned long)m[i].first_nic_timestamp_ns,
                      (unsigned long)next);
            next = m[i].first_nic_timestamp_ns + 1;
        }
        if (n > 0) {
            good += (uint64_t)n;
            stale += sluice_inbox_release(observer, (uint32_t)n) == -ESTALE;
        }
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    cr_expect_gt(good, 1000u, "%lu good, %lu stale", (unsigned long)good, (unsigned long)stale);
    cr_expect_gt(stale, 10u);
}

/* ---- heads of the outboxes ---- */

static const struct {
    const char *what;
    uint64_t slot_head, byte_head;
} head_lies[] = {
    {"a message that was not sent", 65, 0},  {"a byte that was not sent", 64, 65537},
    {"messages backwards", UINT64_MAX, 0},   {"bytes backwards", 0, UINT64_MAX},
    {"half of all messages", 1ull << 63, 0}, {"half of all bytes", 1, 1ull << 63},
    {"all ones", UINT64_MAX, UINT64_MAX},
};

Test(hostile_engine, heads_of_an_outbox_that_lie_are_refused)
{
    void *room;
    struct ring_heads *heads = &ch->shared->writers[up->index].outbox;
    for (int i = 0; i < 64; i++) {
        cr_assert_eq(sluice_outbox_claim(up, 1024, &room), 0);
        sluice_outbox_commit(up, 1, SLUICE_MESSAGE_DATA);
    }
    cr_assert_eq(sluice_outbox_claim(up, 1, &room), -EAGAIN);
    for (size_t i = 0; i < sizeof(head_lies) / sizeof(head_lies[0]); i++) {
        atomic_store(&heads->slot_head, head_lies[i].slot_head);
        atomic_store(&heads->byte_head, head_lies[i].byte_head);
        /* it does not sleep over it */
        cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_OUTBOX, 0), SLUICE_WAIT_OUTBOX);
        cr_expect_eq(sluice_outbox_claim(up, 1, &room), -EBADMSG, "%s", head_lies[i].what);
    }
    atomic_store(&heads->slot_head, 1);
    atomic_store(&heads->byte_head, 1024);
    cr_expect_eq(sluice_outbox_claim(up, 1, &room), 0);
}

Test(hostile_engine, heads_of_pongs_that_lie_are_refused)
{
    void *room;
    struct ring_heads *heads = &ch->shared->writers[up->index].pongs;
    for (int i = 0; i < 16; i++) {
        cr_assert_eq(sluice_pong_claim(up, 256, &room), 0);
        sluice_pong_commit(up, 1);
    }
    for (size_t i = 0; i < sizeof(head_lies) / sizeof(head_lies[0]); i++) {
        atomic_store(&heads->slot_head, head_lies[i].slot_head);
        atomic_store(&heads->byte_head, head_lies[i].byte_head);
        cr_expect_eq(sluice_pong_claim(up, 1, &room), -EBADMSG, "%s", head_lies[i].what);
    }
}
