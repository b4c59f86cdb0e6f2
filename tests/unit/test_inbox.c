/*
 * MSG_INBOX and MSG_METADATA between one engine and its clients, on one thread. Attaching is
 * test_attach.c's, lies are test_hostile.c's.
 */
#include "rings/client.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

static struct sluice_channel *ch;
static struct sluice_client *up, *observer;

static void set_up(void)
{
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536, .metadata_entries = 64};
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

TestSuite(inbox, .init = set_up, .fini = tear_down);

static void expect_bytes(const struct sluice_client *c, uint64_t from, uint64_t count)
{
    const uint8_t *bytes = sluice_inbox_at(c, from);
    for (uint64_t i = 0; i < count; i++)
        cr_assert_eq(bytes[i], served_byte(from + i));
}

Test(inbox, entries_follow_each_other_over_many_laps)
{
    uint64_t next = 0;
    for (uint32_t round = 0; round < 1000; round++) {
        const struct sluice_meta *m;
        uint32_t n = 1 + round % 50;
        for (uint32_t i = 0; i < n; i++)
            serve_bytes(ch, 1 + (round * 7 + i * 13) % 1000);
        cr_assert_eq(sluice_inbox_peek(up, &m, 64), n);
        for (uint32_t i = 0; i < n; i++) {
            cr_assert_eq(m[i].msg_inbox_offset, next);
            expect_bytes(up, next, m[i].decrypted_len);
            next += m[i].decrypted_len;
        }
        cr_assert_eq(sluice_inbox_release(up, n), 0);
        cr_assert_eq(sluice_inbox_peek(up, &m, 64), 0);
        sluice_inbox_limit(ch);
    }
    cr_assert_eq(sluice_inbox_position(up), next);
}

Test(inbox, row_20_full_metadata_merges_and_loses_nothing)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 200; i++)
        serve_bytes(ch, 10);
    cr_assert(ch->inbox.has_pending);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 64 - META_RESERVE);
    cr_assert_eq(sluice_inbox_release(up, 1), 0);
    cr_assert(sluice_inbox_flush_pending(ch));
    int64_t n = sluice_inbox_peek(up, &m, 64);
    cr_assert_eq(n, 64 - META_RESERVE);
    cr_expect_eq(m[n - 1].decrypted_len, (200 - (64 - META_RESERVE)) * 10);
    cr_expect_eq(m[n - 1].first_nic_frame_poll_cycle, 1u);
    cr_expect_eq(m[n - 1].latest_nic_frame_poll_cycle, 2u);
    expect_bytes(up, m[n - 1].msg_inbox_offset, m[n - 1].decrypted_len);
    cr_assert_eq(sluice_inbox_release(up, (uint32_t)n), 0);
    cr_expect_eq(sluice_inbox_position(up), 2000u);
}

Test(inbox, row_21_without_an_upstream_it_is_kept_or_given_up_and_counted)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 100);
    sluice_detach(up);
    up = NULL;
    while (ch->upstream >= 0)
        cr_assert_eq(serve_once(ch, 1000), 1);
    cr_expect_eq(sluice_inbox_limit(ch), ch->inbox.bytes, "kept");
    ch->inbox.discards = true;
    serve_bytes(ch, 50);
    cr_expect_eq(sluice_inbox_limit(ch), 150 + ch->inbox.bytes, "given up: all of it is room");
    serve_bytes(ch, 30);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    cr_expect_eq(sluice_inbox_peek(up, &m, 64), 0, "what nobody was there to read");
    cr_expect_eq(sluice_inbox_position(up), 180u);
    serve_bytes(ch, 20);
    cr_expect_eq(sluice_inbox_limit(ch), 180 + ch->inbox.bytes, "it is here: its pace counts");
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
    cr_expect_eq(m[0].msg_inbox_offset, 180u);
    expect_bytes(up, 180, 20);
    struct sluice_state s;
    sluice_channel_state(ch, &s);
    cr_expect_eq(s.counters[SLUICE_COUNTER_discarded_bytes], 180u);
}

/* An upstream looks at the phase bit alone: one turned too early or too late would show entries of
 * the lap before, or none. */
Test(inbox, the_phase_turns_with_every_lap)
{
    const struct sluice_meta *m;
    for (uint64_t n = 0; n < 5 * 64; n++) {
        cr_assert_eq(sluice_inbox_peek(up, &m, 64), 0, "before entry %lu", (unsigned long)n);
        serve_bytes(ch, 1);
        cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
        cr_assert_eq(m[0].flags & SLUICE_META_PHASE, n / 64 % 2 ? 0 : SLUICE_META_PHASE);
        cr_assert_eq(sluice_inbox_release(up, 1), 0);
    }
}

Test(inbox, a_merged_entry_has_the_first_and_the_latest_stamps)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 64 - (int)META_RESERVE; i++)
        serve_bytes(ch, 1);
    for (uint64_t i = 1; i <= 3; i++) {
        const struct sluice_meta stamps = {.first_nic_timestamp_ns = 100 * i,
                                           .first_nic_frame_poll_cycle = 200 * i,
                                           .latest_nic_timestamp_ns = 300 * i,
                                           .latest_nic_frame_poll_cycle = 400 * i,
                                           .latest_raw_frame_poll_cycle = 500 * i,
                                           .ssl_read_cycle = 600 * i,
                                           .flags = i == 2 ? SLUICE_META_RECORD_END : 0,
                                           .nic_packet_ct = i == 3 ? 0xffff : 2};
        sluice_inbox_arrived(ch, &stamps, 10);
    }
    cr_assert_eq(ch->inbox.pending.decrypted_len, 30);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 64 - META_RESERVE);
    cr_assert_eq(sluice_inbox_release(up, 64 - META_RESERVE), 0);
    cr_assert(sluice_inbox_flush_pending(ch));
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
    cr_expect_eq(m->first_nic_timestamp_ns, 100u);
    cr_expect_eq(m->first_nic_frame_poll_cycle, 200u);
    cr_expect_eq(m->latest_nic_timestamp_ns, 900u);
    cr_expect_eq(m->latest_nic_frame_poll_cycle, 1200u);
    cr_expect_eq(m->latest_raw_frame_poll_cycle, 1500u);
    cr_expect_eq(m->ssl_read_cycle, 1800u);
    cr_expect_eq(m->nic_packet_ct, 0xffffu);          /* it does not wrap */
    cr_expect_not(m->flags & SLUICE_META_RECORD_END); /* the last bytes end none */
    cr_expect_eq(ch->shared->counters[SLUICE_COUNTER_merged_receives], 2u);
    cr_expect_eq(ch->shared->counters[SLUICE_COUNTER_metadata_full_stalls], 1u);
}

Test(inbox, control_events_stand_in_order_with_the_bytes)
{
    static const uint8_t want[] = {
        SLUICE_EVENT_CONNECTED,    SLUICE_EVENT_DATA,      SLUICE_EVENT_DATA, SLUICE_EVENT_EOF,
        SLUICE_EVENT_DISCONNECTED, SLUICE_EVENT_CONNECTED, SLUICE_EVENT_DATA};
    static const uint64_t offsets[] = {0, 0, 5, 11, 11, 11, 11};
    const struct sluice_meta *m;
    serve_control(ch, SLUICE_EVENT_CONNECTED);
    serve_bytes(ch, 5);
    serve_bytes(ch, 6);
    serve_control(ch, SLUICE_EVENT_EOF);
    serve_control(ch, SLUICE_EVENT_DISCONNECTED);
    serve_control(ch, SLUICE_EVENT_CONNECTED);
    serve_bytes(ch, 7);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 7);
    for (int i = 0; i < 7; i++) {
        cr_expect_eq(m[i].event, want[i]);
        cr_expect_eq(m[i].msg_inbox_offset, offsets[i]);
        cr_expect_eq(m[i].connection, want[i] == SLUICE_EVENT_DATA ? 0u : 1u);
    }
    cr_expect_eq(m[4].decrypted_len, 0u);
}

Test(inbox, the_end_of_a_connection_always_fits)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 200; i++)
        serve_bytes(ch, 10);
    serve_control(ch, SLUICE_EVENT_EOF);
    serve_control(ch, SLUICE_EVENT_DISCONNECTED);
    cr_expect_not(sluice_inbox_has_room_to_open(ch));
    int64_t n = sluice_inbox_peek(up, &m, 64);
    cr_assert_eq(n, 64 - META_RESERVE + 3);
    cr_expect_eq(m[n - 3].event, SLUICE_EVENT_DATA);
    cr_expect_eq(m[n - 2].event, SLUICE_EVENT_EOF);
    cr_expect_eq(m[n - 1].event, SLUICE_EVENT_DISCONNECTED);
    cr_expect_eq(m[n - 1].msg_inbox_offset, 2000u);
    cr_assert_eq(sluice_inbox_release(up, (uint32_t)n), 0);
    cr_expect(sluice_inbox_has_room_to_open(ch));
}

/* A connection that opens needs room for its CONNECTED and the reserve for its end. */
Test(inbox, one_opens_only_where_its_end_will_fit)
{
    for (int i = 0; i < 64 - (int)META_RESERVE - 1; i++)
        serve_bytes(ch, 1);
    cr_assert(sluice_inbox_has_room_to_open(ch));
    serve_control(ch, SLUICE_EVENT_CONNECTED);
    cr_expect_not(sluice_inbox_has_room_to_open(ch));
    for (int i = 0; i < 100; i++)
        serve_bytes(ch, 1);
    serve_control(ch, SLUICE_EVENT_EOF);
    serve_control(ch, SLUICE_EVENT_DISCONNECTED);
    cr_expect_lt(ch->inbox.meta_tail - ch->inbox.meta_head, 64u);
}

Test(inbox, one_more_than_fits_is_our_bug, .signal = SIGABRT)
{
    for (int i = 0; i < 65; i++)
        serve_control(ch, SLUICE_EVENT_EOF);
}

Test(inbox, row_19_a_full_inbox_leaves_no_room)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 65536);
    cr_expect_eq(sluice_inbox_limit(ch), ch->inbox.tail);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
    expect_bytes(up, 0, 65536);
    cr_expect_eq(sluice_inbox_limit(ch), ch->inbox.tail); /* peeked at is not released */
    cr_assert_eq(sluice_inbox_release(up, 1), 0);
    cr_expect_eq(sluice_inbox_limit(ch), ch->inbox.tail + 65536);
    cr_expect_eq(ch->shared->counters[SLUICE_COUNTER_inbox_high_water_bytes], 65536u);
}

/* The second mapping: a span across the end is one pointer and a length. */
Test(inbox, bytes_across_the_end_are_contiguous)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 65000);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
    cr_assert_eq(sluice_inbox_release(up, 1), 0);
    sluice_inbox_limit(ch);
    serve_bytes(ch, 60000);
    const uint8_t *at = sluice_inbox_at(up, 65000);
    for (uint64_t i = 0; i < 60000; i++)
        cr_assert_eq(at[i], served_byte(65000 + i));
}

Test(inbox, kept_bytes_bound_what_the_engine_may_lend)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 1000);
    serve_bytes(ch, 1000);
    cr_assert_eq(sluice_inbox_limit(ch), 65536u);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 2);
    cr_assert_eq(sluice_inbox_release_to(up, 2, 300), 0);
    cr_expect_eq(sluice_inbox_limit(ch), 65536u + 300);
    cr_expect_eq(sluice_inbox_position(up), 300u);
    expect_bytes(up, 300, 1700);
    cr_expect_eq(sluice_inbox_release_to(up, 0, 2001), -EINVAL); /* beyond what was seen */
    cr_expect_eq(sluice_inbox_release_to(up, 0, 299), -EINVAL);  /* backwards */
    cr_expect_eq(sluice_inbox_release(up, 1), -EINVAL);          /* none peeked at */
    cr_expect_eq(sluice_inbox_release_to(up, 1, 2000), -EINVAL); /* the same */
    cr_assert_eq(sluice_inbox_release_to(up, 0, 2000), 0);
    cr_expect_eq(sluice_inbox_limit(ch), 65536u + 2000);
}

/* Killed between the two stores of sluice_inbox_release(), when that was all there was and the
 * inbox full: there is no entry whose release would give the bytes back. */
Test(inbox, an_upstream_that_died_while_it_released_all_leaves_room)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 65000);
    serve_bytes(ch, 536);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 2);
    atomic_store(&up->mine->meta_head, 2);
    sluice_detach(up);
    up = NULL;
    cr_assert_gt(serve_once(ch, 1000), 0);
    cr_expect_eq(ch->inbox.tail, 65536u);
    cr_expect_eq(sluice_inbox_limit(ch), 2 * 65536u);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    serve_bytes(ch, 65536);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
    cr_expect_eq(m[0].msg_inbox_offset, 65536u);
}

/* Not when there is room for more: what it kept may be half of a message. */
Test(inbox, bytes_that_were_kept_wait_for_the_next_upstream)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 65535);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 1);
    cr_assert_eq(sluice_inbox_release_to(up, 1, 0), 0);
    sluice_detach(up);
    up = NULL;
    cr_assert_gt(serve_once(ch, 1000), 0);
    cr_expect_eq(sluice_inbox_limit(ch), 65536u);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    cr_expect_eq(sluice_inbox_position(up), 0u);
    expect_bytes(up, 0, 65535);
}

Test(inbox, some_of_many_can_be_released)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 10; i++)
        serve_bytes(ch, 100);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 10);
    cr_assert_eq(sluice_inbox_release(up, 3), 0);
    cr_expect_eq(sluice_inbox_position(up), 300u);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 7);
    cr_expect_eq(m[0].msg_inbox_offset, 300u);
}

Test(inbox, row_75_an_observer_sees_the_same_and_gates_nothing)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 500);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), 1);
    cr_expect_eq(m[0].decrypted_len, 500u);
    expect_bytes(observer, 0, 500);
    cr_expect_eq(sluice_inbox_release(observer, 1), 0);
    cr_expect_eq(sluice_inbox_release_to(observer, 0, 0), -EPERM);
    struct sluice_outbox_stamp stamp;
    cr_expect_eq(sluice_outbox_stamped(observer, &stamp), -EPERM);
    cr_expect_eq(sluice_inbox_limit(ch), 65536u); /* the upstream released nothing */
}

static void upstream_takes_all(void)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(up, &m, 64);
    cr_assert_geq(n, 0);
    cr_assert_eq(sluice_inbox_release(up, (uint32_t)n), 0);
}

Test(inbox, an_observer_is_told_when_entries_lapped_it)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 100; i++) {
        serve_bytes(ch, 1);
        upstream_takes_all();
        sluice_channel_flush(ch);
    }
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), -ESTALE);
    serve_bytes(ch, 7);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), 1); /* on at the newest */
    cr_expect_eq(m[0].decrypted_len, 7u);
}

Test(inbox, an_observer_is_told_when_bytes_were_lent_under_it)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 30000);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), 1);
    upstream_takes_all();
    sluice_inbox_lend(ch, 65536 + 1); /* the first byte may be overwritten from now on */
    cr_expect_eq(sluice_inbox_release(observer, 1), -ESTALE);
}

Test(inbox, an_observer_is_told_at_the_first_byte_that_may_be_gone)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 30000);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), 1);
    upstream_takes_all();
    sluice_inbox_lend(ch, 65536);
    cr_expect_eq(sluice_inbox_release(observer, 1), 0);
}

Test(inbox, an_observer_takes_many_in_steps)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 10; i++)
        serve_bytes(ch, 100);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), 10);
    cr_assert_eq(sluice_inbox_release(observer, 3), 0);
    cr_expect_eq(sluice_inbox_position(observer), 300u);
    cr_assert_eq(sluice_inbox_release(observer, 4), 0);
    cr_expect_eq(sluice_inbox_position(observer), 700u);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 2), 2);
    cr_expect_eq(m[0].msg_inbox_offset, 700u);
    cr_expect_eq(sluice_inbox_release(observer, 3), -EINVAL);
}

Test(inbox, releasing_none_moves_nothing)
{
    const struct sluice_meta *m;
    for (int i = 0; i < 4; i++)
        serve_bytes(ch, 100);
    sluice_channel_flush(ch);
    cr_assert_eq(sluice_inbox_peek(observer, &m, 64), 4);
    cr_assert_eq(sluice_inbox_release(observer, 2), 0);
    cr_assert_eq(sluice_inbox_release(observer, 0), 0);
    cr_expect_eq(sluice_inbox_position(observer), 200u);
    cr_assert_eq(sluice_inbox_peek(up, &m, 64), 4);
    cr_assert_eq(sluice_inbox_release(up, 2), 0);
    cr_assert_eq(sluice_inbox_release(up, 0), 0);
    cr_expect_eq(sluice_inbox_position(up), 200u);
}

Test(inbox, a_producer_has_none)
{
    struct sluice_client *producer;
    const struct sluice_meta *m;
    cr_assert_eq(sluice_attach_local(&producer, ch, SLUICE_PRODUCER), 0);
    cr_expect_eq(sluice_inbox_peek(producer, &m, 1), -EPERM);
    sluice_detach(producer);
}
