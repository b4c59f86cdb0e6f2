/*
 * Why something ended: one table for close records, start-up refusals and exit codes.
 * Public (installs as sluice/reason.h). No behaviour lives here, only the table and its look-ups.
 */
#ifndef SLUICE_REASON_H
#define SLUICE_REASON_H

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SLUICE_API
#define SLUICE_API __attribute__((visibility("default")))
#endif

/**
 * X(symbol, number, name, exit code, class, text). Numbers and exit codes are frozen: they stand in
 * shared memory and in people's scripts. New rows take free numbers.
 *
 * Class: CLEAN ended as asked; RETRY a new attempt may succeed; FATAL it will not until somebody
 * changes something. The text says what to do about it.
 */
#define SLUICE_REASON_MAP(X)                                                                     \
    X(NONE, 0, "none", 0, CLEAN, "nothing happened")                                             \
    X(LOCAL_CLOSE, 1, "local-close", 0, CLEAN, "closed by this side")                            \
    X(PEER_CLOSE, 2, "peer-close", 0, RETRY, "the peer closed its side in order")                \
    X(INTERNAL, 3, "internal", 1, FATAL, "a bug or an unexpected error: please report the line") \
    X(USAGE, 4, "usage", 2, FATAL, "see --help")                                                 \
    X(RECONNECT, 5, "reconnect", 0, RETRY, "a new connection was asked for")                     \
    X(UNRESOLVED, 10, "unresolved", 10, RETRY,                                                   \
      "the name has no address: check it, or give one with --resolve HOST:PORT:ADDRESS")         \
    X(REFUSED, 11, "refused", 11, RETRY, "nothing listens there: check host and port")           \
    X(TIMED_OUT, 12, "timed-out", 12, RETRY,                                                     \
      "no answer in time: check the route and firewalls, or raise --connect-timeout")            \
    X(UNREACHABLE, 13, "unreachable", 13, RETRY, "no route: check the network of this host")     \
    X(RESET, 14, "reset", 14, RETRY, "the connection broke")                                     \
    X(PEER_GONE, 15, "peer-gone", 15, RETRY,                                                     \
      "the peer acknowledged nothing, or answered no keepalive, in time: check the route")       \
    X(SILENT, 16, "silent", 16, RETRY,                                                           \
      "nothing came within --silence: check the peer, or raise it")                              \
    X(PROTOCOL, 20, "protocol", 20, FATAL, "the peer does not speak the protocol asked for")     \
    X(DAMAGED, 21, "damaged", 21, FATAL,                                                         \
      "messages were lost, doubled, out of order or changed on their way")                       \
    X(NAME_TAKEN, 30, "name-taken", 30, FATAL, "choose another --name or stop the other engine") \
    X(NO_ENGINE, 31, "no-engine", 31, RETRY, "start one with sluice run URL --name NAME")        \
    X(ENGINE_GONE, 32, "engine-gone", 32, RETRY, "the engine ended: start it again")             \
    X(BUSY, 33, "busy", 33, RETRY, "another upstream is attached: detach it first")              \
    X(DENIED, 34, "denied", 34, FATAL, "run as the user that owns the engine, or as root")       \
    X(LIMIT, 35, "limit", 35, FATAL, "raise the limit that the line names")                      \
    X(NO_BACKEND, 36, "no-backend", 36, FATAL,                                                   \
      "allow io_uring (kernel.io_uring_disabled, seccomp profile), or leave --backend at auto")  \
    X(CORRUPT, 37, "corrupt", 37, FATAL, "the other process wrote nonsense into the channel")    \
    X(MISMATCH, 38, "mismatch", 38, FATAL, "both sides must use the same version of sluice")     \
    X(UNSUPPORTED, 39, "unsupported", 39, FATAL, "this build or version does not have it")       \
    X(TLS_CONFIG, 40, "tls-config", 40, FATAL,                                                   \
      "a TLS option or the file that it names is wrong: mend what the line names")               \
    X(TLS_HANDSHAKE, 41, "tls-handshake", 41, FATAL,                                             \
      "the two sides do not agree on TLS: check that the port speaks it, then the TLS options")  \
    X(TLS_VERIFY, 42, "tls-verify", 42, FATAL,                                                   \
      "the peer is not who it should be: check --ca and --verify-name, or its certificate")      \
    X(TLS_TIMED_OUT, 43, "tls-timed-out", 43, RETRY,                                             \
      "no TLS handshake in time: check that the port speaks TLS, or raise --tls-timeout")        \
    X(TLS_TRUNCATED, 44, "tls-truncated", 44, RETRY,                                             \
      "the stream ended without close_notify: what came last may be missing")                    \
    X(TLS_ALERT, 45, "tls-alert", 45, RETRY, "the peer gave up: its alert says why")             \
    X(TLS_PROTOCOL, 46, "tls-protocol", 46, RETRY,                                               \
      "a record was damaged or not allowed: nothing of it was delivered")                        \
    X(TLS_REKEY, 47, "tls-rekey", 47, RETRY,                                                     \
      "new keys were due and this kernel takes none: connect again, or use --ktls off")          \
    X(KTLS, 48, "ktls", 48, FATAL, "kernel TLS was required: load the tls module, or --ktls auto")

enum sluice_reason {
#define SLUICE_REASON_ENUM(sym, num, name, exit_code, cls, text) SLUICE_REASON_##sym = num,
    SLUICE_REASON_MAP(SLUICE_REASON_ENUM)
#undef SLUICE_REASON_ENUM
};

enum sluice_reason_class { SLUICE_CLASS_CLEAN, SLUICE_CLASS_RETRY, SLUICE_CLASS_FATAL };

/** Name, remedy, class and exit code of a reason; a number not in the table is treated as INTERNAL.
 */
SLUICE_API const char *sluice_reason_name(unsigned reason);
SLUICE_API const char *sluice_reason_text(unsigned reason);
SLUICE_API enum sluice_reason_class sluice_reason_class(unsigned reason);
SLUICE_API int sluice_reason_exit_code(unsigned reason);

#ifdef __cplusplus
}
#endif
#endif
