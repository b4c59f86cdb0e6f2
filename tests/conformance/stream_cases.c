/*
 * Conformance cases: RECV and SEND, ends and resets. (n) names the line of backends/backend.h.
 * Receiving into a region is in region_cases.c.
 */
#include "tests/conformance/cases.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ll

/* --- receive ----------------------------------------------------------------------------- */

void recv_waits(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[100];
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, buf, sizeof(buf));
    case_submit(f, &recv);
    case_idle(f, 5 * MS);
    EXPECT(!recv.ended);
    case_peer_send(f, p.peer, 0, 10);
    int32_t count = case_finish(f, &recv);
    EXPECT(count >= 1 && count <= 10 && recv.completions == 1);
    EXPECT(case_same(buf, 0, (size_t)count));
    case_expect(f, p.fd, (uint64_t)count, (size_t)(10 - count));
    case_pair_close(f, &p);
}

void recv_takes_no_more_than_asked(struct fixture *f) /* (2) (6) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[64];
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 5000);
    for (uint64_t pos = 0; pos < 5000; pos += (uint64_t)recv.result) {
        memset(buf, 0xee, sizeof(buf));
        size_t ask = 1 + pos % 40;
        case_recv_init(&recv, p.fd, buf, ask);
        EXPECT(case_run(f, &recv) >= 1 && recv.result <= (int32_t)ask);
        EXPECT(case_same(buf, pos, (size_t)recv.result));
        for (size_t i = ask; i < sizeof(buf); i++)
            EXPECT(buf[i] == 0xee);
    }
    case_pair_close(f, &p);
}

void recv_end_of_stream(struct fixture *f) /* (10) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 3000);
    f->ops->fin(f, p.peer);
    case_expect(f, p.fd, 0, 3000);
    case_recv_init(&recv, p.fd, &byte, 1);
    EXPECT(case_run(f, &recv) == 0);
    EXPECT(case_run(f, &recv) == 0); /* and stays so */
    case_pair_close(f, &p);
}

void recv_fin_while_waiting(struct fixture *f) /* (10) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, &byte, 1);
    case_submit(f, &recv);
    case_turn(f, 0);
    f->ops->fin(f, p.peer);
    EXPECT(case_finish(f, &recv) == 0);
    case_pair_close(f, &p);
}

void recv_reset(struct fixture *f) /* (10) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, &byte, 1);
    case_submit(f, &recv);
    case_turn(f, 0);
    f->ops->reset(f, p.peer);
    p.peer = -1;
    EXPECT(case_finish(f, &recv) == -ECONNRESET);
    case_pair_close(f, &p);
}

/* What came before the reset may be lost in part, but not changed, and the end is not clean. */
void recv_reset_behind_bytes(struct fixture *f) /* (10) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[1001];
    size_t have = 0;
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, sizeof(buf) - 1);
    f->ops->reset(f, p.peer);
    p.peer = -1;
    do {
        case_recv_init(&recv, p.fd, buf + have, sizeof(buf) - have);
        case_run(f, &recv);
        have += recv.result > 0 ? (size_t)recv.result : 0;
    } while (recv.result > 0);
    EXPECT(recv.result == -ECONNRESET);
    EXPECT(case_same(buf, 0, have));
    case_pair_close(f, &p);
}

/* TCP tells one op only: a RECV of 0 is then not believed. (4) (10) */
void recv_reset_beside_send(struct fixture *f)
{
    enum { BIG = 2 << 20 };
    struct pair p;
    struct case_op recv = {0}, send = {0};
    uint8_t byte;
    uint8_t *big = calloc(1, BIG);
    case_pair_open(f, &p);
    case_send_init(&send, p.fd, big, BIG, SLUICE_OP_WAITALL);
    case_recv_init(&recv, p.fd, &byte, 1);
    case_submit(f, &recv);
    case_submit(f, &send);
    case_idle(f, 5 * MS);
    f->ops->reset(f, p.peer);
    p.peer = -1;
    case_finish(f, &send);
    EXPECT((send.result > 0 && send.result < BIG) || send.result == -ECONNRESET ||
           send.result == -EPIPE);
    int32_t heard = case_finish(f, &recv);
    EXPECT(heard == 0 || heard == -ECONNRESET);
    EXPECT(f->be->ops->sockets->was_reset(f->be, p.fd));
    case_pair_close(f, &p);
    free(big);
}

void recv_cancelled(struct fixture *f) /* (5) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[16];
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, buf, sizeof(buf));
    case_submit(f, &recv);
    case_turn(f, 0);
    case_cancel(f, &recv);
    EXPECT(case_finish(f, &recv) == -ECANCELED);
    EXPECT(recv.completions == 1);
    case_peer_send(f, p.peer, 0, 500); /* nothing was swallowed */
    case_expect(f, p.fd, 0, 500);
    case_pair_close(f, &p);
}

void recv_cancelled_before_it_started(struct fixture *f) /* (5) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[16];
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, buf, sizeof(buf));
    case_submit(f, &recv);
    case_cancel(f, &recv);
    case_cancel(f, &recv); /* twice is once */
    EXPECT(case_finish(f, &recv) == -ECANCELED);
    case_pair_close(f, &p);
}

void shutdown_wakes_recv(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, &byte, 1);
    case_submit(f, &recv);
    case_turn(f, 0);
    EXPECT(f->be->ops->sockets->shutdown(f->be, p.fd, SHUT_RDWR) == 0);
    EXPECT(case_finish(f, &recv) == 0);
    EXPECT(case_peer_end(f, p.peer) == 0);
    case_pair_close(f, &p);
}

/* --- send -------------------------------------------------------------------------------- */

void send_in_order(struct fixture *f) /* (6) */
{
    struct pair p;
    case_pair_open(f, &p);
    uint64_t pos = 0;
    for (size_t bytes = 1; bytes < 9000; bytes = bytes * 3 + 1) {
        case_send(f, p.fd, pos, bytes);
        case_peer_expect(f, p.peer, pos, bytes);
        pos += bytes;
    }
    case_pair_close(f, &p);
}

/* A peer that reads slowly; WAITALL or not, short or not, every byte once. */
static void send_to_slow_peer(struct fixture *f, size_t bytes, uint16_t flags)
{
    struct pair p;
    struct case_op send = {0};
    uint8_t buf[7001];
    uint8_t *all = malloc(bytes);
    case_fill(all, 0, bytes);
    case_pair_open(f, &p);
    size_t sent = 0, read = 0;
    while (read < bytes) {
        if (sent < bytes && send.op.state == SLUICE_OP_IDLE) {
            case_send_init(&send, p.fd, all + sent, bytes - sent, flags);
            case_submit(f, &send);
        }
        case_turn(f, 0);
        if (send.ended && send.completions == 1) {
            EXPECT(send.result > 0);
            sent += (size_t)send.result;
            send.completions = 0;
        }
        ssize_t count = f->ops->recv(f, p.peer, buf, sizeof(buf));
        if (count == -EAGAIN)
            continue;
        EXPECT(count > 0 && case_same(buf, read, (size_t)count));
        read += (size_t)count;
    }
    UNTIL(f, send.op.state == SLUICE_OP_IDLE);
    if (send.completions == 1)
        sent += (size_t)send.result;
    EXPECT(sent == bytes);
    case_pair_close(f, &p);
    free(all);
}

void send_waitall_to_slow_peer(struct fixture *f)
{
    send_to_slow_peer(f, 1 << 20, SLUICE_OP_WAITALL);
}

void send_plain_to_slow_peer(struct fixture *f)
{
    send_to_slow_peer(f, 1 << 19, 0);
}

#define NOWAIT (SLUICE_OP_WAITALL | SLUICE_OP_NOWAIT)

/* Nobody reads, until there is no room: what the results say is what the peer then gets. (11) */
void send_nowait_takes_what_fits(struct fixture *f)
{
    enum { PIECE = 50000 };
    struct pair p;
    struct case_op send = {0};
    static uint8_t piece[PIECE];
    case_pair_open(f, &p);
    uint64_t sent = 0;
    do {
        case_fill(piece, sent, PIECE);
        case_send_init(&send, p.fd, piece, PIECE, NOWAIT);
        case_run(f, &send);
        EXPECT((send.result > 0 && send.result <= PIECE) || send.result == -EAGAIN);
        sent += send.result > 0 ? (uint64_t)send.result : 0;
    } while (send.result != -EAGAIN);
    EXPECT(send.completions == 1);
    case_peer_expect(f, p.peer, 0, sent);
    case_send(f, p.fd, sent, 3000); /* the connection lives */
    case_peer_expect(f, p.peer, sent, 3000);
    case_pair_close(f, &p);
}

/* It leaves, and its end comes at the latest with the next one that is waited for. (11) */
void send_nowait_waits_for_another(struct fixture *f)
{
    struct pair p;
    struct case_op send = {0}, recv = {0};
    uint8_t out[64], in[64];
    case_fill(out, 0, sizeof(out));
    case_pair_open(f, &p);
    for (uint64_t trip = 0; trip < 20; trip++) {
        case_send_init(&send, p.fd, out, sizeof(out), NOWAIT);
        case_recv_init(&recv, p.fd, in, sizeof(in));
        case_submit(f, &send);
        case_submit(f, &recv);
        case_idle(f, 1000 * 1000);
        size_t taken = send.ended ? (size_t)send.result : sizeof(out); /* a short count is told */
        case_send(f, p.fd, taken, sizeof(out) - taken);
        case_peer_expect(f, p.peer, 0, sizeof(out));
        case_peer_send(f, p.peer, trip, sizeof(in));
        EXPECT(case_finish(f, &recv) > 0);
        EXPECT(case_finish(f, &send) == (int32_t)taken);
        case_expect(f, p.fd, trip + (uint64_t)recv.result, sizeof(in) - (size_t)recv.result);
    }
    case_pair_close(f, &p);
}

/* It is told also where more always comes than is taken at a time. (11) */
void send_nowait_ends_in_a_flood(struct fixture *f)
{
    enum { FLOOD = 8, TURNS = 200 };
    struct pair p;
    struct case_op send = {0}, flood[FLOOD] = {0};
    uint8_t out[64] = {0};
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 1);
    for (int i = 0; i < FLOOD; i++) {
        case_op_init(&flood[i], SLUICE_OP_POLL, p.fd);
        flood[i].op.poll.events = POLLIN;
        EXPECT(case_run(f, &flood[i]) == POLLIN); /* and from now on at once */
    }
    int poll_max = f->poll_max;
    f->poll_max = FLOOD / 4;
    case_send_init(&send, p.fd, out, sizeof(out), NOWAIT);
    case_submit(f, &send);
    uint64_t before = case_now_ns(f);
    for (int turn = 0; !send.ended; turn++) {
        EXPECT(turn < TURNS || case_now_ns(f) - before < CASE_LIMIT_NS_PER_WAIT);
        for (int i = 0; i < FLOOD; i++)
            if (flood[i].ended)
                case_submit(f, &flood[i]);
        case_turn(f, 0);
    }
    EXPECT(send.result > 0);
    f->poll_max = poll_max;
    for (int i = 0; i < FLOOD; i++)
        case_finish(f, &flood[i]);
    case_expect(f, p.fd, 0, 1);
    case_pair_close(f, &p);
}

/* Whoever cancels waits for the end alone. (5, 11) */
void send_nowait_cancelled(struct fixture *f)
{
    struct pair p;
    struct case_op send = {0};
    uint8_t out[64] = {0};
    case_pair_open(f, &p);
    case_send_init(&send, p.fd, out, sizeof(out), NOWAIT);
    case_submit(f, &send);
    case_cancel(f, &send);
    uint64_t before = case_now_ns(f);
    while (!send.ended && case_now_ns(f) - before < 9ull * CASE_LIMIT_NS_PER_WAIT)
        case_turn(f, 10ll * CASE_LIMIT_NS_PER_WAIT);
    EXPECT(send.ended && case_now_ns(f) - before < 5ull * CASE_LIMIT_NS_PER_WAIT);
    EXPECT((send.result > 0 && send.result <= (int32_t)sizeof(out)) || send.result == -ECANCELED);
    case_pair_close(f, &p);
}

void send_to_reset_peer(struct fixture *f) /* (10) */
{
    struct pair p;
    struct case_op send = {0};
    uint8_t buf[100] = {0};
    case_pair_open(f, &p);
    f->ops->reset(f, p.peer);
    p.peer = -1;
    case_send_init(&send, p.fd, buf, sizeof(buf), 0);
    UNTIL(f, case_run(f, &send) < 0);
    EXPECT(send.result == -ECONNRESET || send.result == -EPIPE);
    EXPECT(case_run(f, &send) == -EPIPE);
    case_pair_close(f, &p);
}

void send_after_shutdown(struct fixture *f)
{
    struct pair p;
    struct case_op send = {0};
    uint8_t buf[100] = {0};
    case_pair_open(f, &p);
    case_send(f, p.fd, 0, 2000);
    EXPECT(f->be->ops->sockets->shutdown(f->be, p.fd, SHUT_WR) == 0);
    case_send_init(&send, p.fd, buf, sizeof(buf), 0);
    EXPECT(case_run(f, &send) == -EPIPE);
    case_peer_expect(f, p.peer, 0, 2000);
    EXPECT(case_peer_end(f, p.peer) == 0);
    case_peer_send(f, p.peer, 0, 2000); /* the other direction lives */
    case_expect(f, p.fd, 0, 2000);
    case_pair_close(f, &p);
}

void send_after_peers_fin(struct fixture *f)
{
    struct pair p;
    case_pair_open(f, &p);
    f->ops->fin(f, p.peer);
    case_send(f, p.fd, 0, 5000);
    case_peer_expect(f, p.peer, 0, 5000);
    case_pair_close(f, &p);
}

/* The result, or 0 for -ECANCELED, is what the peer gets: to the byte. (5) */
static void cancelled_send_counts(struct fixture *f, uint16_t flags)
{
    enum { BIG = 2 << 20 };
    struct pair p;
    struct case_op send = {0};
    uint8_t *big = malloc(BIG);
    case_fill(big, 0, BIG);
    case_pair_open(f, &p);
    uint64_t sent = 0;
    do { /* without WAITALL a few end before one is stuck */
        case_send_init(&send, p.fd, big + sent, BIG - sent, flags);
        case_submit(f, &send);
        case_idle(f, 5 * MS);
        sent += send.ended ? (uint64_t)send.result : 0;
        EXPECT(!send.ended || send.result > 0);
    } while (send.ended);
    case_cancel(f, &send);
    int32_t result = case_finish(f, &send);
    EXPECT(result > 0 || result == -ECANCELED);
    sent += result > 0 ? (uint64_t)result : 0;
    EXPECT(sent > 0 && sent < BIG);
    EXPECT(f->be->ops->sockets->shutdown(f->be, p.fd, SHUT_WR) == 0);
    case_peer_expect(f, p.peer, 0, sent);
    EXPECT(case_peer_end(f, p.peer) == 0);
    case_pair_close(f, &p);
    free(big);
}

void send_waitall_cancelled_counts(struct fixture *f)
{
    cancelled_send_counts(f, SLUICE_OP_WAITALL);
}

void send_plain_cancelled_counts(struct fixture *f)
{
    cancelled_send_counts(f, 0);
}

void both_ways_at_once(struct fixture *f) /* (9) allows one of each */
{
    enum { TOTAL = 300000 };
    struct pair p;
    struct case_op recv = {0}, send = {0};
    static uint8_t out[TOTAL], in[TOTAL], buf[8192];
    size_t sent = 0, got = 0, fed = 0, read = 0;
    case_fill(out, 0, TOTAL);
    case_pair_open(f, &p);
    while (got < TOTAL || read < TOTAL || sent < TOTAL) {
        if (send.op.state == SLUICE_OP_IDLE && sent < TOTAL) {
            case_send_init(&send, p.fd, out + sent, TOTAL - sent, SLUICE_OP_WAITALL);
            case_submit(f, &send);
        }
        if (recv.op.state == SLUICE_OP_IDLE && got < TOTAL) {
            case_recv_init(&recv, p.fd, in + got, TOTAL - got);
            case_submit(f, &recv);
        }
        ssize_t count = fed < TOTAL ? f->ops->send(f, p.peer, out + fed, TOTAL - fed) : 0;
        fed += count > 0 ? (size_t)count : 0;
        count = read < TOTAL ? f->ops->recv(f, p.peer, buf, sizeof(buf)) : 0;
        EXPECT(count <= 0 || case_same(buf, read, (size_t)count));
        read += count > 0 ? (size_t)count : 0;
        case_turn(f, 0);
        if (send.completions && send.ended) {
            EXPECT(send.result > 0);
            sent += (size_t)send.result;
            send.completions = 0;
        }
        if (recv.completions && recv.ended) {
            EXPECT(recv.result > 0);
            got += (size_t)recv.result;
            recv.completions = 0;
        }
    }
    EXPECT(case_same(in, 0, TOTAL));
    case_pair_close(f, &p);
}

void acked_bytes_are_the_peers(struct fixture *f)
{
    const struct sluice_socket_ops *sockets = f->be->ops->sockets;
    struct pair p;
    case_pair_open(f, &p);
    uint64_t before = sockets->acked_bytes(f->be, p.fd);
    if (before == UINT64_MAX)
        case_skipped("not known here");
    case_send(f, p.fd, 0, 5000);
    case_peer_expect(f, p.peer, 0, 5000);
    UNTIL(f, sockets->acked_bytes(f->be, p.fd) - before >= 5000);
    f->ops->reset(f, p.peer);
    p.peer = -1;
    case_idle(f, 5 * MS);
    /* Still readable; Linux counts the SYN too, on some kernels. */
    EXPECT(sockets->acked_bytes(f->be, p.fd) - before <= 5001);
    EXPECT(sockets->acked_bytes(f->be, p.fd) - before >= 5000);
    case_pair_close(f, &p);
}
