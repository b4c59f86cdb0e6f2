/*
 * MSG_OUTBOX and PONGS between a client and an engine, on one thread. Which message leaves when is
 * test_tx.c's.
 */
#include "base/clock.h"
#include "rings/client.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

static struct sluice_channel *ch;
static struct sluice_client *up;

static void set_up(void)
{
    const struct sluice_channel_config cfg = {
        .outbox_bytes = 65536, .outbox_slots = 64, .pongs_slots = 16};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
}

static void tear_down(void)
{
    sluice_detach(up);
    sluice_channel_destroy(ch);
}

TestSuite(outbox, .init = set_up, .fini = tear_down);

static struct sluice_outbox *box(void)
{
    return &ch->writers[ch->upstream].outbox;
}

static int put(size_t bytes, uint8_t mark)
{
    void *room;
    int err = sluice_outbox_claim(up, bytes, &room);
    if (err)
        return err;
    memset(room, mark, bytes);
    sluice_outbox_commit(up, 1, SLUICE_MESSAGE_DATA);
    return 0;
}

static void take(size_t bytes, uint8_t mark)
{
    struct sluice_message m;
    cr_assert_gt(sluice_outbox_refresh(box()), 0);
    cr_assert_eq(sluice_outbox_slot(box(), 0, 0, &m), 0);
    cr_assert_eq(m.bytes, bytes);
    const uint8_t *at = box()->base + (box()->byte_head & (box()->byte_count - 1));
    for (size_t i = 0; i < bytes; i++)
        cr_assert_eq(at[i], mark);
    sluice_outbox_consume(box(), bytes, 1);
}

Test(outbox, messages_come_out_whole_and_in_order_over_many_wraps)
{
    for (uint32_t i = 0; i < 2000; i++) {
        cr_assert_eq(put(1 + i * 37 % 30000, (uint8_t)i), 0);
        take(1 + i * 37 % 30000, (uint8_t)i);
    }
}

Test(outbox, full_of_bytes_is_told_and_changes_nothing)
{
    void *room;
    cr_assert_eq(put(32768, 1), 0);
    cr_assert_eq(put(32768, 2), 0);
    cr_expect_eq(sluice_outbox_claim(up, 1, &room), -EAGAIN);
    cr_expect_eq(sluice_outbox_claim(up, 1, &room), -EAGAIN);
    take(32768, 1);
    cr_assert_eq(put(32768, 3), 0);
    take(32768, 2);
    take(32768, 3);
}

Test(outbox, full_of_slots_is_told_too)
{
    uint64_t messages, bytes;
    for (int i = 0; i < 64; i++)
        cr_assert_eq(put(1, (uint8_t)i), 0);
    cr_expect_eq(put(1, 0), -EAGAIN);
    sluice_outbox_depth(up, &messages, &bytes);
    cr_expect_eq(messages, 64u);
    cr_expect_eq(bytes, 64u);
    cr_expect_eq(sluice_outbox_refresh(box()), 64);
    take(1, 0);
    cr_expect_eq(put(1, 64), 0);
}

Test(outbox, what_the_engine_takes_up_is_stamped)
{
    struct sluice_outbox_stamp stamp;
    uint64_t before = sluice_cycles();
    cr_expect_eq(sluice_outbox_stamped(up, &stamp), -EAGAIN);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(put(1, (uint8_t)i), 0);
    uint64_t between = sluice_cycles();
    cr_expect_eq(sluice_outbox_stamped(up, &stamp), -EAGAIN);
    cr_assert_eq(sluice_outbox_refresh(box()), 3);
    sluice_outbox_take_up(box(), 2);
    cr_assert_eq(sluice_outbox_stamped(up, &stamp), 0);
    cr_expect_eq(stamp.messages, 2u);
    cr_expect(before <= stamp.commit_cycle && stamp.commit_cycle <= between);
    cr_expect(between <= stamp.taken_cycle && stamp.taken_cycle <= sluice_cycles());
    take(1, 0);
    take(1, 1);
    sluice_outbox_take_up(box(), 1);
    cr_assert_eq(sluice_outbox_stamped(up, &stamp), 0);
    cr_expect_eq(stamp.messages, 3u);
    take(1, 2);
    for (int i = 0; i < 64; i++)
        cr_assert_eq(put(1, (uint8_t)i), 0);
    cr_expect_eq(sluice_outbox_stamped(up, &stamp), -EAGAIN, "its slot has another one's time");
}

Test(outbox, the_limit_is_half_the_ring)
{
    void *room;
    cr_expect_eq(sluice_outbox_limit(up), 32768u);
    cr_expect_eq(sluice_outbox_claim(up, 32769, &room), -EMSGSIZE);
    cr_expect_eq(put(32768, 9), 0);
}

/* Bytes of the message and of the one behind the end of the ring: one pointer each. */
Test(outbox, a_message_across_the_end_is_contiguous)
{
    void *room;
    cr_assert_eq(put(32768, 1), 0);
    cr_assert_eq(put(20000, 2), 0);
    take(32768, 1);
    take(20000, 2);
    cr_assert_eq(sluice_outbox_claim(up, 30000, &room), 0);
    for (uint32_t i = 0; i < 30000; i++)
        ((uint8_t *)room)[i] = served_byte(i);
    sluice_outbox_commit(up, 1, SLUICE_MESSAGE_DATA);
    cr_assert_eq(sluice_outbox_refresh(box()), 1);
    const uint8_t *at = box()->base + (box()->byte_head & (box()->byte_count - 1));
    for (uint32_t i = 0; i < 30000; i++)
        cr_assert_eq(at[i], served_byte(i));
}

/* No headers between messages: the lengths of a run add up to the bytes of its span. */
Test(outbox, lengths_add_up_to_the_span)
{
    uint64_t sum = 0;
    for (uint32_t round = 0; round < 300; round++) {
        uint64_t offset = 0;
        uint32_t n = 1 + round % 20;
        for (uint32_t i = 0; i < n; i++)
            cr_assert_eq(put(1 + (round * 31 + i * 17) % 3000, (uint8_t)i), 0);
        cr_assert_eq(sluice_outbox_refresh(box()), n);
        for (uint32_t i = 0; i < n; i++) {
            struct sluice_message m;
            cr_assert_eq(sluice_outbox_slot(box(), i, offset, &m), 0);
            cr_assert_eq(m.bytes, 1 + (round * 31 + i * 17) % 3000);
            const uint8_t *at = box()->base + (box()->byte_head & 65535) + offset;
            cr_assert_eq(at[0], i);
            cr_assert_eq(at[m.bytes - 1], i);
            offset += m.bytes;
        }
        cr_assert_eq(offset, box()->byte_tail - box()->byte_head);
        sluice_outbox_consume(box(), offset, n);
        sum += offset;
    }
    cr_expect_eq(box()->byte_head, sum);
    cr_expect_gt(sum, 65536u * 4);
}

Test(outbox, refused_claims_change_nothing)
{
    void *room, *again;
    cr_assert_eq(put(32768, 1), 0);
    cr_assert_eq(put(30000, 2), 0);
    uint64_t tail = up->outbox.byte_tail, slots = up->outbox.slot_tail;
    for (int i = 0; i < 10; i++)
        cr_assert_eq(sluice_outbox_claim(up, 3000, &room), -EAGAIN);
    cr_expect_eq(sluice_outbox_claim(up, 65537, &room), -EMSGSIZE);
    cr_expect_eq(up->outbox.byte_tail, tail);
    cr_expect_eq(up->outbox.slot_tail, slots);
    cr_assert_eq(sluice_outbox_claim(up, 2768, &room), 0); /* what is left fits to the byte */
    sluice_outbox_abort(up);
    cr_assert_eq(sluice_outbox_claim(up, 2768, &again), 0);
    cr_expect_eq(again, room);
}

Test(outbox, two_claims_at_once_are_our_bug, .signal = SIGABRT)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(up, 1, &room), 0);
    sluice_outbox_claim(up, 1, &room);
}

Test(outbox, a_commit_without_a_claim_is_our_bug, .signal = SIGABRT)
{
    sluice_outbox_commit(up, 0, SLUICE_MESSAGE_DATA);
}

Test(outbox, held_messages_show_with_the_next_commit)
{
    void *room;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(sluice_outbox_claim(up, 4, &room), 0);
        memset(room, i, 4);
        sluice_outbox_hold(up, 1, SLUICE_MESSAGE_DATA);
    }
    cr_expect_eq(sluice_outbox_refresh(box()), 0);
    cr_assert_eq(put(4, 3), 0);
    cr_expect_eq(sluice_outbox_refresh(box()), 4);
    for (uint8_t i = 0; i < 4; i++)
        take(4, i);
}

Test(outbox, an_aborted_claim_leaves_no_trace)
{
    void *room;
    cr_assert_eq(sluice_outbox_claim(up, 100, &room), 0);
    memset(room, 0xee, 100);
    sluice_outbox_abort(up);
    cr_expect_eq(sluice_outbox_refresh(box()), 0);
    cr_assert_eq(put(50, 1), 0);
    take(50, 1);
}

Test(outbox, a_slot_says_what_its_message_is)
{
    void *room;
    struct sluice_message m;
    cr_assert_eq(sluice_outbox_claim(up, 0, &room), 0);
    sluice_outbox_commit(up, 70001, SLUICE_MESSAGE_WS_CLOSE);
    cr_assert_eq(sluice_outbox_refresh(box()), 1);
    cr_assert_eq(sluice_outbox_slot(box(), 0, 0, &m), 0);
    cr_expect_eq(m.bytes, 0u);
    cr_expect_eq(m.type, SLUICE_MESSAGE_WS_CLOSE);
    cr_expect_eq(m.connection, (uint16_t)70001);
    sluice_outbox_consume(box(), 0, 1);
    /* 0 stands for the connection of this moment */
    sluice_channel_set_connection(ch, 5);
    cr_assert_eq(sluice_outbox_claim(up, 1, &room), 0);
    sluice_outbox_commit(up, 0, SLUICE_MESSAGE_DATA);
    sluice_channel_set_connection(ch, 6);
    cr_assert_eq(sluice_outbox_refresh(box()), 1);
    cr_assert_eq(sluice_outbox_slot(box(), 0, 0, &m), 0);
    cr_expect_eq(m.connection, 5u);
}

Test(outbox, depth_counts_what_the_engine_has_not_taken)
{
    uint64_t messages, bytes;
    cr_assert_eq(put(10, 1), 0);
    cr_assert_eq(put(20, 2), 0);
    sluice_outbox_depth(up, &messages, &bytes);
    cr_expect_eq(messages, 2u);
    cr_expect_eq(bytes, 30u);
    take(10, 1);
    sluice_outbox_depth(up, &messages, &bytes);
    cr_expect_eq(messages, 1u);
    cr_expect_eq(bytes, 20u);
}

/* A masked PONG of 125 bytes is a frame of 131. */
Test(outbox, pongs_hold_the_longest_frame)
{
    void *room;
    struct sluice_outbox *pongs = &ch->writers[ch->upstream].pongs;
    cr_expect_geq(sluice_pong_limit(up), 131u);
    for (int i = 0; i < 16; i++) {
        cr_assert_eq(sluice_pong_claim(up, 131, &room), 0);
        memset(room, i, 131);
        sluice_pong_commit(up, 1);
    }
    cr_expect_eq(sluice_pong_claim(up, 131, &room), -EAGAIN);
    cr_expect_eq(sluice_pong_claim(up, sluice_pong_limit(up) + 1, &room), -EMSGSIZE);
    cr_expect_eq(sluice_outbox_refresh(pongs), 16);
    cr_expect_eq(pongs->base[15 * 131], 15);
}

/* 256 bytes a slot: sixteen of the longest fill bytes and slots at once. */
Test(outbox, as_many_of_the_longest_pongs_as_slots)
{
    void *room;
    struct sluice_outbox *pongs = &ch->writers[ch->upstream].pongs;
    cr_assert_eq(sluice_pong_limit(up), 256u);
    for (int lap = 0; lap < 3; lap++) {
        for (int i = 0; i < 16; i++) {
            cr_assert_eq(sluice_pong_claim(up, 256, &room), 0);
            memset(room, i, 256);
            sluice_pong_commit(up, 1);
        }
        cr_assert_eq(sluice_pong_claim(up, 1, &room), -EAGAIN);
        cr_assert_eq(sluice_outbox_refresh(pongs), 16);
        for (uint32_t i = 0; i < 16; i++) {
            struct sluice_message m;
            cr_assert_eq(sluice_outbox_slot(pongs, i, 256 * i, &m), 0, "slot %u", i);
            cr_assert_eq(m.bytes, 256u);
        }
        sluice_outbox_consume(pongs, 16 * 256, 16);
    }
    cr_assert_eq(sluice_pong_claim(up, 256, &room), 0);
    sluice_pong_abort(up);
    cr_expect_eq(sluice_outbox_refresh(pongs), 0);
    cr_expect_eq(sluice_outbox_refresh(box()), 0); /* another ring */
}

Test(outbox, each_writer_has_its_own)
{
    struct sluice_client *producer;
    void *room;
    cr_assert_eq(sluice_attach_local(&producer, ch, SLUICE_PRODUCER), 0);
    cr_assert_eq(sluice_outbox_claim(producer, 3, &room), 0);
    memset(room, 'p', 3);
    cr_assert_eq(put(2, 'u'), 0); /* while the other's claim is open */
    sluice_outbox_commit(producer, 1, SLUICE_MESSAGE_DATA);
    struct sluice_outbox *theirs = &ch->writers[producer->index].outbox;
    cr_assert_neq(theirs, box());
    cr_expect_eq(sluice_outbox_refresh(theirs), 1);
    cr_expect_eq(theirs->base[0], 'p');
    take(2, 'u');
    sluice_detach(producer);
}

Test(outbox, only_the_roles_that_have_one_may_write)
{
    void *room;
    struct sluice_client *producer, *observer;
    cr_assert_eq(sluice_attach_local(&producer, ch, SLUICE_PRODUCER), 0);
    cr_assert_eq(sluice_attach_local(&observer, ch, SLUICE_OBSERVER), 0);
    cr_expect_eq(sluice_outbox_claim(producer, 1, &room), 0);
    cr_expect_eq(sluice_pong_claim(producer, 1, &room), -EPERM);
    cr_expect_eq(sluice_outbox_claim(observer, 1, &room), -EPERM);
    cr_expect_eq(sluice_client_request_close(producer), -EPERM);
    sluice_detach(producer);
    sluice_detach(observer);
}
