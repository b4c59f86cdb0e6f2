/*
 * The rings, the clients' end: claim and commit, peek and release. Whatever the engine wrote is
 * checked before it is used. Attaching is attach.c's, sleeping wait.c's.
 */
#include "rings/client.h"
#include "rings/engine.h"
#include "base/check.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>

/* The client's half of rule 6: we published or released; fence; look whether the engine sleeps for
 * it. Its half is sluice_channel_sleep(). Each sleep is rung for once. */
void sluice_client_ring(struct sluice_client *c, unsigned wake_on)
{
    if (c->is_inline)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t asleep = atomic_load_explicit(&c->shared->asleep, memory_order_relaxed);
    if (!(asleep & wake_on) || asleep == c->rung)
        return;
    c->rung = asleep;
    sluice_doorbell_ring(c->bell_fd);
}

void sluice_client_is_inline(struct sluice_client *c)
{
    c->is_inline = true;
}

/* ---- MSG_METADATA and MSG_INBOX ---- */

static uint64_t last_word(const struct sluice_client *c, uint64_t n)
{
    const shared_u64 *words = (const shared_u64 *)(const void *)&c->meta[n & (c->entries - 1)];
    /* acquire: pairs with the release in entry.h; the entry and its bytes are there */
    return atomic_load_explicit(&words[7], memory_order_acquire);
}

static bool phase_is(uint64_t word, uint64_t n, uint64_t entries)
{
    uint64_t want = n & entries ? 0 : SLUICE_META_PHASE; /* entries is a power of two */
    return ((word >> 40) & SLUICE_META_PHASE) == want;
}

bool sluice_client_has_entry(const struct sluice_client *c)
{
    if (c->role == SLUICE_OBSERVER)
        return atomic_load_explicit(&c->shared->meta_tail, memory_order_acquire) != c->meta_head;
    return phase_is(last_word(c, c->meta_head), c->meta_head, c->entries);
}

/* Entries must follow each other without a gap, within what the inbox can hold. */
static int check_entry(struct sluice_client *c, uint64_t offset, uint32_t bytes, uint8_t event,
                       uint64_t *expect)
{
    if (!c->offset_known) {
        if (offset - c->inbox_head > c->inbox_bytes)
            return -EBADMSG;
        c->offset_known = true;
        c->next_offset = *expect = offset;
    }
    if (offset != *expect || (event != SLUICE_EVENT_DATA && bytes) ||
        event > SLUICE_EVENT_DISCONNECTED || offset + bytes - c->inbox_head > c->inbox_bytes)
        return -EBADMSG;
    *expect += bytes;
    return 0;
}

static int64_t peek_upstream(struct sluice_client *c, const struct sluice_meta **entries,
                             uint32_t max)
{
    uint64_t expect = c->next_offset;
    uint32_t n = 0;
    if (max > c->entries)
        max = (uint32_t)c->entries; /* the phases of an engine that lies may fit any number */
    for (; n < max; n++) {
        uint64_t word = last_word(c, c->meta_head + n);
        if (!phase_is(word, c->meta_head + n, c->entries))
            break;
        const struct sluice_meta *m = &c->meta[(c->meta_head + n) & (c->entries - 1)];
        if (check_entry(c, m->msg_inbox_offset, (uint32_t)word, (uint8_t)(word >> 32), &expect))
            return -EBADMSG;
    }
    *entries = &c->meta[c->meta_head & (c->entries - 1)];
    c->peeked = n;
    c->peeked_end = expect;
    return n;
}

/* Lapped: entries below lent - entries may be overwritten by now. */
static bool entry_lapped(const struct sluice_client *c, uint64_t n)
{
    uint64_t lent = atomic_load_explicit(&c->shared->meta_lent, memory_order_relaxed);
    return (int64_t)(lent - (n + c->entries)) > 0;
}

static bool bytes_lapped(const struct sluice_client *c, uint64_t position)
{
    uint64_t lent = atomic_load_explicit(&c->shared->inbox_lent, memory_order_relaxed);
    return (int64_t)(lent - (position + c->inbox_bytes)) > 0;
}

/* Go on at the newest entry: everything older may be torn. */
static int skip_to_newest(struct sluice_client *c)
{
    c->meta_head = atomic_load_explicit(&c->shared->meta_tail, memory_order_acquire);
    c->inbox_head = atomic_load_explicit(&c->shared->inbox_tail, memory_order_relaxed);
    c->offset_known = false;
    c->peeked = 0;
    return -ESTALE;
}

static void copy_entry(const struct sluice_client *c, uint64_t n, struct sluice_meta *out)
{
    const shared_u64 *words = (const shared_u64 *)(const void *)&c->meta[n & (c->entries - 1)];
    uint64_t copy[8];
    for (int i = 0; i < 8; i++)
        copy[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
    memcpy(out, copy, sizeof(*out));
}

/* Copies, so what is found good here stays so. */
static int check_copies(struct sluice_client *c, uint32_t n)
{
    if (n && !c->offset_known)
        c->inbox_head = c->copies[0].msg_inbox_offset;
    c->offset_known |= n > 0;
    uint64_t expect = c->inbox_head;
    for (uint32_t i = 0; i < n; i++) {
        const struct sluice_meta *m = &c->copies[i];
        if (m->msg_inbox_offset != expect || m->decrypted_len > c->inbox_bytes ||
            m->event > SLUICE_EVENT_DISCONNECTED ||
            (m->event != SLUICE_EVENT_DATA && m->decrypted_len))
            return -EBADMSG;
        expect += m->decrypted_len;
    }
    c->peeked = n;
    c->peeked_end = expect;
    return 0;
}

static int64_t peek_observer(struct sluice_client *c, const struct sluice_meta **entries,
                             uint32_t max)
{
    uint64_t tail = atomic_load_explicit(&c->shared->meta_tail, memory_order_acquire);
    uint64_t there = tail - c->meta_head;
    uint32_t n = max < c->copies_max ? max : c->copies_max;
    if (there < n)
        n = (uint32_t)there;
    for (uint32_t i = 0; i < n; i++)
        copy_entry(c, c->meta_head + i, &c->copies[i]);
    atomic_thread_fence(memory_order_acquire); /* pairs with sluice_entry_lend() in entry.h */
    if (n && entry_lapped(c, c->meta_head))
        return skip_to_newest(c);
    *entries = c->copies;
    int err = check_copies(c, n);
    return err ? err : (int64_t)n;
}

int64_t sluice_inbox_peek(struct sluice_client *c, const struct sluice_meta **entries, uint32_t max)
{
    if (c->role == SLUICE_PRODUCER)
        return -EPERM;
    return c->role == SLUICE_UPSTREAM ? peek_upstream(c, entries, max)
                                      : peek_observer(c, entries, max);
}

const uint8_t *sluice_inbox_at(const struct sluice_client *c, uint64_t position)
{
    return c->inbox + (position & (c->inbox_bytes - 1));
}

uint64_t sluice_inbox_position(const struct sluice_client *c)
{
    return c->inbox_head;
}

static int release_observer(struct sluice_client *c, uint32_t entries, uint64_t end)
{
    atomic_thread_fence(memory_order_acquire); /* pairs with sluice_inbox_lend() */
    if (entries && bytes_lapped(c, c->copies[0].msg_inbox_offset))
        return skip_to_newest(c);
    memmove(c->copies, c->copies + entries, (c->peeked - entries) * sizeof(*c->copies));
    c->meta_head += entries;
    c->inbox_head = end;
    c->peeked -= entries;
    return 0;
}

/* Position behind the first n entries peeked at. Read again, so clamped again. */
static uint64_t end_of(const struct sluice_client *c, uint32_t n)
{
    if (n == 0)
        return c->role == SLUICE_UPSTREAM && c->offset_known ? c->next_offset : c->inbox_head;
    if (n == c->peeked)
        return c->peeked_end;
    const struct sluice_meta *next = c->role == SLUICE_OBSERVER
                                         ? &c->copies[n]
                                         : &c->meta[(c->meta_head + n) & (c->entries - 1)];
    uint64_t end = next->msg_inbox_offset;
    return end - c->inbox_head <= c->peeked_end - c->inbox_head ? end : c->peeked_end;
}

static void release_upstream(struct sluice_client *c, uint32_t entries, uint64_t end,
                             uint64_t keep_from)
{
    c->meta_head += entries;
    c->peeked -= entries;
    if (entries)
        c->next_offset = end;
    c->inbox_head = keep_from;
    /* Entries first: killed between the two stores, we leave bytes that were kept, not entries
     * whose bytes are gone. release: pairs with the acquire in inbox.c; we have finished reading.
     */
    atomic_store_explicit(&c->mine->meta_head, c->meta_head, memory_order_release);
    atomic_store_explicit(&c->mine->inbox_head, c->inbox_head, memory_order_release);
    sluice_client_ring(c, WAKE_ON_INBOX);
}

int sluice_inbox_release(struct sluice_client *c, uint32_t entries)
{
    if (entries > c->peeked)
        return -EINVAL;
    uint64_t end = end_of(c, entries);
    if (c->role == SLUICE_OBSERVER)
        return release_observer(c, entries, end);
    if (entries)
        release_upstream(c, entries, end, end);
    return 0;
}

int sluice_inbox_release_to(struct sluice_client *c, uint32_t entries, uint64_t keep_from)
{
    if (c->role != SLUICE_UPSTREAM)
        return -EPERM;
    if (entries > c->peeked)
        return -EINVAL;
    uint64_t end = end_of(c, entries);
    if (keep_from - c->inbox_head > end - c->inbox_head)
        return -EINVAL;
    release_upstream(c, entries, end, keep_from);
    return 0;
}

/* ---- MSG_OUTBOX and PONGS ---- */

/* The engine's heads are hostile: they may only move forward, and not past what was published. */
static bool refresh_heads(struct producer *p)
{
    /* acquire: pairs with the release in outbox.c; the engine has finished reading below them */
    uint64_t slot_head = atomic_load_explicit(&p->heads->slot_head, memory_order_acquire);
    uint64_t byte_head = atomic_load_explicit(&p->heads->byte_head, memory_order_acquire);
    if (slot_head - p->slot_head > p->slot_tail - p->slot_head ||
        byte_head - p->byte_head > p->byte_tail - p->byte_head)
        return false;
    p->slot_head = slot_head;
    p->byte_head = byte_head;
    return true;
}

static bool fits(const struct producer *p, size_t bytes)
{
    return p->slot_tail - p->slot_head < p->slot_count &&
           p->byte_tail - p->byte_head + bytes <= p->byte_count;
}

/* Since the claim that found none. */
bool sluice_producer_has_room(struct producer *p)
{
    if (!p->full)
        return true;
    uint64_t slots = p->slot_head, bytes = p->byte_head;
    p->full = refresh_heads(p) && p->slot_head == slots && p->byte_head == bytes;
    return !p->full; /* it stays said until a claim finds it full again */
}

static int claim(struct producer *p, size_t bytes, void **room)
{
    SLUICE_CHECK(!p->claiming);
    if (bytes > p->limit)
        return -EMSGSIZE;
    if (!fits(p, bytes)) {
        if (!refresh_heads(p))
            return -EBADMSG;
        p->full = !fits(p, bytes);
        if (p->full)
            return -EAGAIN;
    }
    p->full = false;
    p->claiming = true;
    p->claimed = bytes;
    *room = p->base + (p->byte_tail & (p->byte_count - 1));
    return 0;
}

static void put_slot(const struct sluice_client *c, struct producer *p, uint32_t connection,
                     unsigned type)
{
    SLUICE_CHECK(p->claiming);
    if (!connection)
        connection = atomic_load_explicit(&c->shared->connection, memory_order_acquire);
    shared_u64 *slot = (shared_u64 *)(void *)&p->slots[p->slot_tail & (p->slot_count - 1)];
    uint64_t word =
        (uint64_t)p->claimed | (uint64_t)(uint16_t)connection << 32 | (uint64_t)(type & 0xff) << 48;
    atomic_store_explicit(&slot[0], sluice_cycles(), memory_order_relaxed);
    atomic_store_explicit(&slot[1], word, memory_order_relaxed);
    p->byte_tail += p->claimed;
    p->slot_tail++;
    p->claiming = false;
}

/* Slots last, with release: pairs with the acquire in outbox.c. */
static void publish(struct producer *p)
{
    atomic_store_explicit(&p->tails->byte_tail, p->byte_tail, memory_order_relaxed);
    atomic_store_explicit(&p->tails->slot_tail, p->slot_tail, memory_order_release);
}

int sluice_outbox_claim(struct sluice_client *c, size_t bytes, void **room)
{
    if (c->role == SLUICE_OBSERVER)
        return -EPERM;
    return claim(&c->outbox, bytes, room);
}

void sluice_outbox_commit(struct sluice_client *c, uint32_t connection, unsigned type)
{
    put_slot(c, &c->outbox, connection, type);
    publish(&c->outbox);
    sluice_client_ring(c, WAKE_ON_OUTBOX);
}

void sluice_outbox_hold(struct sluice_client *c, uint32_t connection, unsigned type)
{
    put_slot(c, &c->outbox, connection, type);
}

void sluice_outbox_abort(struct sluice_client *c)
{
    c->outbox.claiming = false;
}

size_t sluice_outbox_limit(const struct sluice_client *c)
{
    return c->outbox.limit;
}

void sluice_outbox_depth(const struct sluice_client *c, uint64_t *messages, uint64_t *bytes)
{
    const struct producer *p = &c->outbox;
    if (c->role == SLUICE_OBSERVER) {
        *messages = *bytes = 0;
        return;
    }
    *messages = p->slot_tail - atomic_load_explicit(&p->heads->slot_head, memory_order_relaxed);
    *bytes = p->byte_tail - atomic_load_explicit(&p->heads->byte_head, memory_order_relaxed);
}

/* Pairs with sluice_outbox_take_up(): a cycle that stands between two equal ends is theirs. The
 * slot of the last message is ours as long as no later one was put there. */
int sluice_outbox_stamped(const struct sluice_client *c, struct sluice_outbox_stamp *out)
{
    const struct producer *p = &c->outbox;
    if (c->role == SLUICE_OBSERVER)
        return -EPERM;
    uint64_t end = atomic_load_explicit(&p->heads->run_end, memory_order_acquire);
    uint64_t cycle = atomic_load_explicit(&p->heads->run_cycle, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (end == 0 || atomic_load_explicit(&p->heads->run_end, memory_order_relaxed) != end ||
        p->slot_tail - end >= p->slot_count)
        return -EAGAIN;
    const shared_u64 *slot = (const shared_u64 *)(void *)&p->slots[(end - 1) & (p->slot_count - 1)];
    *out = (struct sluice_outbox_stamp){.messages = end,
                                        .commit_cycle =
                                            atomic_load_explicit(&slot[0], memory_order_relaxed),
                                        .taken_cycle = cycle};
    return 0;
}

int sluice_pong_claim(struct sluice_client *c, size_t bytes, void **room)
{
    if (c->role != SLUICE_UPSTREAM)
        return -EPERM;
    return claim(&c->pongs, bytes, room);
}

void sluice_pong_commit(struct sluice_client *c, uint32_t connection)
{
    put_slot(c, &c->pongs, connection, SLUICE_MESSAGE_DATA);
    publish(&c->pongs);
    sluice_client_ring(c, WAKE_ON_OUTBOX);
}

void sluice_pong_abort(struct sluice_client *c)
{
    c->pongs.claiming = false;
}

size_t sluice_pong_limit(const struct sluice_client *c)
{
    return c->pongs.limit;
}

/* ---- state and requests ---- */

void sluice_client_state(const struct sluice_client *c, struct sluice_state *out)
{
    /* The header's text is all that is read here beyond the checked sizes; it is cut at its end. */
    sluice_state_read(c->header, c->shared, out);
}

/* by: added to that field of the word, which wraps within itself. */
static int request(struct sluice_client *c, unsigned at, uint64_t by)
{
    if (c->role != SLUICE_UPSTREAM)
        return -EPERM;
    uint64_t field = ((c->request >> at) + by) & REQUEST_FIELD;
    c->request = (c->request & ~(REQUEST_FIELD << at)) | field << at;
    atomic_store_explicit(&c->mine->request, c->request, memory_order_release);
    sluice_client_ring(c, WAKE_ON_OUTBOX);
    return 0;
}

int sluice_client_request_close(struct sluice_client *c)
{
    return request(c, REQUEST_CLOSE_AT, 1);
}

int sluice_client_request_reconnect(struct sluice_client *c)
{
    return request(c, REQUEST_CONNECT_AT, 1);
}

int sluice_client_request_preference(struct sluice_client *c)
{
    return request(c, REQUEST_PREFER_AT, 1);
}

int sluice_client_set_ready(struct sluice_client *c, int ready)
{
    bool is = c->request & REQUEST_READY;
    return request(c, REQUEST_READY_AT, is == (ready != 0) ? 2 : is ? 1 : 3);
}
