/*
 * What a run of sluice ws amounts to: counts, and the latency of each stage from the metadata
 * stamps.
 */
#ifndef SLUICE_TOOLS_WS_REPORT_H
#define SLUICE_TOOLS_WS_REPORT_H

#include "hist.h"

#include <sluice/channel.h>

#include <stdbool.h>

struct report {
    uint64_t messages, bytes; /* received, payload */
    uint64_t pings_answered;
    uint64_t messages_sent;
    double ns_per_cycle;
    bool cycles_are_tsc;
    struct hist arrival_to_inbox, inbox_to_upstream, arrival_to_upstream;
};

void report_init(struct report *r, const struct sluice_client *client);

/** Now, in the cycles of the metadata stamps. */
uint64_t report_cycles(const struct report *r);

/** Entries just peeked at: one reading of the clock serves all. */
void report_entries(struct report *r, const struct sluice_meta *entries, uint32_t count);

/** One JSON object into the file at path: 0, or an exit code after one line on stderr. */
int report_write(const struct report *r, const struct sluice_client *client, const char *path);

#endif
