/*
 * Round trips through the whole engine: see trips.h.
 */
#include "trips.h"

#include <string.h>

static struct {
    uint32_t bytes;
    int wanted, done;
    double *ns;
    uint64_t received, started;
} run;

static void ask(struct sluice_transport *t)
{
    void *room;
    struct sluice_client *c = sluice_transport_upstream(t);
    run.started = sluice_cycles();
    BENCH_CHECK(sluice_outbox_claim(c, run.bytes, &room) == 0);
    memset(room, run.done, run.bytes);
    sluice_outbox_commit(c, 0, SLUICE_MESSAGE_DATA);
}

static void on_open(struct sluice_transport *t, void *user)
{
    (void)user;
    ask(t);
}

static void on_inbox(struct sluice_transport *t, void *user)
{
    (void)user;
    run.received += engine_take(sluice_transport_upstream(t));
    if (run.received < run.bytes || run.done == run.wanted)
        return;
    run.received -= run.bytes;
    run.ns[run.done++] = bench_ns(sluice_cycles() - run.started);
    if (run.done < run.wanted)
        ask(t);
    else
        sluice_transport_close(t);
}

void trips_in_line(const struct engine_config *cfg, uint32_t bytes, int trips, double *ns)
{
    struct engine_end end;
    struct engine_config own = *cfg;
    own.attach = true;
    own.events = (struct sluice_transport_events){.on_open = on_open, .on_inbox = on_inbox};
    memset(&run, 0, sizeof(run));
    run.bytes = bytes;
    run.wanted = trips;
    run.ns = ns;
    engine_run(&own, &end);
    if (run.done != trips || end.record.received_bytes != (uint64_t)trips * bytes)
        bench_fail("%d of %d round trips, then %s", run.done, trips,
                   sluice_reason_name(end.record.reason));
}
