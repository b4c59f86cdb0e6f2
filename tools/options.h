/*
 * The options of all commands: one table (options.c) gives each its key, its default, its range and
 * its help. Defaults < config file < environment (SLUICE_KEY) < flags. Values only; no behaviour.
 */
#ifndef SLUICE_TOOLS_OPTIONS_H
#define SLUICE_TOOLS_OPTIONS_H

#include <sluice/sluice.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define OPTION_LIST_MAX 64u /* entries of a repeatable option */
#define OPTION_ARGS_MAX 16u

/* Which commands an option is for. */
#define FOR_RUN   0x01u
#define FOR_CAT   0x02u
#define FOR_WS    0x04u
#define FOR_STAT  0x08u
#define FOR_PROBE 0x10u
#define FOR_LOAD  0x20u
#define FOR_FEED  0x40u /* a section of run's config file: one of its connections */
#define FOR_CONN  (FOR_RUN | FOR_CAT | FOR_WS | FOR_LOAD)
#define FOR_EACH  (FOR_CONN | FOR_FEED)
#define FOR_ALL   (FOR_CONN | FOR_STAT | FOR_PROBE)

#define OPTION_CORES_MAX 3u /* of the thread that owns the loop, that receives, that sends */

struct option_cores {
    int64_t core[OPTION_CORES_MAX];
    uint32_t count;
};

/* From least to most, both included. */
struct option_span {
    int64_t least, most;
};

struct option_list {
    const char *items[OPTION_LIST_MAX];
    uint32_t count;
    uint32_t layer; /* that set it: a later one replaces it */
};

/** The values. Texts live until the process ends. Unset: NULL for texts, -1 for fifo. */
struct options {
    unsigned command; /* FOR_* of the command that runs */
    const char *args[OPTION_ARGS_MAX];
    uint32_t arg_count;
    int argc; /* what the values were read from */
    char **argv;
    const char *section; /* of the config file, whose keys count as well; NULL: none */
    const char *url;     /* its URL */
    bool help;

    /* run, cat, ws */
    const char *name;
    const char *backend; /* auto, uring, ev, ev:EVENT */
    const char *event;   /* auto, epoll, poll, select, linuxaio, kqueue */
    const char *prefer;  /* name of a connection */
    const char *model;   /* auto, single, two-thread, three-thread */
    struct option_cores cores;
    const char *idle; /* busy, spin, sleep; --busy sets it; see options_idle() */
    int64_t spin_us;
    struct option_list resolve; /* HOST:PORT:ADDRESS */
    int64_t connect_timeout_ns;
    bool once;
    int64_t reconnect_min_ns, reconnect_max_ns, reconnect_reset_ns; /* run */
    bool keep_outbox;
    const char *no_upstream;                           /* hold, discard */
    int64_t silence_ns, keepalive_ns, user_timeout_ns; /* 0: none */
    int64_t inbox_bytes, outbox_bytes;
    int64_t metadata_entries, pongs_slots;
    int64_t rcvbuf_bytes, sndbuf_bytes; /* 0: the system's */
    const char *timestamps;             /* off, software, hardware */
    bool mlock;
    int64_t fifo; /* priority */
    const char *log_level, *log_file;
    const char *config;
    bool sandbox; /* run, cat, ws */

    /* run, cat, ws with tls:// or wss:// */
    const char *ca, *crl, *cert, *key;
    const char *verify_name, *sni, *alpn, *pin_sha256;
    const char *tls_min; /* 1.2, 1.3 */
    const char *ciphers, *tls_provider, *ktls;
    int64_t tls_timeout_ns;
    bool tls_no_verify;
    bool keylog; /* to the file that SSLKEYLOGFILE names */

    /* ws, load */
    const char *path;
    struct option_list headers; /* NAME: VALUE */
    int64_t count;              /* messages to receive (load: to send), 0: no limit */

    /* ws */
    struct option_list sends; /* TEXT */
    const char *report;       /* file for counts and latencies at the end */

    /* load */
    int64_t connections;
    int64_t depth; /* 0: 1, or 64 in rate */
    int64_t rate;  /* messages/s, of all connections together; 0: none given */
    struct option_span size_bytes;
    int64_t duration_ns, warmup_ns;
    const char *direction; /* out, in, both */
    bool verify;
    const char *hgrm, *plot; /* files */
    const char *engine;      /* name of a channel */
    bool resume;             /* connect: TLS sessions of a ticket */
    bool in_process;         /* an engine of our own, on a thread */
    const char *serve;       /* echo, sink, source, feed */
    int64_t burst;           /* feed: messages, once a second */
    bool compare;

    /* stat, probe, load */
    bool json;
};

/** --idle as the library names it. */
enum sluice_idle options_idle(const struct options *o);

/** --ktls as the library names it. */
enum sluice_ktls options_ktls(const struct options *o);

/**
 * Fill in the values from all four sources. argv[0] is the first word after the command's name.
 *
 * @return 0, or an exit code after one line on stderr. With --help: 0 and o->help.
 */
int options_read(struct options *o, unsigned command, int argc, char **argv);

/** The same for one connection of several: with the keys of that section of the config file. */
int options_read_section(struct options *o, const struct options *of_all, const char *section);

/** The sections of the config file that was read, in its order: how many there are. */
uint32_t options_sections(const char *out[OPTION_ARGS_MAX]);

/** The rows of the table for one command (FOR_*): flags, defaults, help. */
void options_help(FILE *out, unsigned command);

#endif
