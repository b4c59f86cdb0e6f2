/*
 * The fields of sluice load --json as its --help lists them. A test compares them with what is
 * written.
 */
#include "load_tally.h"
#include "tools.h"

#include <string.h>

static const struct {
    const char *key, *text;
} fields[] = {
    {"event", "\"interval\", one per second, or \"summary\", the last line"},
    {"from_ns, to_ns", "interval: when, since what counts began"},
    {"open_connections", "interval: that are open now"},
    {"mode, target, carrier", "summary: what was measured, and what carried it"},
    {"connections, depth, verify", "as asked for"},
    {"rate_per_s", "rate: as asked for"},
    {"size_min_bytes, size_max_bytes", "of a message, as asked for"},
    {"duration_ns, idle_ns", "what counts, and how long of it the load had nothing to do"},
#define FIELD(name, key, text) {key, text},
    LOAD_COUNT_MAP(FIELD)
#undef FIELD
        {"unanswered_messages", "of which no answer came within 2 s"},
    {"unsent_messages", "rate: that were due and never left"},
    {"latency", "rtt: there and back; rate: since it was due; connect: until it was open"},
    {"uncorrected", "rate: since it was sent, as a tool without a schedule has it"},
    {"late", "rate: from due to sent"},
    {"stages", "through an engine; of messages that left together the last one counts"},
    {"outbox_to_send, arrival_to_inbox, inbox_to_upstream, arrival_to_upstream",
     "stages: from the stamps of the outbox and of MSG_METADATA"},
    {"count, p50_ns, p90_ns, p99_ns, p99_9_ns, p99_99_ns, max_ns",
     "of latency, uncorrected, late and each stage"},
    {"machine", "what spoils numbers"},
    {"clock_source, governor, cores", "machine: cores that may be used"},
    {"idle_gaps_before_per_s, idle_gaps_after_per_s, idle_gap_max_ns",
     "machine: of an empty spin, over 50 us"},
    {"cache_line_hop_before_ns, cache_line_hop_after_ns", "machine: to another core and back"},
    {"core_wait_ns, core_wait_ppm", "machine: how long the load waited for its core"},
    {"disturbed", "machine: that was more than 3 %"},
};

void load_help(FILE *out)
{
    fputs("\nFields of --json; integers, null where not known or not of that mode:\n", out);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        bool fits = strlen(fields[i].key) <= 22;
        fprintf(out, fits ? "  %-22s" : "  %s\n                        ", fields[i].key);
        fprintf(out, "  %s\n", fields[i].text);
    }
}
