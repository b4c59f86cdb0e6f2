/*
 * Conformance cases: receiving into a region (8). (n) names the line of backends/backend.h. Without
 * a region, see stream_cases.c.
 */
#include "tests/conformance/cases.h"

#include <string.h>

#define MS 1000000ll

/* --- regions (8) ------------------------------------------------------------------------- */

enum { REGION_BYTES = 256 << 10 };

static uint64_t lend(struct fixture *f, struct sluice_region *region, uint64_t limit)
{
    uint64_t before = region->lent;
    uint64_t lent = f->be->ops->region_lend(f->be, region, limit);
    EXPECT(lent == region->lent && lent >= before && lent <= limit);
    EXPECT(limit - lent < region->slice_bytes);
    return lent;
}

/* Bytes [from, region->pos) stand where they belong. */
static void expect_region(const struct sluice_region *region, uint64_t from)
{
    EXPECT(region->pos - from <= region->bytes);
    EXPECT(
        case_same(region->base + (from & (region->bytes - 1)), from, (size_t)(region->pos - from)));
}

static void end_recv(struct fixture *f, struct case_op *recv)
{
    if (recv->op.state == SLUICE_OP_IN_FLIGHT) {
        case_cancel(f, recv);
        case_finish(f, recv);
    }
}

/* One RECV after the other, each as soon as one ended, up to a position. */
static void receive_until(struct fixture *f, struct case_op *recv, uint64_t pos)
{
    struct sluice_region *region = recv->op.region;
    while (region->pos < pos) {
        if (recv->op.state == SLUICE_OP_IDLE)
            case_submit(f, recv);
        uint32_t seen = recv->completions;
        UNTIL(f, recv->completions > seen);
        EXPECT(recv->result > 0 || recv->result == -ENOBUFS);
    }
    EXPECT(region->pos == pos);
}

void region_one_shot(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    struct sluice_region region;
    case_pair_open(f, &p);
    case_region_open(f, &region, 64 << 10, true);
    EXPECT(region.slice_bytes == 1);
    case_region_init(&recv, p.fd, &region, 0);
    for (uint64_t pos = 0; pos < 400000; pos += 1237) {
        EXPECT(lend(f, &region, pos + 1237) == pos + 1237);
        case_peer_send(f, p.peer, pos, 1237);
        receive_until(f, &recv, pos + 1237);
        expect_region(&region, pos);
    }
    end_recv(f, &recv);
    case_region_close(f, &region);
    case_pair_close(f, &p);
}

/* A peer that always has more; an owner that lends back in small, odd steps. Many laps. */
static void region_wraps(struct fixture *f, bool one_shot, uint16_t flags)
{
    struct pair p;
    struct case_op recv = {0};
    struct sluice_region region;
    uint8_t buf[10007];
    const uint64_t total = 9 * (uint64_t)REGION_BYTES + 12345;
    uint64_t fed = 0, checked = 0, step = 1;
    case_pair_open(f, &p);
    case_region_open(f, &region, REGION_BYTES, one_shot);
    case_region_init(&recv, p.fd, &region, flags);
    uint64_t limit_ns = case_now_ns(f) + 20000 * MS;
    while (checked < total) {
        EXPECT(case_now_ns(f) < limit_ns);
        size_t piece = total - fed < sizeof(buf) ? (size_t)(total - fed) : sizeof(buf);
        case_fill(buf, fed, piece);
        ssize_t count = piece ? f->ops->send(f, p.peer, buf, piece) : 0;
        fed += count > 0 ? (uint64_t)count : 0;
        step = step * 7 % 65521;
        uint64_t limit = region.lent + step;
        if (limit > checked + REGION_BYTES || region.lent == region.pos)
            limit = checked + REGION_BYTES;
        lend(f, &region, limit);
        if (recv.op.state == SLUICE_OP_IDLE && region.lent > region.pos)
            case_submit(f, &recv);
        case_turn(f, 0);
        EXPECT(recv.completions == 0 || recv.result > 0 || recv.result == -ENOBUFS);
        EXPECT(region.pos <= fed);
        expect_region(&region, checked);
        checked = region.pos;
    }
    end_recv(f, &recv);
    EXPECT(region.pos == total);
    case_region_close(f, &region);
    case_pair_close(f, &p);
}

void row_56_region_multi_wraps(struct fixture *f)
{
    region_wraps(f, false, SLUICE_OP_MULTI);
}

void region_one_shot_wraps(struct fixture *f)
{
    region_wraps(f, true, 0);
}

/* Used up: it ends. Lent again: it goes on with the very next byte. */
static void region_exhausted(struct fixture *f, bool one_shot, uint16_t flags)
{
    struct pair p;
    struct case_op recv = {0};
    struct sluice_region region;
    case_pair_open(f, &p);
    case_region_open(f, &region, REGION_BYTES, one_shot);
    memset(region.base, 0xee, REGION_BYTES);
    case_region_init(&recv, p.fd, &region, flags);
    uint64_t lent = lend(f, &region, REGION_BYTES / 2 + 1);
    uint64_t total = REGION_BYTES - 100, fed = 0;
    uint8_t buf[8192];
    for (uint64_t idle_ns = case_now_ns(f) + 20 * MS; case_now_ns(f) < idle_ns;) {
        size_t piece = total - fed < sizeof(buf) ? (size_t)(total - fed) : sizeof(buf);
        case_fill(buf, fed, piece);
        ssize_t count = piece ? f->ops->send(f, p.peer, buf, piece) : 0;
        fed += count > 0 ? (uint64_t)count : 0;
        if (recv.op.state == SLUICE_OP_IDLE && region.pos < lent)
            case_submit(f, &recv);
        if (case_turn(f, 1 * MS) > 0)
            idle_ns = case_now_ns(f) + 20 * MS;
    }
    EXPECT(region.pos == lent); /* all of it, and no byte more */
    EXPECT(recv.ended);
    EXPECT(recv.result > 0 || recv.result == -ENOBUFS);
    for (uint64_t at = lent; at < REGION_BYTES; at++)
        EXPECT(region.base[at] == 0xee);
    expect_region(&region, 0);
    lend(f, &region, REGION_BYTES);
    while (region.pos < total) {
        size_t piece = total - fed < sizeof(buf) ? (size_t)(total - fed) : sizeof(buf);
        case_fill(buf, fed, piece);
        ssize_t count = piece ? f->ops->send(f, p.peer, buf, piece) : 0;
        fed += count > 0 ? (uint64_t)count : 0;
        if (recv.op.state == SLUICE_OP_IDLE)
            case_submit(f, &recv);
        case_turn(f, 1 * MS);
    }
    expect_region(&region, 0);
    end_recv(f, &recv);
    case_region_close(f, &region);
    case_pair_close(f, &p);
}

void row_55_region_multi_exhausted(struct fixture *f)
{
    region_exhausted(f, false, SLUICE_OP_MULTI);
}

void row_55_region_one_shot_exhausted(struct fixture *f)
{
    region_exhausted(f, true, 0);
}

/* The stream of the next connection follows the last byte of the one before. */
void region_survives_its_connection(struct fixture *f)
{
    struct sluice_region region;
    struct case_op recv = {0};
    uint64_t pos = 0;
    case_region_open(f, &region, REGION_BYTES, false);
    for (int i = 0; i < 12; i++) {
        struct pair p;
        case_pair_open(f, &p);
        case_region_init(&recv, p.fd, &region, SLUICE_OP_MULTI);
        lend(f, &region, pos + REGION_BYTES);
        size_t bytes = 30011;
        case_peer_send(f, p.peer, pos, bytes);
        receive_until(f, &recv, pos + bytes);
        if (i % 2) { /* half of them end by themselves */
            f->ops->fin(f, p.peer);
            while (recv.result != 0 || !recv.ended) {
                if (recv.op.state == SLUICE_OP_IDLE)
                    case_submit(f, &recv);
                case_turn(f, 1 * MS);
            }
        }
        end_recv(f, &recv);
        expect_region(&region, pos);
        pos += bytes;
        case_pair_close(f, &p);
    }
    case_region_close(f, &region);
}

/* Cancelling takes no byte along: what it had put down it tells, the rest comes later. */
void region_recv_cancelled(struct fixture *f) /* (5) */
{
    struct pair p;
    struct case_op recv = {0};
    struct sluice_region region;
    case_pair_open(f, &p);
    case_region_open(f, &region, REGION_BYTES, false);
    case_region_init(&recv, p.fd, &region, SLUICE_OP_MULTI);
    uint64_t sent = 0;
    for (int i = 0; i < 60; i++) {
        uint64_t checked = region.pos;
        lend(f, &region, region.pos + REGION_BYTES);
        if (recv.op.state == SLUICE_OP_IDLE)
            case_submit(f, &recv);
        if (i % 3)
            case_turn(f, 0);
        case_peer_send(f, p.peer, sent, 999);
        sent += 999;
        end_recv(f, &recv);
        EXPECT(region.pos <= sent);
        expect_region(&region, checked);
    }
    uint64_t checked = region.pos;
    lend(f, &region, region.pos + REGION_BYTES);
    receive_until(f, &recv, sent);
    expect_region(&region, checked);
    end_recv(f, &recv);
    case_region_close(f, &region);
    case_pair_close(f, &p);
}

/* End and reset are told through a region as they are without one. (10) */
void region_end_and_reset(struct fixture *f)
{
    for (int reset = 0; reset < 2; reset++) {
        struct pair p;
        struct case_op recv = {0};
        struct sluice_region region;
        case_pair_open(f, &p);
        case_region_open(f, &region, REGION_BYTES, false);
        lend(f, &region, REGION_BYTES);
        case_region_init(&recv, p.fd, &region, SLUICE_OP_MULTI);
        case_peer_send(f, p.peer, 0, 500);
        receive_until(f, &recv, 500);
        if (reset) {
            f->ops->reset(f, p.peer);
            p.peer = -1;
        } else {
            f->ops->fin(f, p.peer);
        }
        do {
            if (recv.op.state == SLUICE_OP_IDLE)
                case_submit(f, &recv);
            case_finish(f, &recv);
        } while (recv.result == -ENOBUFS);
        EXPECT(recv.result == (reset ? -ECONNRESET : 0));
        EXPECT(region.pos == 500);
        case_region_close(f, &region);
        case_pair_close(f, &p);
    }
}
