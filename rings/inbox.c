/*
 * MSG_INBOX and MSG_METADATA, the engine's end: lend, publish, merge when full, control events.
 * Reading them is client.c's.
 */
#include "rings/entry.h"

#include <errno.h>
#include <string.h>

void sluice_inbox_discard(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    if (!in->discards || ch->upstream >= 0)
        return;
    uint64_t end = sluice_inbox_published(in);
    sluice_count(ch, SLUICE_COUNTER_discarded_bytes, end - in->head);
    in->head = end;
    in->meta_head = in->meta_tail;
}

/* The upstream's heads are hostile: they may only move forward, and not past what was published. */
bool sluice_inbox_refresh(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    if (ch->upstream < 0)
        sluice_inbox_discard(ch);
    if (ch->upstream < 0 || in->lied)
        return !in->lied;
    struct sluice_writer *w = &ch->writers[ch->upstream];
    /* acquire: pairs with the release in client.c; the upstream has finished reading below them */
    uint64_t meta_head = atomic_load_explicit(&w->shared->meta_head, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&w->shared->inbox_head, memory_order_acquire);
    uint64_t published = sluice_inbox_published(in);
    if (meta_head - in->meta_head > in->meta_tail - in->meta_head ||
        head - in->head > published - in->head) {
        in->lied = true;
        if (!in->away)
            sluice_channel_throw_out(ch, w);
        return false;
    }
    in->meta_head = meta_head;
    in->head = head;
    return true;
}

static uint64_t start_of_oldest(const struct sluice_inbox *in)
{
    if (in->meta_head != in->meta_tail)
        return in->meta[in->meta_head & (in->entries - 1)].msg_inbox_offset;
    return sluice_inbox_published(in);
}

/* Bytes that were given back under an entry may be overwritten: it is not shown to the next one.
 * And bytes that were kept behind their entries are given back when nothing else fits beside them:
 * nothing would ever come that the next one could release. */
void sluice_inbox_settle(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    while (in->head > start_of_oldest(in))
        in->meta_head++;
    if (start_of_oldest(in) == in->head + in->bytes)
        in->head += in->bytes;
}

/* Entries are released before their bytes, so one that was killed at any moment leaves heads that
 * fit each other. */
void sluice_inbox_upstream_left(struct sluice_channel *ch)
{
    struct sluice_writer *w = &ch->writers[ch->upstream];
    if (sluice_inbox_refresh(ch) && ch->inbox.head > start_of_oldest(&ch->inbox))
        sluice_channel_throw_out(ch, w);
    else
        sluice_inbox_settle(ch);
}

uint64_t sluice_inbox_limit(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    sluice_inbox_refresh(ch);
    sluice_count_max(ch, SLUICE_COUNTER_inbox_high_water_bytes, in->tail - in->head);
    return in->head + in->bytes;
}

void sluice_inbox_lend(struct sluice_channel *ch, uint64_t lent)
{
    struct sluice_inbox *in = &ch->inbox;
    if (lent <= in->lent)
        return;
    in->lent = lent;
    atomic_store_explicit(&ch->shared->inbox_lent, lent, memory_order_relaxed);
    /* pairs with the acquire fence of an observer's release: it that reads bytes written after this
     * also sees them lent */
    atomic_thread_fence(memory_order_release);
}

static bool has_room(struct sluice_channel *ch, uint64_t reserve)
{
    struct sluice_inbox *in = &ch->inbox;
    if (in->meta_tail - in->meta_head + reserve < in->entries)
        return true;
    sluice_inbox_refresh(ch);
    return in->meta_tail - in->meta_head + reserve < in->entries;
}

static void merge(struct sluice_channel *ch, const struct sluice_meta *stamps, uint32_t bytes)
{
    struct sluice_meta *p = &ch->inbox.pending;
    p->decrypted_len += bytes;
    p->latest_nic_timestamp_ns = stamps->latest_nic_timestamp_ns;
    p->latest_nic_frame_poll_cycle = stamps->latest_nic_frame_poll_cycle;
    p->latest_raw_frame_poll_cycle = stamps->latest_raw_frame_poll_cycle;
    p->ssl_read_cycle = stamps->ssl_read_cycle;
    p->flags = (uint8_t)((p->flags & ~SLUICE_META_RECORD_END) | stamps->flags);
    bool known = p->nic_packet_ct && stamps->nic_packet_ct;
    uint32_t packets = known ? (uint32_t)p->nic_packet_ct + stamps->nic_packet_ct : 0;
    p->nic_packet_ct = (uint16_t)(packets > UINT16_MAX ? UINT16_MAX : packets);
    sluice_count(ch, SLUICE_COUNTER_merged_receives, 1);
}

void sluice_inbox_arrived_when_full(struct sluice_channel *ch, const struct sluice_meta *stamps,
                                    uint32_t bytes)
{
    struct sluice_inbox *in = &ch->inbox;
    uint64_t offset = in->tail;
    in->tail += bytes;
    if (in->has_pending) {
        merge(ch, stamps, bytes);
        sluice_inbox_flush_pending(ch);
        return;
    }
    if (has_room(ch, META_RESERVE)) {
        sluice_entry_publish(ch, stamps, offset, bytes, SLUICE_EVENT_DATA);
        return;
    }
    sluice_count(ch, SLUICE_COUNTER_metadata_full_stalls, 1);
    in->pending = *stamps;
    in->pending.msg_inbox_offset = offset;
    in->pending.decrypted_len = bytes;
    in->has_pending = true;
}

static void publish_pending(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    in->has_pending = false;
    sluice_entry_publish(ch, &in->pending, in->pending.msg_inbox_offset, in->pending.decrypted_len,
                         SLUICE_EVENT_DATA);
}

bool sluice_inbox_flush_pending(struct sluice_channel *ch)
{
    if (!ch->inbox.has_pending)
        return true;
    if (!has_room(ch, META_RESERVE))
        return false;
    publish_pending(ch);
    return true;
}

void sluice_inbox_control(struct sluice_channel *ch, const struct sluice_meta *event)
{
    struct sluice_inbox *in = &ch->inbox;
    if (in->has_pending)
        publish_pending(ch);
    SLUICE_CHECK(in->meta_tail - in->meta_head < in->entries);
    sluice_entry_publish(ch, event, in->tail, 0, event->event);
    in->control_events++;
}

bool sluice_inbox_has_room_to_open(struct sluice_channel *ch)
{
    return !ch->inbox.has_pending && has_room(ch, META_RESERVE);
}

/* ---- another thread holds it ---- */

void sluice_inbox_flush(struct sluice_channel *ch)
{
    if (!sluice_inbox_has_news(&ch->inbox))
        return;
    ch->inbox.meta_flushed = ch->inbox.meta_tail;
    sluice_channel_publish_inbox(ch);
    atomic_thread_fence(memory_order_seq_cst); /* as in sluice_channel_flush() */
    if (ch->upstream >= 0)
        sluice_writer_ring(ch, &ch->writers[ch->upstream], SLUICE_WAIT_INBOX);
}

void sluice_inbox_show(struct sluice_channel *ch)
{
    sluice_inbox_limit(ch); /* looks at the upstream's heads, and how full it is */
    sluice_channel_publish_inbox(ch);
}

void sluice_inbox_sleep(struct sluice_channel *ch, bool wake_on_release)
{
    sluice_channel_change_asleep(ch, WAKE_ON_INBOX, wake_on_release ? WAKE_ON_INBOX : 0);
}

bool sluice_inbox_sleeps(const struct sluice_channel *ch)
{
    return atomic_load_explicit(&ch->shared->asleep, memory_order_relaxed) & WAKE_ON_INBOX;
}

void sluice_inbox_leave(struct sluice_channel *ch)
{
    SLUICE_CHECK(!ch->inbox.away);
    sluice_channel_flush(ch);
    ch->inbox.away = true;
}

void sluice_inbox_came_back(struct sluice_channel *ch)
{
    struct sluice_inbox *in = &ch->inbox;
    SLUICE_CHECK(in->away);
    in->away = in->wanted = false;
    if (ch->upstream >= 0 && (in->lied || ch->writers[ch->upstream].state == WRITER_CORRUPT))
        sluice_channel_throw_out(ch, &ch->writers[ch->upstream]);
    sluice_link_take_held(ch);
    sluice_link_end_silent(ch);
    ch->links_changed = true;
}
