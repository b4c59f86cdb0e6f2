/*
 * A transport in its parts: how a connection begins (transport_begin.c) and begins again, how it
 * ends (transport_end.c), what each turn of the loop does for it (transport.c). The bytes
 * themselves are rx.c's and tx.c's.
 */
#ifndef SLUICE_TRANSPORT_H
#define SLUICE_TRANSPORT_H

#include "dial.h"
#include "doorman.h"
#include "model.h"
#include "paths.h"
#include "retry.h"
#include "base/check.h"
#include "base/system.h"

struct sluice_transport {
    struct sluice_loop *loop;
    struct sluice_channel *ch;
    struct sluice_transport_events events;
    void *user;
    struct sluice_life_config life_cfg;
    const struct sluice_tls_config *tls_cfg;
    const char *tls_provider;
    enum sluice_ktls ktls;
    uint64_t drain_timeout_ns;

    struct sluice_life life;
    struct sluice_dial dial;
    struct sluice_cores cores; /* of whoever asked for a connection: names are looked up there */
    struct sluice_secure secure;
    struct sluice_rx rx;
    struct sluice_tx tx;
    struct sluice_crew crew;
    uint32_t receive_core, send_core;
    struct sluice_doorman doorman;
    struct sluice_source source;
    struct sluice_client *upstream; /* in-line, or NULL */

    uint32_t connection;    /* number of the one that is open, or of the next */
    uint64_t opened_ns;     /* CLOCK_REALTIME, 0: not open yet */
    uint64_t open_since_ns; /* the loop's clock, which nobody sets */
    bool ending;            /* in order: no more than what stands in the outboxes leaves */
    bool ending_first;      /* before the peer's end */
    bool end_begun;         /* tx was told; fin follows */
    bool fin_sent;
    bool tls_failed;  /* over, as soon as the alert that says so has left */
    bool send_failed; /* the peer reads no more */
    struct sluice_timer drain;
    struct sluice_timer watch; /* for silence */
    uint64_t silence_ns;
    uint64_t silence_bytes, silence_since_ns; /* received up to then; the loop's clock */
    struct sluice_retry retry;
    struct sluice_timer again; /* the wait before the next attempt, or for a close meanwhile */
    bool again_due;            /* it is over, and the upstream has yet to make room */
    uint64_t acked_seen;       /* when the drain limit last ran out */
    uint64_t heartbeat_ns;
    uint64_t control_ns; /* when records without data were last forgiven */
    uint64_t inbox_seen; /* metadata tail last shown to on_inbox */
};

/* ---- transport_begin.c ---- */

void sluice_transport_secure(struct sluice_life *c); /* events of its life */
void sluice_transport_opened(struct sluice_life *c);
int sluice_transport_receive(struct sluice_transport *t);

/* Its connection is over, and is worth another: wait for it, then try. */
void sluice_transport_wait(struct sluice_transport *t, const struct sluice_close_record *record);
void sluice_transport_try_again(struct sluice_transport *t); /* every turn: again_due */

/* ---- transport_end.c ---- */

void sluice_transport_consider_end(struct sluice_transport *t);
void sluice_transport_restart_drain(struct sluice_transport *t);
void sluice_transport_wait_for_alert(struct sluice_transport *t); /* ours, to leave first */
void sluice_transport_watch(struct sluice_transport *t);          /* it is open: for silence */
void sluice_transport_closed(struct sluice_life *c);              /* event of its life */

static inline struct sluice_transport *sluice_transport_of(struct sluice_life *c)
{
    return SLUICE_CONTAINER_OF(c, struct sluice_transport, life);
}

/* Why beyond the reason, for sluice_transport_why(). */
void sluice_transport_refuse(struct sluice_transport *t, const char *why);

#endif
