/*
 * What a run of sluice ws amounts to: counts, and the latency of each stage from the metadata
 * stamps.
 */
#ifndef SLUICE_TOOLS_WS_REPORT_H
#define SLUICE_TOOLS_WS_REPORT_H

#include "stages.h"

#include <sluice/channel.h>

struct report {
    uint64_t messages, bytes; /* received, payload */
    uint64_t pings_answered;
    uint64_t messages_sent;
    struct stages stages;
};

/** One JSON object into the file at path: 0, or an exit code after one line on stderr. */
int report_write(const struct report *r, const struct sluice_client *client, const char *path);

#endif
