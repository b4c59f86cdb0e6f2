/*
 * MSG_OUTBOX and PONGS between threads: an upstream and producers, each with a ring of its own, and
 * one engine that takes what they commit. One thread at a time is unit/test_outbox.c's.
 */
#include "tests/support/one_view.h"
#include "tests/support/serve.h"
#include "tests/support/threads.h"

#include <sched.h>

#define CLIENTS 4             /* the upstream is the first */
#define RINGS   (CLIENTS + 1) /* the last one: PONGS */
#define OUTBOX  65536u

static struct sluice_channel *ch;
static uint64_t deadline, seed;
static atomic_int clients_left;

/* Byte k of message n of a ring. */
static inline uint8_t message_byte(uint32_t ring, uint64_t n, uint64_t k)
{
    return (uint8_t)((n * 31 + k + ring * 101) * 2654435761u >> 11);
}

/* Message n of a ring is as long as this, whoever asks. */
static uint32_t message_bytes(uint32_t ring, uint64_t n)
{
    uint64_t s = seed * 1000003 + ring * 7919 + n;
    if (ring == CLIENTS)
        return random_between(&s, 1, 256);
    return random_below(&s, 16) ? random_between(&s, 1, 500) : random_between(&s, 1, OUTBOX / 2);
}

/* ---- a client ---- */

struct client {
    struct sluice_client *handle;
    uint32_t ring;
    uint64_t committed, pongs, aborted, full;
    uint64_t held; /* not seen by the engine yet */
    struct finding finding;
    struct one_view view;
    pthread_t thread;
};

static struct client clients[CLIENTS];

static void write_message(void *room, uint32_t ring, uint64_t n, uint32_t bytes)
{
    uint8_t *at = room;
    for (uint32_t k = 0; k < bytes; k++)
        at[k] = message_byte(ring, n, k);
}

/* Room for a message that is then not sent leaves nothing behind. */
static void claim_in_vain(struct client *c, uint64_t *s)
{
    void *room;
    uint32_t bytes = random_between(s, 1, 2000);
    if (sluice_outbox_claim(c->handle, bytes, &room))
        return;
    memset(room, 0xee, bytes);
    sluice_outbox_abort(c->handle);
    c->aborted++;
}

static bool put(struct client *c, bool hold)
{
    void *room;
    uint64_t n = c->committed + c->held;
    uint32_t bytes = message_bytes(c->ring, n);
    int err = sluice_outbox_claim(c->handle, bytes, &room);
    c->full += err == -EAGAIN;
    found(&c->finding, err && err != -EAGAIN, "a claim was refused", n);
    if (err)
        return false;
    write_message(room, c->ring, n, bytes);
    if (hold) {
        sluice_outbox_hold(c->handle, 1, SLUICE_MESSAGE_DATA);
        c->held++;
    } else {
        sluice_outbox_commit(c->handle, 1, SLUICE_MESSAGE_DATA);
        c->committed += c->held + 1;
        c->held = 0;
    }
    return true;
}

static void put_pong(struct client *c)
{
    void *room;
    uint32_t bytes = message_bytes(CLIENTS, c->pongs);
    if (sluice_pong_claim(c->handle, bytes, &room))
        return;
    write_message(room, CLIENTS, c->pongs, bytes);
    sluice_pong_commit(c->handle, 1);
    c->pongs++;
}

/* What is held back takes room: the next commit must find some, so not too many. */
static void *run_client(void *arg)
{
    struct client *c = arg;
    uint64_t s = seed + 10 + c->ring;
    while (sluice_monotonic_ns() < deadline && !c->finding.text) {
        for (int i = 0; i < 50; i++) {
            if (random_below(&s, 10) == 0)
                claim_in_vain(c, &s);
            put(c, c->held < 5 && random_below(&s, 3) == 0);
            if (c->ring == 0 && random_below(&s, 3) == 0)
                put_pong(c);
            dawdle(&s);
        }
    }
    c->held = 0; /* never committed, so never seen */
    atomic_fetch_sub(&clients_left, 1);
    return NULL;
}

/* ---- the engine ---- */

struct taken {
    uint64_t messages, bytes, runs;
    struct finding finding;
};

static struct taken taken[RINGS];

static bool message_ok(const uint8_t *at, uint32_t ring, uint64_t n, uint32_t bytes)
{
    for (uint32_t k = 0; k < bytes; k++)
        if (at[k] != message_byte(ring, n, k))
            return false;
    return true;
}

/* A run of whole messages, read as one span as the kernel does. */
static bool take_run(struct sluice_outbox *box, uint32_t ring, uint64_t *s)
{
    struct taken *t = &taken[ring];
    int64_t unread = sluice_outbox_refresh(box);
    if (found(&t->finding, unread < 0, "nonsense", t->messages) || unread == 0)
        return false;
    const uint8_t *span = box->base + (box->byte_head & (box->byte_count - 1));
    uint64_t offset = 0, most = random_between(s, 1, 40);
    uint64_t k = 0;
    for (; k < (uint64_t)unread && k < most && !t->finding.text; k++) {
        struct sluice_message m;
        int err = sluice_outbox_slot(box, k, offset, &m);
        if (found(&t->finding, err != 0, "a slot was refused", t->messages + k))
            return false;
        found(&t->finding, m.bytes != message_bytes(ring, t->messages + k), "a wrong length",
              t->messages + k);
        found(&t->finding, !message_ok(span + offset, ring, t->messages + k, m.bytes),
              "wrong bytes", t->messages + k);
        offset += m.bytes;
    }
    if (random_below(s, 2) && offset > 1) { /* the first half, then the rest: a short send */
        sluice_outbox_consume(box, offset / 2, 0);
        sluice_outbox_consume(box, offset - offset / 2, k);
    } else {
        sluice_outbox_consume(box, offset, k);
    }
    t->messages += k;
    t->bytes += offset;
    t->runs++;
    return true;
}

static bool any_finding(void)
{
    for (int r = 0; r < RINGS; r++)
        if (taken[r].finding.text)
            return true;
    return false;
}

static void run_engine(void)
{
    uint64_t s = seed + 1;
    for (;;) {
        bool over = atomic_load(&clients_left) == 0, any = false;
        for (uint32_t i = 0; i < CLIENTS; i++)
            any |= take_run(&ch->writers[clients[i].handle->index].outbox, i, &s);
        any |= take_run(&ch->writers[clients[0].handle->index].pongs, CLIENTS, &s);
        if ((over && !any) || any_finding())
            return;
        dawdle(&s);
    }
}

static void report(uint32_t ring, uint64_t committed)
{
    const struct taken *t = &taken[ring];
    bool pongs = ring == CLIENTS;
    if (!pongs)
        tap_finding(&clients[ring].finding, "a client");
    tap_finding(&t->finding, pongs ? "pongs" : "an outbox");
    tap_ok(t->messages == committed && committed > 10, /* few: not run for a while */
           "%llu of %llu messages, %llu bytes, %llu runs", (unsigned long long)t->messages,
           (unsigned long long)committed, (unsigned long long)t->bytes,
           (unsigned long long)t->runs);
    if (!pongs)
        tap_ok(clients[ring].full > 0 && clients[ring].aborted > 0, "%llu times full, %llu aborted",
               (unsigned long long)clients[ring].full, (unsigned long long)clients[ring].aborted);
}

int main(void)
{
    const struct sluice_channel_config cfg = {
        .outbox_bytes = OUTBOX, .outbox_slots = 64, .pongs_slots = 16};
    tap_begin();
    seed = threads_seed();
    must(sluice_channel_create(&ch, &cfg));
    atomic_store(&clients_left, CLIENTS);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[i];
        c->ring = i;
        must(sluice_attach_local(&c->handle, ch, i ? SLUICE_PRODUCER : SLUICE_UPSTREAM));
        one_view_open(&c->view, ch, c->handle);
    }
    deadline = threads_deadline(3000, 20000);
    for (int i = 0; i < CLIENTS; i++)
        start_thread(&clients[i].thread, run_client, &clients[i]);
    run_engine();
    for (int i = 0; i < CLIENTS; i++)
        join_thread(clients[i].thread);
    for (uint32_t i = 0; i < CLIENTS; i++)
        report(i, clients[i].committed);
    report(CLIENTS, clients[0].pongs);
    for (int i = 0; i < CLIENTS; i++) {
        one_view_close(&clients[i].view, ch, clients[i].handle);
        sluice_detach(clients[i].handle);
    }
    sluice_channel_destroy(ch);
    return tap_end();
}
