/*
 * How long what comes through a channel took on its way: from the stamps in MSG_METADATA.
 */
#ifndef SLUICE_TOOLS_STAGES_H
#define SLUICE_TOOLS_STAGES_H

#include "hist.h"
#include "json.h"

#include <sluice/channel.h>

struct stages {
    double ns_per_cycle;
    bool cycles_are_tsc;
    struct hist arrival_to_inbox, inbox_to_upstream, arrival_to_upstream;
    struct hist outbox_to_send; /* for who looks at its outbox; else empty */
};

void stages_init(struct stages *s, const struct sluice_client *client);

/** Entries just peeked at: one reading of the clock serves all. */
void stages_take(struct stages *s, const struct sluice_meta *entries, uint32_t count);

/** A message of our outbox that is sent now. */
void stages_sent(struct stages *s, const struct sluice_outbox_stamp *stamp);

/** An object for each stage, into the one that is open. */
void stages_write(const struct stages *s, struct json *j);

/** One of them, or any other histogram: count, percentiles and maximum, null where it is empty. */
void stages_write_hist(struct json *j, const char *name, const struct hist *h);

#endif
