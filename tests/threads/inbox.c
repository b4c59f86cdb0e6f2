/*
 * MSG_INBOX and MSG_METADATA between threads: an engine that publishes all it can into the smallest
 * ring, an upstream that checks every byte, an observer that is overtaken. One thread at a time is
 * unit/test_inbox.c's.
 */
#include "tests/support/one_view.h"
#include "tests/support/serve.h"
#include "tests/support/threads.h"

#include <sched.h>

#define INBOX   65536u
#define ENTRIES 64u

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

static struct sluice_channel *ch;
static struct sluice_client *up, *observer;
static uint64_t deadline, seed;
static atomic_bool engine_over, upstream_over;

/* ---- the engine ---- */

static uint64_t published;
static struct finding engine_finding;

/* Some bytes, if there is room: merged into one entry when the entries are full. */
static uint32_t publish_some(uint64_t *s)
{
    const struct sluice_meta stamps = {.first_nic_frame_poll_cycle = ch->inbox.tail};
    uint32_t bytes = random_below(s, 8) ? random_between(s, 1, 300) : random_between(s, 1, 20000);
    uint64_t limit = sluice_inbox_limit(ch);
    if (limit - ch->inbox.tail < bytes)
        bytes = (uint32_t)(limit - ch->inbox.tail);
    if (!bytes)
        return 0;
    /* half is lent ahead, as the rx path does: in front of observers too */
    uint64_t ahead = ch->inbox.tail + INBOX / 2;
    sluice_inbox_lend(ch, ahead < limit ? ahead : limit);
    sluice_inbox_lend(ch, ch->inbox.tail + bytes);
    for (uint32_t i = 0; i < bytes; i++)
        ch->inbox.base[(ch->inbox.tail + i) & (INBOX - 1)] = served_byte(ch->inbox.tail + i);
    sluice_inbox_arrived(ch, &stamps, bytes);
    return bytes;
}

static void *run_engine(void *arg)
{
    uint64_t s = seed + 1, events = 0;
    (void)arg;
    while (sluice_monotonic_ns() < deadline) {
        for (int i = 0; i < 50; i++) {
            published += publish_some(&s);
            if (random_below(&s, 500) == 0 && sluice_inbox_has_room_to_open(ch))
                serve_control(ch,
                              events++ % 2 ? SLUICE_EVENT_DISCONNECTED : SLUICE_EVENT_CONNECTED);
            sluice_inbox_flush_pending(ch);
            sluice_channel_flush(ch);
            dawdle(&s);
        }
        if (found(&engine_finding, ch->corrupt, "the upstream was taken for a liar", published))
            break;
    }
    while (!sluice_inbox_flush_pending(ch) && !ch->corrupt)
        sched_yield();
    sluice_channel_flush(ch);
    atomic_store(&engine_over, true);
    return NULL;
}

/* ---- the upstream ---- */

static uint64_t taken, kept_times;
static struct finding upstream_finding;

static bool bytes_ok(const struct sluice_client *c, uint64_t from, uint64_t count)
{
    const uint8_t *at = sluice_inbox_at(c, from);
    for (uint64_t i = 0; i < count; i++)
        if (at[i] != served_byte(from + i))
            return false;
    return true;
}

/* All of them, some of them, or with the last bytes kept for the next time. */
static void release_some(const struct sluice_meta *m, uint32_t n, uint64_t *s)
{
    uint32_t some = random_below(s, 4) ? n : random_between(s, 0, n);
    int err;
    if (some && random_below(s, 3) == 0) {
        uint64_t end = m[some - 1].msg_inbox_offset + m[some - 1].decrypted_len;
        uint64_t from = sluice_inbox_position(up);
        uint64_t keep = random_below(s, (end - from < 5000 ? end - from : 5000) + 1);
        err = sluice_inbox_release_to(up, some, end - keep);
        kept_times += keep > 0;
    } else {
        err = sluice_inbox_release(up, some);
    }
    found(&upstream_finding, err != 0, "a release was refused", taken);
}

/* Bytes that were kept are read again: they must still be what they were. */
static int64_t take_some(uint64_t *s)
{
    const struct sluice_meta *m;
    int64_t n = sluice_inbox_peek(up, &m, random_between(s, 1, ENTRIES));
    if (n <= 0)
        return n;
    uint64_t position = sluice_inbox_position(up), first = m[0].msg_inbox_offset;
    found(&upstream_finding, !bytes_ok(up, position, first - position), "kept bytes changed",
          first);
    for (int64_t i = 0; i < n; i++) {
        uint64_t at = m[i].msg_inbox_offset;
        found(&upstream_finding, i > 0 && at != m[i - 1].msg_inbox_offset + m[i - 1].decrypted_len,
              "a gap", at);
        found(&upstream_finding, !bytes_ok(up, at, m[i].decrypted_len), "wrong bytes", at);
        if (m[i].event == SLUICE_EVENT_DATA)
            found(&upstream_finding, m[i].first_nic_frame_poll_cycle != at, "a wrong stamp", at);
        taken = at + m[i].decrypted_len;
    }
    release_some(m, (uint32_t)n, s);
    return n;
}

static void *run_upstream(void *arg)
{
    uint64_t s = seed + 2;
    (void)arg;
    for (;;) {
        bool over = atomic_load(&engine_over);
        int64_t n = take_some(&s);
        if (found(&upstream_finding, n < 0, "nonsense", taken) || upstream_finding.text)
            break;
        if (n == 0 && over)
            break;
        dawdle(&s);
    }
    atomic_store(&upstream_over, true);
    return NULL;
}

/* ---- the observer ---- */

static uint64_t observed, overtaken;
static struct finding observer_finding;

/* It reads bytes that the engine may overwrite at that moment and learns afterwards whether it did:
 * a race by design, so under TSan it looks at the entries only. */
static void observe_some(uint64_t *s)
{
    const struct sluice_meta *m;
    bool all_ok = true;
    int64_t n = sluice_inbox_peek(observer, &m, random_between(s, 1, 20));
    overtaken += n == -ESTALE;
    if (n <= 0)
        return;
    for (int64_t i = 0; i < n; i++) {
        uint64_t at = m[i].msg_inbox_offset;
        found(&observer_finding, m[i].decrypted_len > INBOX, "a torn length", at);
        found(&observer_finding, i > 0 && at != m[i - 1].msg_inbox_offset + m[i - 1].decrypted_len,
              "a gap", at);
        if (m[i].event == SLUICE_EVENT_DATA)
            found(&observer_finding, m[i].first_nic_frame_poll_cycle != at, "a torn entry", at);
        if (!UNDER_TSAN && !observer_finding.text)
            all_ok &= bytes_ok(observer, at, m[i].decrypted_len);
    }
    int err = sluice_inbox_release(observer, (uint32_t)n);
    overtaken += err == -ESTALE;
    found(&observer_finding, err == 0 && !all_ok, "wrong bytes, and nothing said so",
          m[0].msg_inbox_offset);
    observed += err == 0 ? (uint64_t)n : 0;
}

static void *run_observer(void *arg)
{
    uint64_t s = seed + 3;
    (void)arg;
    while (!atomic_load(&upstream_over) && !observer_finding.text) {
        observe_some(&s);
        if (random_below(&s, 100) == 0) /* long enough to be overtaken */
            for (int i = 0; i < 20; i++)
                sched_yield();
    }
    return NULL;
}

int main(void)
{
    const struct sluice_channel_config cfg = {.inbox_bytes = INBOX, .metadata_entries = ENTRIES};
    struct one_view up_view, observer_view;
    pthread_t threads[3];
    tap_begin();
    seed = threads_seed();
    must(sluice_channel_create(&ch, &cfg));
    must(sluice_attach_local(&up, ch, SLUICE_UPSTREAM));
    must(sluice_attach_local(&observer, ch, SLUICE_OBSERVER));
    one_view_open(&up_view, ch, up);
    one_view_open(&observer_view, ch, observer);
    deadline = threads_deadline(3000, 20000);
    start_thread(&threads[0], run_upstream, NULL);
    start_thread(&threads[1], run_observer, NULL);
    start_thread(&threads[2], run_engine, NULL);
    for (int i = 0; i < 3; i++)
        join_thread(threads[i]);

    tap_finding(&engine_finding, "the engine");
    tap_finding(&upstream_finding, "the upstream");
    tap_finding(&observer_finding, "the observer");
    tap_ok(taken == published && published > 10 * INBOX, "every byte, once: %llu of %llu",
           (unsigned long long)taken, (unsigned long long)published);
    tap_ok(kept_times > 0, "bytes were kept %llu times", (unsigned long long)kept_times);
    tap_ok(observed + overtaken > 0, "%llu entries observed, %llu times overtaken",
           (unsigned long long)observed, (unsigned long long)overtaken);
    const shared_u64 *counters = ch->shared->counters;
    tap_ok(counters[SLUICE_COUNTER_merged_receives] > 0, "%llu receives were merged",
           (unsigned long long)counters[SLUICE_COUNTER_merged_receives]);
    one_view_close(&up_view, ch, up);
    one_view_close(&observer_view, ch, observer);
    sluice_detach(up);
    sluice_detach(observer);
    sluice_channel_destroy(ch);
    return tap_end();
}
