/*
 * The state block: texts whole under their version, close records, ready flags, and waiting for
 * them. Entries and bytes are test_inbox.c's, sleeping under load is threads/wake.c's.
 */
#include "base/clock.h"
#include "rings/client.h"
#include "tests/support/cores.h"
#include "tests/support/serve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#define S_NS 1000000000ll

static struct sluice_channel *ch;
static struct sluice_client *up, *observer;
static struct sluice_state st;

static void set_up(void)
{
    const struct sluice_channel_config cfg = {.inbox_bytes = 65536, .metadata_entries = 64};
    cr_assert_eq(sluice_channel_create(&ch, &cfg), 0);
    cr_assert_eq(sluice_attach_local(&up, ch, SLUICE_UPSTREAM), 0);
    cr_assert_eq(sluice_attach_local(&observer, ch, SLUICE_OBSERVER), 0);
    sluice_channel_flush(ch);
}

static void tear_down(void)
{
    sluice_detach(up);
    sluice_detach(observer);
    sluice_channel_destroy(ch);
}

TestSuite(state, .init = set_up, .fini = tear_down, .timeout = 30);

/* ---- what it says ---- */

Test(state, says_what_the_channel_is)
{
    sluice_client_state(observer, &st);
    cr_expect_eq(st.epoch, ch->header->epoch);
    cr_expect_eq(st.engine_pid, (uint32_t)getpid());
    cr_expect_eq(st.layout, SLUICE_LAYOUT_VERSION);
    cr_expect_eq(st.conn_state, SLUICE_CONN_IDLE);
    cr_expect_eq(st.connection, 1u);
    cr_expect_eq(st.upstream_pid, (uint32_t)getpid());
    cr_expect_eq(st.inbox_bytes, 65536u);
    cr_expect_eq(st.metadata_entries, 64u);
    cr_expect_eq(st.clock.cycles_per_s, sluice_clock()->cycles_per_s);
    cr_expect_eq(st.counters[SLUICE_COUNTER_clients_attached], 2u);
    cr_expect_eq(st.close_count, 0u);
    cr_expect_str_empty(st.peer);
}

Test(state, says_how_far_both_sides_are)
{
    const struct sluice_meta *m;
    serve_bytes(ch, 100);
    serve_bytes(ch, 200);
    cr_assert_eq(sluice_inbox_peek(up, &m, 8), 2);
    cr_assert_eq(sluice_inbox_release(up, 1), 0);
    sluice_inbox_limit(ch);
    sluice_channel_flush(ch);
    sluice_client_state(observer, &st);
    cr_expect_eq(st.inbox_tail, 300u);
    cr_expect_eq(st.inbox_head, 100u);
    cr_expect_eq(st.metadata_tail, 2u);
    cr_expect_eq(st.metadata_head, 1u);
    cr_expect_eq(st.counters[SLUICE_COUNTER_received_bytes], 300u);
    cr_expect_eq(st.counters[SLUICE_COUNTER_received_entries], 2u);
}

Test(state, says_whether_the_engine_sleeps)
{
    sluice_channel_sleep(ch, WAKE_ON_INBOX);
    sluice_client_state(up, &st);
    cr_expect_eq(st.asleep, 1u);
    sluice_channel_sleep(ch, 0);
    sluice_client_state(up, &st);
    cr_expect_eq(st.asleep, 0u);
}

/* ---- texts ---- */

Test(state, texts_stand_in_their_fields)
{
    snprintf(ch->text.peer, sizeof(ch->text.peer), "tcp://h:1 (10.0.0.1)");
    snprintf(ch->text.backend, sizeof(ch->text.backend), "uring");
    snprintf(ch->text.backend_reason, sizeof(ch->text.backend_reason), "it works");
    snprintf(ch->text.model, sizeof(ch->text.model), "single");
    snprintf(ch->text.model_reason, sizeof(ch->text.model_reason), "asked for");
    snprintf(ch->text.tls, sizeof(ch->text.tls), "none");
    snprintf(ch->text.tls_reason, sizeof(ch->text.tls_reason), "plain TCP");
    sluice_client_state(observer, &st);
    cr_expect_str_empty(st.peer, "not published yet");
    sluice_channel_publish_text(ch);
    sluice_client_state(observer, &st);
    cr_expect_str_eq(st.peer, "tcp://h:1 (10.0.0.1)");
    cr_expect_str_eq(st.backend, "uring");
    cr_expect_str_eq(st.backend_reason, "it works");
    cr_expect_str_eq(st.model, "single");
    cr_expect_str_eq(st.model_reason, "asked for");
    cr_expect_str_eq(st.tls, "none");
    cr_expect_str_eq(st.tls_reason, "plain TCP");
}

static void fill_text(char letter, uint64_t count)
{
    struct state_text *t = &ch->text;
    memset(t, letter, sizeof(*t));
    t->close_count = count;
}

Test(state, a_text_without_an_end_is_cut)
{
    fill_text('x', 0);
    sluice_channel_publish_text(ch);
    memset(ch->header->name, 'n', sizeof(ch->header->name));
    sluice_client_state(observer, &st);
    cr_expect_eq(strlen(st.peer), sizeof(st.peer) - 1);
    cr_expect_eq(strlen(st.backend), sizeof(st.backend) - 1);
    cr_expect_eq(strlen(st.backend_reason), sizeof(st.backend_reason) - 1);
    cr_expect_eq(strlen(st.model), sizeof(st.model) - 1);
    cr_expect_eq(strlen(st.model_reason), sizeof(st.model_reason) - 1);
    cr_expect_eq(strlen(st.tls), sizeof(st.tls) - 1);
    cr_expect_eq(strlen(st.tls_reason), sizeof(st.tls_reason) - 1);
    cr_expect_eq(strlen(st.name), sizeof(st.name) - 1);
}

static atomic_bool over;

static void *write_texts(void *arg)
{
    (void)arg;
    for (uint64_t n = 0; !atomic_load_explicit(&over, memory_order_relaxed); n++) {
        fill_text((char)('a' + n % 26), n);
        sluice_channel_publish_text(ch);
        for (int i = 0; i < 200; i++) /* readers need a moment between two */
            sluice_pause();
        if (n % 64 == 0)
            sched_yield();
    }
    return NULL;
}

/* All of one letter, and that of its number. */
static bool is_whole(const struct sluice_state *s)
{
    const char *closes = (const char *)s->closes;
    char letter = (char)('a' + s->close_count % 26);
    for (size_t i = 0; i < sizeof(s->closes); i++)
        if (closes[i] != letter)
            return false;
    for (size_t i = 0; i + 1 < sizeof(s->peer); i++)
        if (s->peer[i] != letter)
            return false;
    return s->tls_reason[0] == letter && s->backend[30] == letter && s->model_reason[126] == letter;
}

Test(state, texts_are_never_torn)
{
    pthread_t writer;
    uint64_t seen = 0, changes = 0;
    needs_two_cores();
    fill_text('a', 0);
    sluice_channel_publish_text(ch);
    cr_assert_eq(pthread_create(&writer, NULL, write_texts, NULL), 0);
    uint64_t start = sluice_monotonic_ns();
    for (int i = 0; i < 20000 || changes <= 100; i++) {
        cr_assert_lt(sluice_monotonic_ns() - start, 20 * SLUICE_NS_PER_S);
        sluice_client_state(observer, &st);
        cr_assert(is_whole(&st), "read %d, number %lu", i, (unsigned long)st.close_count);
        cr_assert_geq(st.close_count, seen);
        changes += st.close_count != seen;
        if (st.close_count == seen)
            sched_yield();
        seen = st.close_count;
    }
    atomic_store(&over, true);
    pthread_join(writer, NULL);
}

/* It stopped in the middle of a text: the rest of the block is still worth reading. */
Test(state, an_engine_stuck_while_writing_does_not_hang_readers)
{
    snprintf(ch->text.peer, sizeof(ch->text.peer), "half");
    sluice_channel_publish_text(ch);
    atomic_fetch_add(&ch->shared->text_version, 1);
    uint64_t start = sluice_monotonic_ns();
    sluice_client_state(observer, &st);
    cr_expect_lt(sluice_monotonic_ns() - start, 5 * SLUICE_NS_PER_S);
    cr_expect_eq(st.inbox_bytes, 65536u);
    cr_expect_str_eq(st.peer, "half");
}

/* ---- close records ---- */

Test(state, the_last_close_records_are_kept)
{
    for (uint32_t n = 0; n < 2 * SLUICE_CLOSE_RECORDS + 3; n++) {
        const struct sluice_close_record r = {.connection = n + 1, .reason = n, .inbox_end = 7 * n};
        sluice_channel_add_close(ch, &r);
        sluice_client_state(observer, &st);
        cr_assert_eq(st.close_count, n + 1);
        uint32_t kept = n + 1 < SLUICE_CLOSE_RECORDS ? n + 1 : SLUICE_CLOSE_RECORDS;
        for (uint32_t k = n + 1 - kept; k <= n; k++) {
            cr_expect_eq(st.closes[k % SLUICE_CLOSE_RECORDS].connection, k + 1);
            cr_expect_eq(st.closes[k % SLUICE_CLOSE_RECORDS].inbox_end, 7 * k);
        }
    }
}

/* ---- waiting for the state ---- */

Test(state, each_change_is_reported_once)
{
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), 0);
    sluice_channel_set_conn_state(ch, SLUICE_CONN_CONNECTING);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), SLUICE_WAIT_STATE);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), 0);
    sluice_channel_set_ready(ch, SLUICE_READY_TCP, 0);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), SLUICE_WAIT_STATE);
    sluice_channel_set_ready(ch, SLUICE_READY_TCP, 0); /* it stands already */
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), 0);
    sluice_channel_publish_text(ch);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), SLUICE_WAIT_STATE);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), 0);
    /* one that waits for other things is not told, and it stays to be told */
    sluice_channel_set_conn_state(ch, SLUICE_CONN_OPEN);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_INBOX, 0), 0);
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, 0), SLUICE_WAIT_STATE);
}

Test(state, time_out_is_kept)
{
    uint64_t start = sluice_monotonic_ns();
    cr_expect_eq(sluice_client_wait(up, SLUICE_WAIT_STATE, S_NS / 20), 0);
    uint64_t past = sluice_monotonic_ns() - start;
    cr_expect_geq(past, (uint64_t)S_NS / 20);
    cr_expect_lt(past, 5 * SLUICE_NS_PER_S);
}

struct waiter {
    struct sluice_client *client;
    unsigned ready; /* 0: any change of the state */
    int result;
    atomic_bool started, done;
};

static void *wait_thread(void *arg)
{
    struct waiter *w = arg;
    atomic_store(&w->started, true);
    w->result = w->ready ? sluice_client_wait_ready(w->client, w->ready, 10 * S_NS)
                         : sluice_client_wait(w->client, SLUICE_WAIT_STATE, 10 * S_NS);
    atomic_store(&w->done, true);
    return NULL;
}

static void sleep_ms(int ms)
{
    poll(NULL, 0, ms);
}

static pthread_t start_waiter(struct waiter *w)
{
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, wait_thread, w), 0);
    while (!atomic_load(&w->started))
        sleep_ms(1);
    sleep_ms(20); /* asleep by now; if not, the test is weaker and still right */
    cr_expect_not(atomic_load(&w->done));
    return thread;
}

Test(state, a_sleeper_is_woken_by_the_flush)
{
    struct waiter w = {.client = up};
    pthread_t thread = start_waiter(&w);
    uint64_t start = sluice_monotonic_ns();
    sluice_channel_set_conn_state(ch, SLUICE_CONN_OPEN);
    sluice_channel_flush(ch);
    pthread_join(thread, NULL);
    cr_expect_eq(w.result, SLUICE_WAIT_STATE);
    cr_expect_lt(sluice_monotonic_ns() - start, 5 * SLUICE_NS_PER_S);
    cr_expect_eq(ch->shared->counters[SLUICE_COUNTER_doorbells], 1u);
}

/* It has no word to say that it sleeps: it looks every millisecond. */
Test(state, a_sleeping_observer_sees_it_too)
{
    struct waiter w = {.client = observer};
    pthread_t thread = start_waiter(&w);
    sluice_channel_set_conn_state(ch, SLUICE_CONN_OPEN);
    sluice_channel_flush(ch);
    pthread_join(thread, NULL);
    cr_expect_eq(w.result, SLUICE_WAIT_STATE);
}

/* ---- ready flags ---- */

Test(state, wait_ready_wants_all_its_bits)
{
    const unsigned both = SLUICE_READY_TCP | SLUICE_READY_TLS;
    cr_expect_eq(sluice_client_wait_ready(up, SLUICE_READY_TCP, 0), -ETIMEDOUT);
    sluice_channel_set_ready(ch, SLUICE_READY_TCP, 0);
    cr_expect_eq(sluice_client_wait_ready(up, SLUICE_READY_TCP, 0), 0);
    cr_expect_eq(sluice_client_wait_ready(up, both, 0), -ETIMEDOUT);
    cr_expect_eq(sluice_client_wait_ready(up, both, S_NS / 50), -ETIMEDOUT);
    sluice_channel_set_ready(ch, SLUICE_READY_TLS | SLUICE_READY_UPSTREAM, 0);
    cr_expect_eq(sluice_client_wait_ready(up, both, 0), 0);
    cr_expect_eq(sluice_client_wait_ready(observer, both, 0), 0); /* more is fine */
    sluice_channel_set_ready(ch, 0, SLUICE_READY_TCP);
    cr_expect_eq(sluice_client_wait_ready(up, both, 0), -ETIMEDOUT);
    sluice_client_state(up, &st);
    cr_expect_eq(st.ready, SLUICE_READY_TLS | SLUICE_READY_UPSTREAM);
}

Test(state, wait_ready_sleeps_until_the_last_bit)
{
    struct waiter w = {.client = up, .ready = SLUICE_READY_TCP | SLUICE_READY_TLS};
    pthread_t thread = start_waiter(&w);
    sluice_channel_set_ready(ch, SLUICE_READY_TLS, 0);
    sluice_channel_flush(ch);
    sleep_ms(20);
    cr_expect_not(atomic_load(&w.done));
    sluice_channel_set_ready(ch, SLUICE_READY_TCP, 0);
    sluice_channel_flush(ch);
    pthread_join(thread, NULL);
    cr_expect_eq(w.result, 0);
}

Test(state, wait_ready_ends_with_the_connection)
{
    struct waiter w = {.client = up, .ready = SLUICE_READY_TCP};
    pthread_t thread = start_waiter(&w);
    sluice_channel_set_conn_state(ch, SLUICE_CONN_CLOSED);
    sluice_channel_flush(ch);
    pthread_join(thread, NULL);
    cr_expect_eq(w.result, -ECONNABORTED);
}

Test(state, wait_ready_ends_with_the_engine)
{
    struct waiter w = {.client = up, .ready = SLUICE_READY_TCP};
    pthread_t thread = start_waiter(&w);
    sluice_channel_destroy(ch);
    ch = NULL;
    pthread_join(thread, NULL);
    cr_expect_eq(w.result, -EPIPE);
}

/* ---- what an upstream asks for ---- */

Test(state, the_upstreams_own_flag)
{
    cr_expect_eq(sluice_client_set_ready(observer, 1), -EPERM);
    cr_expect_eq(sluice_client_set_ready(up, 1), 0);
    cr_expect(sluice_channel_has_request(ch));
    sluice_channel_take_requests(ch);
    cr_expect_not(sluice_channel_has_request(ch));
    cr_expect_eq(sluice_client_wait_ready(observer, SLUICE_READY_UPSTREAM, 0), 0);
    cr_expect_eq(sluice_client_set_ready(up, 0), 0);
    sluice_channel_take_requests(ch);
    cr_expect_eq(sluice_client_wait_ready(observer, SLUICE_READY_UPSTREAM, 0), -ETIMEDOUT);
    cr_expect_not(ch->close_requested);
}

Test(state, each_request_to_close_counts)
{
    cr_expect_eq(sluice_client_request_close(observer), -EPERM);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(sluice_client_request_close(up), 0);
        cr_expect_eq(sluice_client_set_ready(up, i % 2), 0); /* leaves it asked for */
        sluice_channel_take_requests(ch);
        cr_expect(ch->close_requested);
        ch->close_requested = false;
        sluice_channel_take_requests(ch);
        cr_expect_not(ch->close_requested);
    }
}
