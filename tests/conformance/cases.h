/*
 * What the conformance cases stand on: a backend under test, the other ends of its connections
 * driven synchronously, ops that keep a record of how they ended. The cases are in *_cases.c.
 */
#ifndef SLUICE_TESTS_CONFORMANCE_CASES_H
#define SLUICE_TESTS_CONFORMANCE_CASES_H

#include "backends/backend.h"

#include <errno.h>
#include <stdnoreturn.h>
#include <sys/types.h>

enum {
    CASE_OPS_MAX = 64,
    CASE_FILES_MAX = 16,
    CASE_POOL_BUFS = 4,
    CASE_POOL_BUF_BYTES = 1000,
    CASE_RESULTS_MAX = 16,
    CASE_LIMIT_NS_PER_WAIT = 1000 * 1000 * 1000, /* times 10: see UNTIL */
    CASE_EXIT_SKIP = 77,
};

struct address {
    struct sockaddr_storage storage;
    socklen_t bytes;
};

struct fixture;

/** The other side. A peer and a listener are descriptors; none of this waits longer than needed. */
struct fixture_ops {
    bool virtual_time;
    /** After the backend is made; may be NULL. */
    void (*start)(struct fixture *f, uint64_t seed);
    /** A new listener; its address comes back. family: AF_INET or AF_INET6. Or negative errno. */
    int (*listen)(struct fixture *f, int family, struct address *addr);
    void (*close_listener)(struct fixture *f, int listener);
    /** An address where nobody listens, and one that has no route. */
    void (*dead_address)(struct fixture *f, struct address *addr);
    void (*unreachable_address)(struct fixture *f, struct address *addr);
    /** A listener that answers nobody, or negative errno where that cannot be had. */
    int (*black_hole)(struct fixture *f, struct address *addr);
    int (*accept)(struct fixture *f, int listener);
    int (*dial)(struct fixture *f, int listener);
    /* Bytes, 0 at the end of the stream, -EAGAIN, -ECONNRESET, -EPIPE. */
    ssize_t (*send)(struct fixture *f, int peer, const void *from, size_t bytes);
    ssize_t (*recv)(struct fixture *f, int peer, void *to, size_t bytes);
    void (*fin)(struct fixture *f, int peer);
    void (*reset)(struct fixture *f, int peer); /* and the peer is gone */
    void (*close)(struct fixture *f, int peer);
};

struct fixture {
    const struct fixture_ops *ops;
    struct sluice_backend *be;
    int poll_max; /* completions asked for at once */
    uint64_t dead_ports;
    int fillers[16]; /* the kernel fixture's: they keep a black hole full */
    int fillers_count;
};

extern const struct fixture_ops fixture_kernel;
extern const struct fixture_ops fixture_sim;

struct conformance_case {
    const char *name;
    void (*run)(struct fixture *f);
};

/* Every case of the table; a new op or option adds rows here. */
/* clang-format off */
#define CONFORMANCE_CASES(X) \
    X(connect_ipv4) \
    X(connect_ipv6) \
    X(connect_refused) \
    X(connect_unreachable) \
    X(connect_cancelled) \
    X(accept_one) \
    X(accept_multi) \
    X(accept_cancelled) \
    X(recv_waits) \
    X(recv_takes_no_more_than_asked) \
    X(recv_end_of_stream) \
    X(recv_fin_while_waiting) \
    X(recv_reset) \
    X(recv_reset_behind_bytes) \
    X(recv_reset_beside_send) \
    X(recv_cancelled) \
    X(recv_cancelled_before_it_started) \
    X(shutdown_wakes_recv) \
    X(send_in_order) \
    X(send_waitall_to_slow_peer) \
    X(send_plain_to_slow_peer) \
    X(send_nowait_takes_what_fits) \
    X(send_nowait_waits_for_another) \
    X(send_nowait_ends_in_a_flood) \
    X(send_nowait_cancelled) \
    X(send_to_reset_peer) \
    X(send_after_shutdown) \
    X(send_after_peers_fin) \
    X(send_waitall_cancelled_counts) \
    X(send_plain_cancelled_counts) \
    X(both_ways_at_once) \
    X(acked_bytes_are_the_peers) \
    X(close_is_a_clean_end) \
    X(close_after_reset_on_close) \
    X(close_with_unread_bytes_resets) \
    X(poll_readable) \
    X(poll_writable) \
    X(poll_multi) \
    X(poll_foreign_descriptor_cancelled) \
    X(pollable_is_readable_for_what_comes) \
    X(submit_only_queues) \
    X(cancel_of_a_completed_op) \
    X(late_cancel_spares_the_next_life) \
    X(op_lives_many_times) \
    X(no_room_for_another_op) \
    X(row_58_more_than_the_submission_queue_holds) \
    X(many_complete_at_once) \
    X(shorter_names_for_files) \
    X(file_names_run_out_and_come_back) \
    X(poll_without_timeout_does_not_wait) \
    X(poll_waits_about_that_long) \
    X(poll_returns_early_for_a_completion) \
    X(nothing_is_lost_without_timeout) \
    X(row_57_signal_ends_a_poll_with_nothing) \
    X(region_one_shot) \
    X(row_56_region_multi_wraps) \
    X(region_one_shot_wraps) \
    X(row_55_region_multi_exhausted) \
    X(row_55_region_one_shot_exhausted) \
    X(region_survives_its_connection) \
    X(region_recv_cancelled) \
    X(region_end_and_reset) \
    X(pool_fills_buffers_in_order) \
    X(pool_one_at_a_time) \
    X(pool_takes_no_more_than_asked) \
    X(pool_waiting_holds_none) \
    X(row_55_pool_runs_out_and_loses_nothing) \
    X(pool_ends_take_no_buffer) \
    X(pool_recv_cancelled) \
    X(read_where_it_is_asked) \
    X(read_behind_the_end) \
    X(read_what_is_no_file) \
    X(read_cancelled) \
    X(datagrams_whole_and_in_order) \
    X(datagram_cut_to_the_room) \
    X(datagrams_poll_waits_for_them) \
    X(datagrams_of_the_peer_only) \
    X(datagram_to_nobody) \
    X(datagrams_that_find_no_room) \
    X(datagrams_port_is_taken)
/* clang-format on */

#define CASE_DECLARE(name) void name(struct fixture *f);
CONFORMANCE_CASES(CASE_DECLARE)
#undef CASE_DECLARE

extern const struct conformance_case conformance_cases[];
extern const size_t conformance_cases_count;

/** An op and the record of its present life. */
struct case_op {
    struct sluice_op op; /* first */
    uint32_t completions;
    bool ended;
    int32_t result; /* the newest */
    int64_t bytes;  /* sum of the positive ones */
    int32_t results[CASE_RESULTS_MAX];
    uint16_t buffers[CASE_RESULTS_MAX]; /* POOLED: of those results */
};

/* --- harness.c --- */

/** In memory that the case's process shares with the runner. */
struct case_report {
    uint64_t seed;
    char reason[120]; /* why it was skipped */
};

extern struct case_report *case_report;

noreturn void case_failed(const char *what, const char *file, int line);
noreturn void case_skipped(const char *reason);

#define EXPECT(cond)                                \
    do {                                            \
        if (!(cond))                                \
            case_failed(#cond, __FILE__, __LINE__); \
    } while (0)

/* Turn until cond holds, for at most ten seconds of the backend's clock. */
#define UNTIL(f, cond)                                                        \
    do {                                                                      \
        uint64_t limit_ns_ = case_now_ns(f) + 10ull * CASE_LIMIT_NS_PER_WAIT; \
        while (!(cond)) {                                                     \
            if (case_now_ns(f) > limit_ns_)                                   \
                case_failed("in time: " #cond, __FILE__, __LINE__);           \
            case_turn(f, 1000 * 1000);                                        \
        }                                                                     \
    } while (0)

void case_op_init(struct case_op *t, enum sluice_op_kind kind, int fd);
void case_recv_init(struct case_op *t, int fd, void *to, size_t bytes);
void case_send_init(struct case_op *t, int fd, const void *from, size_t bytes, uint16_t flags);
void case_region_init(struct case_op *t, int fd, struct sluice_region *region, uint16_t flags);
void case_pooled_init(struct case_op *t, int fd, uint16_t flags);
void case_connect_init(struct case_op *t, int fd, const struct address *addr);

void case_submit(struct fixture *f, struct case_op *t);
void case_cancel(struct fixture *f, struct case_op *t);
/** One poll; records what came. Returns how many completions. */
int case_turn(struct fixture *f, int64_t timeout_ns);
/** Turns for that long, for what must not happen. */
void case_idle(struct fixture *f, uint64_t ns);
/** Turn until it ended; its last result. */
int32_t case_finish(struct fixture *f, struct case_op *t);
int32_t case_run(struct fixture *f, struct case_op *t); /* submit and finish */
uint64_t case_now_ns(struct fixture *f);

/** The byte that stands at this position of every stream of this table. */
uint8_t case_byte(uint64_t pos);
void case_fill(void *to, uint64_t pos, size_t bytes);
bool case_same(const void *at, uint64_t pos, size_t bytes);

/* A socket of the backend's. */
int case_open(struct fixture *f, int family);
void case_close(struct fixture *f, int fd);

/** One connection: fd is the backend's, peer is the fixture's. */
struct pair {
    int listener;
    int fd;
    int peer;
};

void case_pair_open(struct fixture *f, struct pair *pair);
void case_pair_close(struct fixture *f, struct pair *pair); /* -1: closed already */
/** By the peer: all of the stream's bytes [pos, pos + bytes), with turns meanwhile. */
void case_peer_send(struct fixture *f, int peer, uint64_t pos, size_t bytes);
void case_peer_expect(struct fixture *f, int peer, uint64_t pos, size_t bytes);
/** By the peer: 0 at the end of the stream, or -ECONNRESET; fails on a byte. */
ssize_t case_peer_end(struct fixture *f, int peer);
/** By ops, short counts and all. */
void case_send(struct fixture *f, int fd, uint64_t pos, size_t bytes);
void case_expect(struct fixture *f, int fd, uint64_t pos, size_t bytes);

/** A region over memory that is mapped twice, open on the backend, nothing lent. */
void case_region_open(struct fixture *f, struct sluice_region *region, uint64_t bytes,
                      bool one_shot);
void case_region_close(struct fixture *f, struct sluice_region *region);

#endif
