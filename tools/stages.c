/*
 * How long what comes through a channel took on its way: from the stamps in MSG_METADATA.
 */
#include "stages.h"

#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

void stages_init(struct stages *s, const struct sluice_client *client)
{
    struct sluice_state st;
    sluice_client_state(client, &st);
    s->cycles_are_tsc = st.clock.is_tsc != 0;
    s->ns_per_cycle = 1e9 / (double)st.clock.cycles_per_s;
}

/* Now, in the cycles of the stamps. */
static uint64_t cycles_now(const struct stages *s)
{
#if defined(__x86_64__)
    if (s->cycles_are_tsc)
        return __rdtsc();
#endif
    struct timespec now;
    (void)s;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* 0 is "not known". Stamps of two cores may differ by a few cycles the wrong way round. */
static void record(const struct stages *s, struct hist *h, uint64_t from, uint64_t to)
{
    if (from == 0 || to == 0)
        return;
    hist_record(h, to > from ? (uint64_t)((double)(to - from) * s->ns_per_cycle) : 0);
}

void stages_take(struct stages *s, const struct sluice_meta *entries, uint32_t count)
{
    uint64_t now = cycles_now(s);
    for (uint32_t i = 0; i < count; i++) {
        const struct sluice_meta *m = &entries[i];
        if (m->event != SLUICE_EVENT_DATA)
            continue;
        record(s, &s->arrival_to_inbox, m->latest_nic_frame_poll_cycle, m->ssl_read_cycle);
        record(s, &s->inbox_to_upstream, m->ssl_read_cycle, now);
        record(s, &s->arrival_to_upstream, m->latest_nic_frame_poll_cycle, now);
    }
}

void stages_sent(struct stages *s, const struct sluice_outbox_stamp *stamp)
{
    record(s, &s->outbox_to_send, stamp->commit_cycle, stamp->taken_cycle);
}

void stages_write_hist(struct json *j, const char *name, const struct hist *h)
{
    static const struct {
        const char *key;
        double percent;
    } points[] = {{"p50_ns", 50},     {"p90_ns", 90},       {"p99_ns", 99},
                  {"p99_9_ns", 99.9}, {"p99_99_ns", 99.99}, {"max_ns", 100}};
    json_open(j, name, '{');
    json_number(j, "count", h->count);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        if (h->count)
            json_number(j, points[i].key, hist_percentile(h, points[i].percent));
        else
            json_null(j, points[i].key);
    }
    json_close(j, '}');
}

void stages_write(const struct stages *s, struct json *j)
{
    stages_write_hist(j, "arrival_to_inbox", &s->arrival_to_inbox);
    stages_write_hist(j, "inbox_to_upstream", &s->inbox_to_upstream);
    stages_write_hist(j, "arrival_to_upstream", &s->arrival_to_upstream);
}
