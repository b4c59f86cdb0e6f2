/*
 * The upstream: reads what came, says something now and then, and dies at any moment: what it had
 * not released comes again to the one that follows, nothing else does.
 */
#include "soak.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define MESSAGE_BYTES_MAX 5000u

/* What outlives an upstream. */
struct reader {
    struct soak *soak;
    struct sluice_client *client;
    uint64_t random;
    uint64_t engine;   /* whose inbox that is: it may go while nobody is attached */
    uint64_t position; /* of its inbox, released; UINT64_MAX: nothing yet */
    bool open, got_end;
    uint32_t connection;
    struct stream in, out;
};

static void detach(struct reader *r)
{
    sluice_detach(r->client);
    r->client = NULL;
    atomic_store(&r->soak->is_attached, false);
}

/* An engine does not make room for the next one while somebody is attached, or is about to be. Its
 * rings go with it, and what nobody had read. */
static void attach(struct reader *r)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    atomic_store(&r->soak->is_attached, true);
    uint64_t engine = atomic_load(&r->soak->engine);
    if (engine != r->engine) {
        r->position = UINT64_MAX;
        r->open = r->got_end = false;
    }
    r->engine = engine;
    if (engine && sluice_attach(&r->client, "soak", SLUICE_UPSTREAM, (int64_t)SOAK_LIMIT) == 0) {
        atomic_fetch_add(&r->soak->attached, 1);
        return;
    }
    atomic_store(&r->soak->is_attached, false); /* none, or the last one's end was not seen yet */
    nanosleep(&moment, NULL);
}

static void ended(struct reader *r)
{
    uint64_t total = r->in.key ? atomic_load(&r->soak->totals[r->in.key % KEYS]) : 0;
    if (total && r->open && r->in.at >= KEY_BYTES && r->in.at != total)
        soak_fail("reader", "the peer sent another number of bytes than came", r->in.at);
    if (total)
        atomic_fetch_add(&r->soak->orderly, 1);
    r->open = false;
}

static void take(struct reader *r, const struct sluice_meta *m)
{
    if (r->position != UINT64_MAX && m->msg_inbox_offset != r->position)
        soak_fail("reader", "a gap, or something twice, at", m->msg_inbox_offset);
    r->position = m->msg_inbox_offset + m->decrypted_len;
    switch ((enum sluice_event)m->event) {
    case SLUICE_EVENT_DATA:
        stream_check(&r->in, sluice_inbox_at(r->client, m->msg_inbox_offset), m->decrypted_len,
                     "received");
        atomic_fetch_add(&r->soak->received_bytes, m->decrypted_len);
        break;
    case SLUICE_EVENT_CONNECTED:
        r->open = true;
        r->got_end = false;
        r->connection = m->connection;
        r->in = (struct stream){0};
        r->out = (struct stream){.key = m->connection};
        break;
    case SLUICE_EVENT_DISCONNECTED:
        ended(r);
        break;
    case SLUICE_EVENT_EOF:
        r->got_end = true;
        sluice_client_request_close(r->client); /* we have no more to say */
        break;
    }
}

static void say(struct reader *r)
{
    void *room;
    size_t bytes = 1 + (size_t)random_below(&r->random, MESSAGE_BYTES_MAX);
    if (!r->open || sluice_outbox_claim(r->client, bytes, &room) != 0)
        return;
    stream_write(&r->out, room, bytes);
    sluice_outbox_commit(r->client, r->connection, SLUICE_MESSAGE_DATA);
}

/* One look: false when it dies, with what it read and did not release. */
static bool look(struct reader *r)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(r->client, &m, 1 + (uint32_t)random_below(&r->random, 64));
    if (n < 0)
        soak_fail("reader", "peek refuses", (uint64_t)-n);
    struct reader before = *r;
    for (int64_t i = 0; i < n; i++)
        take(r, &m[i]);
    if (random_below(&r->random, 3000) == 0) {
        uint64_t random = r->random;
        *r = before;
        r->random = random;
        return false;
    }
    if (n > 0 && sluice_inbox_release(r->client, (uint32_t)n) != 0)
        soak_fail("reader", "release refuses", (uint64_t)n);
    return true;
}

static void live(struct reader *r)
{
    if (r->open && r->got_end) /* the one before may have died with that on its lips */
        sluice_client_request_close(r->client);
    while (look(r)) {
        say(r);
        soak_pause(&r->random);
        int what = sluice_client_wait(r->client, SLUICE_WAIT_INBOX, (int64_t)SLUICE_NS_PER_MS);
        if (what == -EPIPE) {
            while (look(r) && r->position != sluice_inbox_position(r->client))
                ;
            break;
        }
    }
    detach(r);
}

void *reader_run(void *arg)
{
    struct soak *soak = arg;
    struct reader r = {.soak = soak, .random = soak->seed, .position = UINT64_MAX};
    while (!atomic_load(&soak->over) || atomic_load(&soak->engine)) {
        attach(&r);
        if (r.client)
            live(&r);
    }
    return NULL;
}
