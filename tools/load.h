/*
 * A run of sluice load, as its files share it: what is to be done (plan), the connections (flows),
 * what carries their bytes (carrier), and what came of it (tallies).
 *
 *   load.c          command, plan, run           load_flow.c     messages of one connection
 *   load_report.c   live line, table, JSON       load_sockets.c  carrier: sockets of our own loop
 *   load_weather.c  what spoils numbers          load_channel.c  carrier: the channel of an engine
 *   load_wire.c     messages as bytes            load_serve.c    the peer
 *   load_plot.c     pictures                     load_compare.c  two runs side by side
 *   load_fields.c   the fields of JSON, for --help
 */
#ifndef SLUICE_TOOLS_LOAD_H
#define SLUICE_TOOLS_LOAD_H

#include "load_tally.h"
#include "load_wire.h"
#include "options.h"
#include "stages.h"
#include "ws_upgrade.h"

enum load_mode { LOAD_RTT, LOAD_RATE, LOAD_STREAM, LOAD_CONNECT, LOAD_IDLE };

/** What a run is to do: options, checked. Texts are borrowed from the options. */
struct load_plan {
    const struct options *options;
    enum load_mode mode;
    const char *mode_name;
    const char *target; /* as it was given: URL, or name of a channel */
    const char *url;    /* of the bytes: tcp://, tls://, unix: */
    char url_room[512];
    const char *path; /* of the upgrade */
    enum wire_kind kind;
    bool by_channel, verify;
    bool tls;            /* of our own: tls://, wss:// without an engine */
    bool sends, answers; /* we send; something is to come back */
    uint32_t connections;
    uint64_t depth;
    double period_ns; /* rate: between two messages; 0: as fast as it goes */
    uint64_t count;   /* messages or connections, UINT64_MAX: no limit */
    uint32_t size_min, size_max;
};

/* One message without an answer. */
struct load_sent {
    int64_t due_ns, sent_ns;
    uint32_t bytes;
    bool counts; /* sent after the warm-up */
};

enum load_flow_state { FLOW_CLOSED, FLOW_OPENING, FLOW_UPGRADING, FLOW_OPEN };

#define LOAD_MISSING_MAX 1024u /* messages passed over that may still come */
#define LOAD_TIMED_MAX   64u

struct load;

/** One connection. */
struct load_flow {
    struct load *load;
    uint32_t index;
    enum load_flow_state state;
    void *carried;   /* the carrier's */
    bool hung_up;    /* by us: its end is as it should be */
    bool peer_ended; /* before us */
    int64_t
        ticket_by_ns; /* connect --resume: a full handshake, open until its ticket came; else 0 */
    int64_t dialled_ns, now_ns;

    uint64_t owed; /* messages that are due; UINT64_MAX: always one more */
    uint64_t sent; /* number of the next one */
    uint64_t next; /* number of the answer that is expected */
    struct load_sent *ring;
    uint64_t ring_mask;
    bool full; /* the carrier took no more: it calls flow_room() */
    uint64_t missing[LOAD_MISSING_MAX];
    uint32_t missing_count;

    struct upgrade upgrade;
    char *answer; /* to the upgrade, so far */
    size_t answer_bytes;
    uint8_t mask[4];
    struct wire_reader reader;
};

/** What brings bytes to the peer and back. Exit codes after one line on stderr. */
struct load_carrier {
    const char *name;
    int (*open)(struct load *load);
    /** Begin to open a connection: flow_opened() or flow_ended() follows. 0, or an exit code. */
    int (*dial)(struct load_flow *flow);
    /** All of it: 0, or -EAGAIN nothing was taken, flow_room() follows, or negative errno. */
    int (*send)(struct load_flow *flow, const uint8_t *bytes, size_t count);
    /** End it: flow_ended() follows. */
    void (*hang_up)(struct load_flow *flow);
    /** What is there now, without sleeping. 0, or an exit code. */
    int (*turn)(struct load *load);
    /** What its handshake was: 0, or -ENOTCONN. NULL: no carrier of connections. */
    int (*tls)(const struct load_flow *flow, struct sluice_tls_facts *out);
    void (*close)(struct load *load);
    /** "uring, single": what carries them. */
    void (*describe)(struct load *load, char *out, size_t out_bytes);
};

/* A second of the time line. */
struct load_moment {
    int64_t to_ns;
    double per_s; /* MB, or connections */
    uint64_t p50_ns, p99_ns, max_ns;
};

struct load {
    struct load_plan plan;
    const struct load_carrier *carrier;
    void *carried; /* the carrier's */
    struct load_flow *flows;
    uint32_t open, opening; /* flows that are */
    struct tally interval, total;
    struct stages *stages;    /* by channel: else NULL */
    int64_t begin_ns;         /* of the schedule; 0: not yet */
    int64_t count_ns, end_ns; /* of what counts */
    uint64_t due;             /* messages that were, so far */
    int64_t idle_ns;          /* of what counts: turns in which nothing happened */
    bool counting;            /* warm-up is over, end is not reached */
    bool ending;              /* nothing becomes due any more */
    uint64_t begun;           /* messages or connections that count were begun */
    uint64_t taken_bytes;     /* that came, whether they count or not */
    int64_t took_ns;          /* when the last of them did */
    uint64_t in_flight;
    uint64_t timed_ns[LOAD_TIMED_MAX]; /* latencies on their way to the histogram */
    uint32_t timed_count;
    uint64_t unsent;             /* rate: were due, and never left */
    int failed;                  /* exit code of what went wrong first, said already */
    struct load_moment *moments; /* for --plot */
    uint32_t moment_count;
    uint8_t *room; /* for one message as bytes */
    uint64_t random;
};

extern const struct load_carrier load_sockets, load_channel;

/* ---- load_flow.c */

int flow_init(struct load_flow *flow, struct load *load, uint32_t index);
void flow_fini(struct load_flow *flow);

/** Send what is due, as far as depth and carrier allow. now: not later than now_ns(). */
void flow_push(struct load_flow *flow, int64_t now);

/** One that waits for its ticket: hang up if it is there, fail if it did not come in time. */
void flow_seek_ticket(struct load_flow *flow);

/** The upgrade was not answered in time. */
void flow_give_up(struct load_flow *flow);

/** Into the interval's histogram with what was timed: when nothing is to do, or before it is read.
 */
void flow_record_timed(struct load *load);

/** From the carrier: it is open, bytes came, there is room again, it ended (why: one line). */
void flow_opened(struct load_flow *flow);
void flow_took(struct load_flow *flow, const uint8_t *bytes, size_t count, int64_t now);
void flow_room(struct load_flow *flow);
void flow_ended(struct load_flow *flow, enum sluice_reason reason, const char *why);

/* ---- load_serve.c */

/** The peer of others, at the URL that is the first argument, until a signal: an exit code. */
int load_serve(struct options *o);

#endif
