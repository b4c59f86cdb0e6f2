/*
 * Conformance cases: receiving into the backend's pool of buffers (12, 13). (n) names the line of
 * backends/backend.h.
 */
#include "tests/conformance/cases.h"

#define MS 1000000ull

static void put(struct fixture *f, uint16_t buffer)
{
    f->be->ops->pool_put(f->be, buffer);
}

static void stop(struct fixture *f, struct case_op *recv)
{
    if (recv->op.state == SLUICE_OP_IN_FLIGHT) {
        case_cancel(f, recv);
        case_finish(f, recv);
    }
}

/* One RECV after the other until there are so many bytes from pos on; each buffer checked and given
 * back. Returns the most completions that one RECV had. */
static uint32_t receive(struct fixture *f, struct case_op *recv, uint64_t pos, size_t bytes)
{
    uint32_t most = 0, seen = recv->op.state == SLUICE_OP_IDLE ? recv->completions : 0;
    size_t have = 0;
    while (have < bytes) {
        if (recv->op.state == SLUICE_OP_IDLE && seen == recv->completions) {
            case_submit(f, recv);
            seen = 0;
        }
        UNTIL(f, recv->completions > seen);
        EXPECT(recv->completions <= CASE_RESULTS_MAX);
        for (; seen < recv->completions; seen++) {
            int32_t count = recv->results[seen];
            if (count == -ENOBUFS)
                continue; /* submitted again */
            EXPECT(count > 0 && count <= CASE_POOL_BUF_BYTES);
            EXPECT(recv->buffers[seen] < CASE_POOL_BUFS);
            EXPECT(case_same(sluice_pool_at(&f->be->pool, recv->buffers[seen]), pos + have,
                             (size_t)count));
            have += (size_t)count;
            put(f, recv->buffers[seen]);
            most = seen + 1 > most ? seen + 1 : most;
        }
    }
    EXPECT(have == bytes);
    return most;
}

/* Every buffer of the pool is there: so many can be held at once. */
static void expect_whole_pool(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint16_t held[CASE_POOL_BUFS];
    case_pair_open(f, &p);
    for (unsigned i = 0; i < CASE_POOL_BUFS; i++) {
        case_pooled_init(&recv, p.fd, 0);
        case_peer_send(f, p.peer, i, 1);
        do
            case_run(f, &recv);
        while (recv.result == -ENOBUFS);
        EXPECT(recv.result == 1);
        held[i] = recv.buffers[0];
        for (unsigned k = 0; k < i; k++)
            EXPECT(held[k] != held[i]);
    }
    for (unsigned i = 0; i < CASE_POOL_BUFS; i++)
        put(f, held[i]);
    case_pair_close(f, &p);
}

/* (12) */
void pool_fills_buffers_in_order(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    case_pair_open(f, &p);
    uint64_t pos = 0;
    for (size_t bytes = 1; bytes < 3000; bytes = bytes * 2 + 1) {
        case_pooled_init(&recv, p.fd, SLUICE_OP_MULTI | (bytes % 4 == 3 ? SLUICE_OP_RECORDS : 0));
        case_peer_send(f, p.peer, pos, bytes);
        receive(f, &recv, pos, bytes);
        pos += bytes;
        stop(f, &recv);
    }
    case_pair_close(f, &p);
    expect_whole_pool(f);
}

/* (12) Without MULTI a completion is the end. */
void pool_one_at_a_time(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    case_pair_open(f, &p);
    case_pooled_init(&recv, p.fd, 0);
    case_peer_send(f, p.peer, 0, 20000);
    EXPECT(receive(f, &recv, 0, 20000) == 1);
    case_pair_close(f, &p);
    expect_whole_pool(f);
}

/* (12) Without MULTI, no more than was asked for, however much waits; 0 asks for a buffer full. */
void pool_takes_no_more_than_asked(struct fixture *f)
{
    static const size_t asked[] = {5, 700, 1, 2 * CASE_POOL_BUF_BYTES, 0};
    struct pair p;
    struct case_op recv = {0};
    uint64_t pos = 0;
    case_pair_open(f, &p);
    case_pooled_init(&recv, p.fd, 0);
    case_peer_send(f, p.peer, 0, 20000);
    for (unsigned i = 0; i < 20; i++) {
        size_t limit = asked[i % 5];
        recv.op.recv.bytes = limit;
        do
            case_run(f, &recv);
        while (recv.result == -ENOBUFS);
        if (limit == 0 || limit > CASE_POOL_BUF_BYTES)
            limit = CASE_POOL_BUF_BYTES;
        EXPECT(recv.result > 0 && (size_t)recv.result <= limit);
        EXPECT(case_same(sluice_pool_at(&f->be->pool, recv.buffers[0]), pos, (size_t)recv.result));
        pos += (uint64_t)recv.result;
        put(f, recv.buffers[0]);
    }
    case_pair_close(f, &p);
    expect_whole_pool(f);
}

/* (12) More wait than there are buffers, and any of them may be the one that gets bytes. */
void pool_waiting_holds_none(struct fixture *f)
{
    enum { PAIRS = 3 * CASE_POOL_BUFS };
    struct pair p[PAIRS];
    struct case_op recv[PAIRS] = {0};
    for (unsigned i = 0; i < PAIRS; i++) {
        case_pair_open(f, &p[i]);
        case_pooled_init(&recv[i], p[i].fd, SLUICE_OP_MULTI);
        case_submit(f, &recv[i]);
    }
    case_idle(f, 2 * MS);
    for (unsigned i = 0; i < PAIRS; i++)
        EXPECT(recv[i].completions == 0);
    for (unsigned i = 0; i < PAIRS; i++) {
        case_peer_send(f, p[i].peer, 0, 500);
        receive(f, &recv[i], 0, 500);
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        stop(f, &recv[i]);
        case_pair_close(f, &p[i]);
    }
    expect_whole_pool(f);
}

/* (13) */
void row_55_pool_runs_out_and_loses_nothing(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint16_t held[CASE_POOL_BUFS];
    size_t have = 0;
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 10000);
    case_pooled_init(&recv, p.fd, 0);
    for (unsigned i = 0; i < CASE_POOL_BUFS;) {
        case_run(f, &recv);
        EXPECT(recv.result > 0 || recv.result == -ENOBUFS);
        if (recv.result > 0) {
            EXPECT(case_same(sluice_pool_at(&f->be->pool, recv.buffers[0]), have,
                             (size_t)recv.result));
            have += (size_t)recv.result;
            held[i++] = recv.buffers[0];
        }
    }
    for (int i = 0; i < 3; i++)
        EXPECT(case_run(f, &recv) == -ENOBUFS);
    put(f, held[1]);
    put(f, held[2]);
    receive(f, &recv, have, 10000 - have);
    put(f, held[0]);
    put(f, held[3]);
    case_pair_close(f, &p);
    expect_whole_pool(f);
}

/* (10, 12) */
void pool_ends_take_no_buffer(struct fixture *f)
{
    for (unsigned i = 0; i < 2 * CASE_POOL_BUFS; i++) {
        struct pair p;
        struct case_op recv = {0};
        case_pair_open(f, &p);
        case_pooled_init(&recv, p.fd, SLUICE_OP_MULTI);
        case_submit(f, &recv);
        if (i % 2 == 0) {
            f->ops->fin(f, p.peer);
        } else {
            f->ops->reset(f, p.peer);
            p.peer = -1;
        }
        case_finish(f, &recv);
        EXPECT(recv.completions == 1);
        EXPECT(recv.result == (i % 2 == 0 ? 0 : -ECONNRESET));
        case_pair_close(f, &p);
    }
    expect_whole_pool(f);
}

/* (5, 12) */
void pool_recv_cancelled(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    case_pair_open(f, &p);
    for (unsigned i = 0; i < 2 * CASE_POOL_BUFS; i++) {
        case_pooled_init(&recv, p.fd, SLUICE_OP_MULTI);
        case_submit(f, &recv);
        case_idle(f, MS / 10);
        case_cancel(f, &recv);
        EXPECT(case_finish(f, &recv) == -ECANCELED);
    }
    case_peer_send(f, p.peer, 0, 100);
    receive(f, &recv, 0, 100);
    stop(f, &recv);
    case_pair_close(f, &p);
    expect_whole_pool(f);
}
