/*
 * Falling asleep and being woken, both ways: an engine that sleeps on its links, clients that
 * sleep in sluice_client_wait(). Whoever has to be woken has nothing else to wake it: a wake-up
 * that is lost shows as a sleep that does not end.
 */
#include "tests/support/one_view.h"
#include "tests/support/serve.h"
#include "tests/support/threads.h"

#include <sched.h>

#define LOST_MS   3000 /* nobody sleeps as long as this */
#define PRODUCERS 2
#define CLIENTS   (PRODUCERS + 1) /* the upstream is the first */

static struct sluice_channel *ch;
static uint64_t deadline, seed;
static atomic_int clients_left;
static atomic_bool give_up;

/* ---- a sleeping engine ---- */

static struct finding engine_finding;
static uint64_t engine_sleeps;
static bool (*engine_work)(uint64_t *s); /* true: it did something */

/* As the loop does: say it, look once more, sleep. */
static void engine_sleep(uint64_t *s)
{
    sluice_channel_sleep(ch, WAKE_ON_OUTBOX | WAKE_ON_INBOX);
    dawdle(s);
    if (!engine_work(s)) {
        engine_sleeps++;
        int n = serve_once(ch, LOST_MS);
        found(&engine_finding, n == 0, "the engine was not woken", engine_sleeps);
    }
    sluice_channel_sleep(ch, 0);
}

/* Clients that end ring as well: their last word is a message or a release. */
static void run_engine(void)
{
    uint64_t s = seed + 1;
    while (!engine_finding.text) {
        bool did = engine_work(&s);
        sluice_channel_flush(ch);
        if (did)
            continue;
        if (atomic_load(&clients_left) == 0 || atomic_load(&give_up))
            return;
        engine_sleep(&s);
        sluice_channel_flush(ch);
    }
    atomic_store(&give_up, true);
}

/* ---- clients ---- */

struct client {
    struct sluice_client *handle;
    uint64_t rounds, sleeps;
    struct finding finding;
    struct one_view view;
    pthread_t thread;
    uint32_t number;
};

static struct client clients[CLIENTS];

static bool client_wait(struct client *c, unsigned what)
{
    int there = sluice_client_wait(c->handle, what, LOST_MS * (int64_t)SLUICE_NS_PER_MS);
    c->sleeps++;
    if (found(&c->finding, there == 0, "a client was not woken", c->rounds) ||
        found(&c->finding, there < 0, "a wait failed", c->rounds))
        atomic_store(&give_up, true);
    return there > 0;
}

static bool goes_on(const struct client *c)
{
    return !c->finding.text && !atomic_load(&give_up) && sluice_monotonic_ns() < deadline;
}

static void client_ends(struct client *c)
{
    atomic_fetch_sub(&clients_left, 1);
    sluice_doorbell_ring(c->handle->bell_fd); /* so that it is seen */
}

/* ---- ping-pong: a message each way, both asleep between them ---- */

static uint64_t answered;

/* Bytes for the upstream as long as its message was. */
static bool answer(uint64_t *s)
{
    struct sluice_message m;
    struct sluice_outbox *box = &ch->writers[clients[0].handle->index].outbox;
    int64_t unread = sluice_outbox_refresh(box);
    if (found(&engine_finding, unread < 0, "nonsense", answered) || unread == 0)
        return false;
    if (found(&engine_finding, sluice_outbox_slot(box, 0, 0, &m) != 0, "a bad slot", answered))
        return false;
    sluice_outbox_consume(box, m.bytes, 1);
    ch->news |= SLUICE_WAIT_OUTBOX;
    dawdle(s);
    sluice_inbox_limit(ch);
    serve_bytes(ch, m.bytes);
    answered++;
    return true;
}

static void *run_pinger(void *arg)
{
    struct client *c = arg;
    uint64_t s = seed + 2;
    while (goes_on(c)) {
        const struct sluice_meta *m;
        void *room;
        uint32_t bytes = random_between(&s, 1, 100);
        if (found(&c->finding, sluice_outbox_claim(c->handle, bytes, &room) != 0, "no room", 0))
            break;
        memset(room, 'p', bytes);
        sluice_outbox_commit(c->handle, 1, SLUICE_MESSAGE_DATA);
        dawdle(&s);
        if (!client_wait(c, SLUICE_WAIT_INBOX))
            break;
        found(&c->finding, sluice_inbox_peek(c->handle, &m, 2) != 1, "no entry", c->rounds);
        found(&c->finding, m->decrypted_len != bytes, "another answer", c->rounds);
        sluice_inbox_release(c->handle, 1);
        c->rounds++;
    }
    client_ends(c);
    return NULL;
}

/* ---- full rings: producers sleep for room, the engine for a release ---- */

/* Takes what there is, and publishes until the inbox is full. */
static bool fill_and_drain(uint64_t *s)
{
    bool did = false;
    for (int i = 0; i < CLIENTS; i++) {
        struct sluice_outbox *box = &ch->writers[clients[i].handle->index].outbox;
        int64_t unread = sluice_outbox_refresh(box);
        if (found(&engine_finding, unread < 0, "nonsense", 0))
            return true;
        if (unread > 0 && random_below(s, 4)) {
            struct sluice_message m;
            found(&engine_finding, sluice_outbox_slot(box, 0, 0, &m) != 0, "a bad slot", 0);
            sluice_outbox_consume(box, m.bytes, 1);
            ch->news |= SLUICE_WAIT_OUTBOX;
        }
        did |= unread > 0;
    }
    uint32_t bytes = random_between(s, 1, 30000);
    if (ch->inbox.tail + bytes <= sluice_inbox_limit(ch)) {
        serve_bytes(ch, bytes);
        did = true;
    }
    return did | (ch->inbox.has_pending && sluice_inbox_flush_pending(ch));
}

static void *run_producer(void *arg)
{
    struct client *c = arg;
    uint64_t s = seed + 10 + c->number;
    while (goes_on(c)) {
        void *room;
        uint32_t bytes = random_between(&s, 1, 32768);
        int err = sluice_outbox_claim(c->handle, bytes, &room);
        found(&c->finding, err && err != -EAGAIN, "a claim was refused", c->rounds);
        if (err == -EAGAIN && !client_wait(c, SLUICE_WAIT_OUTBOX))
            break;
        if (err)
            continue;
        sluice_outbox_commit(c->handle, 1, SLUICE_MESSAGE_DATA);
        c->rounds++;
        dawdle(&s);
    }
    client_ends(c);
    return NULL;
}

static void *run_reader(void *arg)
{
    struct client *c = arg;
    uint64_t s = seed + 3;
    while (goes_on(c)) {
        const struct sluice_meta *m;
        if (!client_wait(c, SLUICE_WAIT_INBOX))
            break;
        int64_t n = sluice_inbox_peek(c->handle, &m, 64);
        if (found(&c->finding, n <= 0, "no entry", c->rounds))
            break;
        sluice_inbox_release(c->handle, random_between(&s, 1, (uint32_t)n));
        c->rounds++;
        dawdle(&s);
    }
    client_ends(c);
    return NULL;
}

/* ---- */

/* sleeps_min: of the engine; one that has to fill rings hardly gets to it. */
static void run(const char *what, int clients_n, bool (*work)(uint64_t *),
                void *(*const roles[])(void *), uint64_t sleeps_min)
{
    const struct sluice_channel_config cfg = {
        .inbox_bytes = 65536, .outbox_bytes = 65536, .metadata_entries = 64, .outbox_slots = 64};
    memset(clients, 0, sizeof(clients));
    engine_finding = (struct finding){0};
    engine_sleeps = 0;
    engine_work = work;
    atomic_store(&give_up, false);
    must(sluice_channel_create(&ch, &cfg));
    atomic_store(&clients_left, clients_n);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[i];
        c->number = (uint32_t)i;
        must(sluice_attach_local(&c->handle, ch, i ? SLUICE_PRODUCER : SLUICE_UPSTREAM));
        one_view_open(&c->view, ch, c->handle);
    }
    deadline = threads_deadline(2000, 10000);
    for (int i = 0; i < clients_n; i++)
        start_thread(&clients[i].thread, roles[i], &clients[i]);
    run_engine();
    for (int i = 0; i < clients_n; i++)
        join_thread(clients[i].thread);
    tap_finding(&engine_finding, what);
    tap_ok(engine_sleeps >= sleeps_min, "%s: the engine slept %llu times", what,
           (unsigned long long)engine_sleeps);
    for (int i = 0; i < clients_n; i++) {
        tap_finding(&clients[i].finding, what);
        tap_ok(clients[i].sleeps > 100, "%s: client %d slept %llu times in %llu rounds", what, i,
               (unsigned long long)clients[i].sleeps, (unsigned long long)clients[i].rounds);
    }
    tap_note("bells rung: %llu",
             (unsigned long long)atomic_load(&ch->shared->counters[SLUICE_COUNTER_doorbells]));
    for (int i = 0; i < CLIENTS; i++) {
        one_view_close(&clients[i].view, ch, clients[i].handle);
        sluice_detach(clients[i].handle);
    }
    sluice_channel_destroy(ch);
}

int main(void)
{
    static void *(*const ping_pong[])(void *) = {run_pinger};
    static void *(*const full_rings[])(void *) = {run_reader, run_producer, run_producer};
    tap_begin();
    seed = threads_seed();
    run("ping-pong", 1, answer, ping_pong, 100);
    tap_ok(answered >= clients[0].rounds && clients[0].rounds > 1000, "%llu round trips",
           (unsigned long long)clients[0].rounds);
    run("full rings", CLIENTS, fill_and_drain, full_rings, 0);
    return tap_end();
}
