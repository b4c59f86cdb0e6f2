/*
 * One entry into MSG_METADATA, in line: its six stamps go from the caller's registers to the slot.
 * Every store to another line than the slot's (a copy of the stamps on the stack, a counter) makes
 * the slot's own stores wait longer for a line that the upstream's core still has: seen, 37 ns an
 * entry instead of 20.
 */
#ifndef SLUICE_RINGS_ENTRY_H
#define SLUICE_RINGS_ENTRY_H

#include "base/check.h"
#include "rings/engine.h"

static inline void sluice_entry_lend(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    if (in->meta_tail < in->meta_lent)
        return;
    in->meta_lent = in->meta_tail + in->entries / 8;
    atomic_store_explicit(&ch->shared->meta_lent, in->meta_lent, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

/* The word stored last: length, event, flags, packets. */
static inline uint64_t sluice_entry_last_word(const struct sluice_meta *entry, uint32_t bytes,
                                              unsigned event, unsigned phase)
{
    unsigned flags = (entry->flags & ~SLUICE_META_PHASE) | phase;
    return bytes | (uint64_t)event << 32 | (uint64_t)flags << 40 |
           (uint64_t)entry->nic_packet_ct << 48;
}

static inline void sluice_entry_put(shared_u64 *to, uint64_t word)
{
    atomic_store_explicit(to, word, memory_order_relaxed);
}

/* There is room. Words, so that an observer may copy an entry while it is overwritten and notice
 * afterwards. */
static inline void sluice_entry_publish(struct sluice_channel *ch, const struct sluice_meta *entry,
                                        uint64_t offset, uint32_t bytes, unsigned event)
{
    struct sluice_inbox *in = &ch->inbox;
    sluice_entry_lend(ch);
    uint64_t n = in->meta_tail;
    /* entries is a power of two: this bit of the position flips every lap */
    unsigned phase = n & in->entries ? 0 : SLUICE_META_PHASE;
    shared_u64 *slot = (shared_u64 *)(void *)&in->meta[n & (in->entries - 1)];
    sluice_entry_put(&slot[0], entry->first_nic_timestamp_ns);
    sluice_entry_put(&slot[1], entry->first_nic_frame_poll_cycle);
    sluice_entry_put(&slot[2], entry->latest_nic_timestamp_ns);
    sluice_entry_put(&slot[3], entry->latest_nic_frame_poll_cycle);
    sluice_entry_put(&slot[4], entry->latest_raw_frame_poll_cycle);
    sluice_entry_put(&slot[5], entry->ssl_read_cycle);
    sluice_entry_put(&slot[6], offset);
    /* pairs with the acquire in client.c: whoever sees the phase sees the entry and its bytes */
    atomic_store_explicit(&slot[7], sluice_entry_last_word(entry, bytes, event, phase),
                          memory_order_release);
    in->meta_tail = n + 1;
}

/* bytes more lie behind inbox.tail. stamps: the six time fields, packet count and flags; merged
 * into an entry that could not be published yet, else published at once. */
static inline void sluice_inbox_arrived(struct sluice_channel *ch, const struct sluice_meta *stamps,
                                        uint32_t bytes)
{
    struct sluice_inbox *in = &ch->inbox;
    SLUICE_CHECK(in->tail + bytes - in->head <= in->bytes);
    if (in->has_pending || in->meta_tail - in->meta_head + META_RESERVE >= in->entries) {
        struct sluice_meta kept = *stamps; /* so that the usual way needs no copy in memory */
        sluice_inbox_arrived_when_full(ch, &kept, bytes);
        return;
    }
    sluice_entry_publish(ch, stamps, in->tail, bytes, SLUICE_EVENT_DATA);
    in->tail += bytes;
}

#endif
