/*
 * The upstream: see upstream.h.
 */
#include "upstream.h"
#include "rings/client.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define LOST_NS     (20 * (int64_t)SLUICE_NS_PER_S) /* nothing takes as long as this */
#define PONG_BYTES  131u
#define SKEW_CYCLES 20000u /* two cores' TSCs may differ, and a thread may move between them */

static bool bad(struct upstream *u, bool wrong, const char *text)
{
    return found(&u->finding, wrong, text, u->taken_bytes) || u->finding.text;
}

void upstream_sleep(uint32_t ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000l};
    nanosleep(&time, NULL);
}

static void take_entry(struct upstream *u, const struct sluice_meta *entry)
{
    if (entry->event != SLUICE_EVENT_DATA) {
        u->over |= entry->event == SLUICE_EVENT_DISCONNECTED;
        if (!bad(u, u->event_count == EVENTS_MAX, "too many events"))
            u->events[u->event_count++] = entry->event;
        return;
    }
    bad(u, entry->msg_inbox_offset != u->taken_bytes, "an entry that does not follow the last");
    bad(u, u->over, "bytes after the end");
    bad(u, entry->ssl_read_cycle == 0 || entry->first_nic_frame_poll_cycle == 0, "no stamp");
    bad(u, entry->latest_nic_frame_poll_cycle + SKEW_CYCLES < entry->first_nic_frame_poll_cycle,
        "stamps out of order");
    bad(u,
        !stream_matches(sluice_inbox_at(u->client, entry->msg_inbox_offset), u->taken_bytes,
                        entry->decrypted_len),
        "a wrong byte");
    u->taken_bytes += entry->decrypted_len;
}

/* What is there, up to max entries; waits for one. */
static void take_some(struct upstream *u, uint32_t max)
{
    const struct sluice_meta *entries;
    int n = sluice_client_wait(u->client, SLUICE_WAIT_INBOX, LOST_NS);
    if (bad(u, n <= 0, "nothing comes"))
        return;
    int64_t count = sluice_inbox_peek(u->client, &entries, max);
    bad(u, count <= 0, "no entry");
    for (int64_t i = 0; i < count && !u->finding.text; i++)
        take_entry(u, &entries[i]);
    must(sluice_inbox_release(u->client, count > 0 ? (uint32_t)count : 0));
}

void upstream_take(struct upstream *u, uint64_t bytes)
{
    while (u->taken_bytes < bytes && !u->over && !u->finding.text)
        take_some(u, 64);
    bad(u, u->taken_bytes < bytes, "it ended early");
}

void upstream_take_slowly(struct upstream *u, uint64_t bytes)
{
    while (u->taken_bytes < bytes && !u->over && !u->finding.text) {
        if (random_below(&u->seed, 16) == 0)
            upstream_sleep(1 + (uint32_t)random_below(&u->seed, 4));
        take_some(u, 1 + (uint32_t)random_below(&u->seed, 8));
    }
    bad(u, u->taken_bytes < bytes, "it ended early");
}

static bool has_event(const struct upstream *u, unsigned event)
{
    return memchr(u->events, (int)event, u->event_count) != NULL;
}

void upstream_take_to_eof(struct upstream *u)
{
    while (!u->over && !has_event(u, SLUICE_EVENT_EOF) && !u->finding.text)
        take_some(u, 64);
    bad(u, !has_event(u, SLUICE_EVENT_EOF), "it ended before the peer did");
}

void upstream_take_to_end(struct upstream *u)
{
    while (!u->over && !u->finding.text) {
        if (has_event(u, SLUICE_EVENT_EOF))
            upstream_finish(u);
        take_some(u, 64);
    }
}

/* Waits for room. */
static void *claim(struct upstream *u, size_t bytes,
                   int (*ask)(struct sluice_client *, size_t, void **))
{
    void *room = NULL;
    int err;
    if (u->finding.text)
        return NULL;
    while ((err = ask(u->client, bytes, &room)) == -EAGAIN && !u->finding.text)
        bad(u, sluice_client_wait(u->client, SLUICE_WAIT_OUTBOX, LOST_NS) <= 0, "no room comes");
    return bad(u, err != 0, "a claim failed") ? NULL : room;
}

static void write_message(void *room, uint32_t bytes, uint32_t number, bool is_pong)
{
    struct message_header h = {.bytes = bytes, .number = number, .is_pong = is_pong};
    h.check = MESSAGE_CHECK(&h);
    memcpy(room, &h, sizeof(h));
    stream_fill((uint8_t *)room + sizeof(h), number, bytes - sizeof(h));
}

void upstream_send(struct upstream *u, uint32_t bytes)
{
    void *room = claim(u, bytes, sluice_outbox_claim);
    if (!room)
        return;
    write_message(room, bytes, u->messages++, false);
    sluice_outbox_commit(u->client, 0, SLUICE_MESSAGE_DATA);
}

void upstream_pong(struct upstream *u)
{
    void *room = claim(u, PONG_BYTES, sluice_pong_claim);
    if (!room)
        return;
    write_message(room, PONG_BYTES, u->pongs++, true);
    sluice_pong_commit(u->client, 0);
}

void upstream_finish(struct upstream *u)
{
    if (u->finished)
        return;
    u->finished = true;
    claim(u, 0, sluice_outbox_claim);
    if (!u->finding.text)
        sluice_outbox_commit(u->client, 0, SLUICE_MESSAGE_WS_CLOSE);
}

void upstream_lie(struct upstream *u)
{
    atomic_store_explicit(&u->client->mine->meta_head, u->client->meta_head + (1u << 30),
                          memory_order_release);
}

static void *run(void *arg)
{
    struct upstream *u = arg;
    u->script->upstream(u);
    if (u->finding.text) /* so that the others end as well */
        sluice_client_request_close(u->client);
    return NULL;
}

void upstream_start(struct upstream *u, const struct script *script, struct sluice_client *client)
{
    *u = (struct upstream){.client = client, .script = script, .seed = 7};
    start_thread(&u->thread, run, u);
}

void upstream_join(struct upstream *u)
{
    join_thread(u->thread);
}
