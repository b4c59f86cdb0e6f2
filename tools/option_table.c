/*
 * The option table. Flags, config files, environment, --help and the README's table of defaults
 * come from these rows; a new option is a new row and a field in struct options. No parsing here.
 */
#include "option_table.h"

#include <string.h>

#define AT(field) offsetof(struct options, field)
#define KI        (1ll << 10)
#define MI        (1ll << 20)
#define GI        (1ll << 30)
#define MS        1000000ll
#define SECOND    1000000000ll

/* clang-format off: a table is read in columns */
const struct option_row option_rows[] = {
    /* ---- the channel */
    {"name", OPTION_TEXT, FOR_CONN, AT(name), "NAME", NULL, 0, 0,
     "name others attach to; none: \"sluice\" with run, private with cat and ws"},
    {"inbox", OPTION_SIZE, FOR_EACH, AT(inbox_bytes), "SIZE", "1M", 64 * KI, GI,
     "bytes of MSG_INBOX"},
    {"outbox", OPTION_SIZE, FOR_EACH, AT(outbox_bytes), "SIZE", "1M", 64 * KI, GI,
     "bytes of each client's MSG_OUTBOX; the longest message is half of it"},
    {"metadata", OPTION_NUMBER, FOR_EACH, AT(metadata_entries), "N", "4096", 64, MI,
     "entries of MSG_METADATA"},
    {"pongs", OPTION_NUMBER, FOR_EACH, AT(pongs_slots), "N", "64", 16, 64 * KI, "entries of PONGS"},
    /* ---- the connection */
    {"url", OPTION_TEXT, FOR_FEED, AT(url), "URL", NULL, 0, 0, "where to connect"},
    {"resolve", OPTION_LIST, FOR_EACH, AT(resolve), "H:P:A", NULL, 0, 0,
     "host H, port P has address A, no look-up"},
    {"connect-timeout", OPTION_SECONDS, FOR_EACH, AT(connect_timeout_ns), "S", "10", MS,
     86400 * SECOND, "seconds for name look-up and all addresses together, or to wait for NAME"},
    {"once", OPTION_FLAG, FOR_EACH, AT(once), NULL, "false", 0, 0,
     "one connection, then end; without it run connects again (load --serve feed: end with the "
     "first client that heard all)"},
    {"reconnect-min", OPTION_SECONDS, FOR_RUN | FOR_FEED, AT(reconnect_min_ns), "S", "0.1", MS,
     3600 * SECOND,
     "seconds before the second attempt; doubles with each that fails, less a random part"},
    {"reconnect-max", OPTION_SECONDS, FOR_RUN | FOR_FEED, AT(reconnect_max_ns), "S", "30", MS,
     86400 * SECOND, "most seconds between two attempts"},
    {"reconnect-reset", OPTION_SECONDS, FOR_RUN | FOR_FEED, AT(reconnect_reset_ns), "S", "10", MS,
     86400 * SECOND, "after a connection that lasted so many seconds the next attempt is at once"},
    {"keep-outbox", OPTION_FLAG, FOR_RUN | FOR_FEED, AT(keep_outbox), NULL, "false", 0, 0,
     "send on the next connection what stood in MSG_OUTBOX; else it is dropped and counted"},
    {"no-upstream", OPTION_CHOICE, FOR_EACH, AT(no_upstream), "hold|discard", "hold", 0, 0,
     "what is received while nobody is attached to read it: keep it, and let the peer wait when "
     "MSG_INBOX is full, or give it up and count it"},
    {"silence", OPTION_SECONDS, FOR_EACH, AT(silence_ns), "S", "0", 0, 86400 * SECOND,
     "end a connection on which nothing came for so many seconds; 0: never"},
    {"keepalive", OPTION_SECONDS, FOR_EACH, AT(keepalive_ns), "S", "0", 0, 32767 * SECOND,
     "ask a silent peer after so many seconds whether it is there, three times; 0: never"},
    {"user-timeout", OPTION_SECONDS, FOR_EACH, AT(user_timeout_ns), "S", "0", 0, 86400 * SECOND,
     "end a connection whose peer acknowledged nothing for so many seconds; 0: the system's"},
    {"rcvbuf", OPTION_SIZE, FOR_EACH, AT(rcvbuf_bytes), "SIZE", "0", 0, GI,
     "bytes of SO_RCVBUF; 0: the system's"},
    {"sndbuf", OPTION_SIZE, FOR_EACH, AT(sndbuf_bytes), "SIZE", "0", 0, GI,
     "bytes of SO_SNDBUF; 0: the system's"},
    {"timestamps", OPTION_CHOICE, FOR_EACH, AT(timestamps), "off|software|hardware", "off", 0, 0,
     "when packets came, in MSG_METADATA; not with TLS in the kernel"},
    /* ---- how it runs */
    {"prefer", OPTION_TEXT, FOR_RUN, AT(prefer), "NAME", NULL, 0, 0,
     "of several connections the one to serve first; none: the first"},
    {"backend", OPTION_CHOICE, FOR_CONN, AT(backend),
     "auto|uring|ev|ev:epoll|ev:poll|ev:select|ev:linuxaio|ev:kqueue", "auto", 0, 0,
     "what runs the operations; auto: uring, or ev where io_uring is refused"},
    {"event", OPTION_CHOICE, FOR_CONN, AT(event), "auto|epoll|poll|select|linuxaio|kqueue", "auto",
     0, 0, "how ev waits; sluice probe shows what there is"},
    {"model", OPTION_CHOICE, FOR_CONN, AT(model), "auto|single|two-thread|three-thread", "auto", 0,
     0,
     "which thread runs which path; auto: single, two-thread on libev, three-thread with TLS in "
     "user space"},
    {"idle", OPTION_CHOICE, FOR_CONN, AT(idle), "busy|spin|sleep", "sleep", 0, 0,
     "when nothing is to do: never sleep, spin for --spin-us first, or sleep"},
    {"busy", OPTION_ALIAS, FOR_CONN, AT(idle), NULL, "busy", 0, 0, "same as --idle busy"},
    {"spin-us", OPTION_NUMBER, FOR_CONN, AT(spin_us), "US", "50", 1, 1000000,
     "microseconds to spin with --idle spin"},
    {"core", OPTION_CORES, FOR_CONN, AT(cores), "C[,C[,C]]", NULL, 0, 1023,
     "pin the engine to this core; with threads: its own, of receiving, of sending; load: "
     "its own, then those"},
    {"mlock", OPTION_FLAG, FOR_CONN, AT(mlock), NULL, "false", 0, 0,
     "lock the process's memory (needs RLIMIT_MEMLOCK or CAP_IPC_LOCK)"},
    {"sandbox", OPTION_FLAG, FOR_RUN | FOR_CAT | FOR_WS, AT(sandbox), NULL, "false", 0, 0,
     "once it runs, only the system calls and files it needs (seccomp, Landlock); no core dump"},
    {"fifo", OPTION_NUMBER, FOR_CONN, AT(fifo), "PRIO", NULL, 1, 99,
     "run the engine as SCHED_FIFO (needs RLIMIT_RTPRIO or CAP_SYS_NICE)"},
    /* ---- TLS */
    {"ca", OPTION_TEXT, FOR_EACH, AT(ca), "FILE|DIR", NULL, 0, 0,
     "PEM certificates to trust; none: the system's"},
    {"verify-name", OPTION_TEXT, FOR_EACH, AT(verify_name), "NAME", NULL, 0, 0,
     "name or IP address that the certificate must have; none: the URL's host"},
    {"sni", OPTION_TEXT, FOR_EACH, AT(sni), "NAME", NULL, 0, 0,
     "name to ask for; none: the URL's host"},
    {"alpn", OPTION_TEXT, FOR_EACH, AT(alpn), "P,P", NULL, 0, 0,
     "protocols to offer, the preferred one first"},
    {"cert", OPTION_TEXT, FOR_EACH, AT(cert), "FILE", NULL, 0, 0, "our certificate and chain, PEM"},
    {"key", OPTION_TEXT, FOR_EACH, AT(key), "FILE", NULL, 0, 0, "its private key, PEM"},
    {"pin-sha256", OPTION_TEXT, FOR_EACH, AT(pin_sha256), "H,H", NULL, 0, 0,
     "SHA-256 of the peer's public key, hex or base64: one must match, besides the rest"},
    {"crl", OPTION_TEXT, FOR_EACH, AT(crl), "FILE", NULL, 0, 0, "revocation lists, PEM"},
    {"tls-min", OPTION_CHOICE, FOR_EACH, AT(tls_min), "1.2|1.3", "1.2", 0, 0,
     "oldest version to accept"},
    {"ciphers", OPTION_TEXT, FOR_EACH, AT(ciphers), "C:C", NULL, 0, 0,
     "cipher suites by name, nothing else is offered; none: the safe ones"},
    {"tls-timeout", OPTION_SECONDS, FOR_EACH, AT(tls_timeout_ns), "S", "10", MS, 86400 * SECOND,
     "seconds for the handshake"},
    {"tls-no-verify", OPTION_FLAG, FOR_EACH, AT(tls_no_verify), NULL, "false", 0, 0,
     "do not ask who the peer is: anybody in between can read and change everything"},
    {"tls-provider", OPTION_TEXT, FOR_EACH, AT(tls_provider), "NAME", "auto", 0, 0,
     "library that does TLS: those of this build are in sluice --version"},
    {"ktls", OPTION_CHOICE, FOR_EACH, AT(ktls), "auto|require|off", "auto", 0, 0,
     "TLS in the kernel, both ways: where it can, or not without, or never"},
    {"keylog", OPTION_FLAG, FOR_EACH, AT(keylog), NULL, "false", 0, 0,
     "append the secrets of connections to the file that SSLKEYLOGFILE names"},
    /* ---- WebSocket */
    {"path", OPTION_TEXT, FOR_WS | FOR_LOAD, AT(path), "PATH", NULL, 0, 0,
     "path of the request; none: that of the URL, or /"},
    {"header", OPTION_LIST, FOR_WS | FOR_LOAD, AT(headers), "H: V", NULL, 0, 0,
     "header of the request"},
    {"send", OPTION_LIST, FOR_WS, AT(sends), "TEXT", NULL, 0, 0, "text message to send when open"},
    {"count", OPTION_NUMBER, FOR_WS | FOR_LOAD, AT(count), "N", "0", 0, INT64_MAX,
     "end after N received messages (load: after N were sent or opened); 0: no limit"},
    {"report", OPTION_TEXT, FOR_WS | FOR_LOAD, AT(report), "FILE", NULL, 0, 0,
     "write counts and latencies (a feed: counts) there at the end, as one JSON object"},
    /* ---- load */
    {"connections", OPTION_NUMBER, FOR_LOAD, AT(connections), "N", "1", 1, 65536,
     "connections at the same time (serve: at most, 256 at least)"},
    {"depth", OPTION_NUMBER, FOR_LOAD, AT(depth), "N", "0", 0, MI,
     "messages without an answer, each connection; 0: 1, and 64 in rate"},
    {"rate", OPTION_NUMBER, FOR_LOAD, AT(rate), "R", "0", 0, 100000000,
     "messages per second of all connections together, on a fixed schedule"},
    {"size", OPTION_SPAN, FOR_LOAD, AT(size_bytes), "B|A-B", "64", 1, 16 * MI,
     "bytes of a message, or from A to B, evenly drawn"},
    {"duration", OPTION_SECONDS, FOR_LOAD, AT(duration_ns), "S", "10", MS, 86400 * SECOND,
     "seconds to measure"},
    {"warmup", OPTION_SECONDS, FOR_LOAD, AT(warmup_ns), "S", "0.5", 0, 3600 * SECOND,
     "seconds before that which do not count"},
    {"direction", OPTION_CHOICE, FOR_LOAD, AT(direction), "out|in|both", "out", 0, 0,
     "stream: we send, the peer sends, or it echoes"},
    {"verify", OPTION_FLAG, FOR_LOAD, AT(verify), NULL, "false", 0, 0,
     "number and checksum in every message (16 bytes at least); a fault is exit code 21"},
    {"resume", OPTION_FLAG, FOR_LOAD, AT(resume), NULL, "false", 0, 0,
     "connect: resume TLS sessions; a full handshake stays open until its ticket came"},
    {"engine", OPTION_TEXT, FOR_LOAD, AT(engine), "NAME", NULL, 0, 0,
     "through that engine: outbox, peer, inbox; no URL then"},
    {"in-process", OPTION_FLAG, FOR_LOAD, AT(in_process), NULL, "false", 0, 0,
     "through an engine on a thread of this process"},
    {"serve", OPTION_CHOICE, FOR_LOAD, AT(serve), "echo|sink|source|feed", NULL, 0, 0,
     "be the peer, at URL: port 0 takes a free one and prints it; feed: numbered quotes, --rate a "
     "second (2000) for --duration, to who sends a first message"},
    {"burst", OPTION_NUMBER, FOR_LOAD, AT(burst), "N", "2000", 0, 10000000,
     "feed: so many more once a second, back to back"},
    {"hgrm", OPTION_TEXT, FOR_LOAD, AT(hgrm), "FILE", NULL, 0, 0,
     "write the percentiles there as HdrHistogram does, in microseconds"},
    {"plot", OPTION_TEXT, FOR_LOAD, AT(plot), "FILE", NULL, 0, 0,
     "draw percentiles and time line: FILE.svg or .png by gnuplot; .gp: only its script"},
    {"compare", OPTION_FLAG, FOR_LOAD, AT(compare), NULL, "false", 0, 0,
     "two files that --json wrote, side by side"},
    /* ---- all */
    {"json", OPTION_FLAG, FOR_STAT | FOR_PROBE | FOR_LOAD, AT(json), NULL, "false", 0, 0,
     "one JSON object (load: one per interval and a summary, a line each), units in the names"},
    {"log-level", OPTION_CHOICE, FOR_ALL, AT(log_level), "error|warn|info|debug", "info", 0, 0,
     "least important lines to print on stderr"},
    {"log-file", OPTION_TEXT, FOR_RUN, AT(log_file), "FILE", NULL, 0, 0,
     "append the log there; SIGHUP opens it anew, as after it was moved away; none: stderr"},
    {"config", OPTION_TEXT, FOR_ALL, AT(config), "FILE", NULL, 0, 0,
     "read \"key = value\" lines, keys as the flags here, # starts a comment"},
    {"help", OPTION_HELP, FOR_ALL, AT(help), NULL, "false", 0, 0, "this text"},
};
/* clang-format on */

const size_t option_row_count = sizeof(option_rows) / sizeof(option_rows[0]);

const struct option_row *option_find(const char *key, size_t key_length)
{
    for (size_t i = 0; i < option_row_count; i++)
        if (strlen(option_rows[i].key) == key_length &&
            memcmp(option_rows[i].key, key, key_length) == 0)
            return &option_rows[i];
    return NULL;
}

bool option_is_switch(const struct option_row *row)
{
    return row->metavar == NULL;
}
