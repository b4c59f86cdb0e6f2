/*
 * What a run of sluice ws amounts to.
 */
#include "ws_report.h"

#include "fail.h"
#include "json.h"

#include <errno.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

void report_init(struct report *r, const struct sluice_client *client)
{
    struct sluice_state st;
    sluice_client_state(client, &st);
    r->cycles_are_tsc = st.clock.is_tsc != 0;
    r->ns_per_cycle = 1e9 / (double)st.clock.cycles_per_s;
}

uint64_t report_cycles(const struct report *r)
{
#if defined(__x86_64__)
    if (r->cycles_are_tsc)
        return __rdtsc();
#endif
    struct timespec now;
    (void)r;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* 0 is "not known". Stamps of two cores may differ by a few cycles the wrong way round. */
static void record(const struct report *r, struct hist *h, uint64_t from, uint64_t to)
{
    if (from == 0 || to == 0)
        return;
    hist_record(h, to > from ? (uint64_t)((double)(to - from) * r->ns_per_cycle) : 0);
}

void report_entries(struct report *r, const struct sluice_meta *entries, uint32_t count)
{
    uint64_t now = report_cycles(r);
    for (uint32_t i = 0; i < count; i++) {
        const struct sluice_meta *m = &entries[i];
        if (m->event != SLUICE_EVENT_DATA)
            continue;
        record(r, &r->arrival_to_inbox, m->latest_nic_frame_poll_cycle, m->ssl_read_cycle);
        record(r, &r->inbox_to_upstream, m->ssl_read_cycle, now);
        record(r, &r->arrival_to_upstream, m->latest_nic_frame_poll_cycle, now);
    }
}

static void write_stage(struct json *j, const char *name, const struct hist *h)
{
    json_open(j, name, '{');
    json_number(j, "count", h->count);
    json_number(j, "p50_ns", hist_percentile(h, 50));
    json_number(j, "p99_ns", hist_percentile(h, 99));
    json_number(j, "p99_9_ns", hist_percentile(h, 99.9));
    json_number(j, "max_ns", hist_percentile(h, 100));
    json_close(j, '}');
}

int report_write(const struct report *r, const struct sluice_client *client, const char *path)
{
    struct sluice_state st;
    struct json j = {.out = fopen(path, "w")};
    if (!j.out)
        return fail_errno(-errno, "--report %s", path);
    sluice_client_state(client, &st);
    json_open(&j, NULL, '{');
    json_number(&j, "messages", r->messages);
    json_number(&j, "payload_bytes", r->bytes);
    json_number(&j, "pings_answered", r->pings_answered);
    json_number(&j, "messages_sent", r->messages_sent);
    json_text(&j, "peer", st.peer);
    json_text(&j, "backend", st.backend);
    json_text(&j, "backend_reason", st.backend_reason);
    json_text(&j, "model", st.model);
    json_text(&j, "model_reason", st.model_reason);
    json_text(&j, "tls", st.tls);
    json_text(&j, "tls_reason", st.tls_reason);
    write_stage(&j, "arrival_to_inbox", &r->arrival_to_inbox);
    write_stage(&j, "inbox_to_upstream", &r->inbox_to_upstream);
    write_stage(&j, "arrival_to_upstream", &r->arrival_to_upstream);
    json_close(&j, '}');
    return fclose(j.out) ? fail_errno(-errno, "--report %s", path) : 0;
}
