/*
 * The tools of the conformance cases: turning the backend, recording completions, patterned
 * streams, connected pairs, regions. No case and no network lives here.
 */
#include "tests/conformance/cases.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct case_report *case_report;

noreturn void case_failed(const char *what, const char *file, int line)
{
    printf("# %s:%d: expected %s\n", file, line, what);
    fflush(stdout);
    _exit(1);
}

noreturn void case_skipped(const char *reason)
{
    snprintf(case_report->reason, sizeof(case_report->reason), "%s", reason);
    _exit(CASE_EXIT_SKIP);
}

static void called_by_backend(struct sluice_op *op, int32_t result, bool more)
{
    (void)op, (void)result, (void)more;
    case_failed("backends never to call op->done", __FILE__, __LINE__);
}

/* --- ops --------------------------------------------------------------------------------- */

void case_op_init(struct case_op *t, enum sluice_op_kind kind, int fd)
{
    struct sluice_op old = t->op;
    *t = (struct case_op){.op = old};
    sluice_op_init(&t->op, kind, called_by_backend);
    t->op.fd = fd;
}

void case_recv_init(struct case_op *t, int fd, void *to, size_t bytes)
{
    case_op_init(t, SLUICE_OP_RECV, fd);
    t->op.recv.addr = to;
    t->op.recv.bytes = bytes;
}

void case_send_init(struct case_op *t, int fd, const void *from, size_t bytes, uint16_t flags)
{
    case_op_init(t, SLUICE_OP_SEND, fd);
    t->op.flags = flags;
    t->op.send.addr = from;
    t->op.send.bytes = bytes;
}

void case_region_init(struct case_op *t, int fd, struct sluice_region *region, uint16_t flags)
{
    case_op_init(t, SLUICE_OP_RECV, fd);
    t->op.flags = flags;
    t->op.region = region;
}

void case_pooled_init(struct case_op *t, int fd, uint16_t flags)
{
    case_op_init(t, SLUICE_OP_RECV, fd);
    t->op.flags = SLUICE_OP_POOLED | flags;
}

void case_connect_init(struct case_op *t, int fd, const struct address *addr)
{
    case_op_init(t, SLUICE_OP_CONNECT, fd);
    t->op.connect.addr = (const struct sockaddr *)&addr->storage;
    t->op.connect.bytes = addr->bytes;
}

void case_submit(struct fixture *f, struct case_op *t)
{
    uint32_t in_flight = f->be->in_flight;
    t->completions = 0;
    t->ended = false;
    t->result = 0;
    t->bytes = 0;
    EXPECT(f->be->ops->submit(f->be, &t->op) == 0);
    EXPECT(t->op.state == SLUICE_OP_IN_FLIGHT);
    EXPECT(f->be->in_flight == in_flight + 1);
}

void case_cancel(struct fixture *f, struct case_op *t)
{
    uint32_t in_flight = f->be->in_flight;
    f->be->ops->cancel(f->be, &t->op);
    EXPECT(t->op.state == SLUICE_OP_IN_FLIGHT); /* ends by a completion only */
    EXPECT(f->be->in_flight == in_flight);
}

static void record(const struct sluice_completion *completion)
{
    struct case_op *t = (struct case_op *)completion->op;
    EXPECT(t->op.magic == SLUICE_OP_MAGIC);
    EXPECT(!t->ended);
    EXPECT(completion->more <= 1);
    EXPECT(!completion->more || (t->op.flags & SLUICE_OP_MULTI));
    if (t->completions < CASE_RESULTS_MAX) {
        t->results[t->completions] = completion->result;
        t->buffers[t->completions] = completion->buffer;
    }
    t->completions++;
    t->result = completion->result;
    t->ended = !completion->more;
    if (completion->result <= 0)
        return;
    t->bytes += completion->result;
    struct sluice_region *region = t->op.region;
    if (t->op.kind != SLUICE_OP_RECV || !region)
        return;
    EXPECT(region->pos + (uint64_t)completion->result <= region->lent);
    region->pos += (uint64_t)completion->result;
}

int case_turn(struct fixture *f, int64_t timeout_ns)
{
    struct sluice_completion out[CASE_OPS_MAX];
    int count = f->be->ops->poll(f->be, timeout_ns, out, f->poll_max);
    EXPECT(count >= 0 && count <= f->poll_max);
    for (int i = 0; i < count; i++)
        record(&out[i]);
    for (int i = 0; i < count; i++)
        if (!out[i].more)
            EXPECT(out[i].op->state == SLUICE_OP_IDLE);
    return count;
}

void case_idle(struct fixture *f, uint64_t ns)
{
    uint64_t until_ns = case_now_ns(f) + ns;
    while (case_now_ns(f) < until_ns)
        case_turn(f, 1000 * 1000);
}

int32_t case_finish(struct fixture *f, struct case_op *t)
{
    UNTIL(f, t->ended);
    return t->result;
}

int32_t case_run(struct fixture *f, struct case_op *t)
{
    case_submit(f, t);
    return case_finish(f, t);
}

uint64_t case_now_ns(struct fixture *f)
{
    return f->be->ops->now_ns(f->be);
}

/* --- streams ----------------------------------------------------------------------------- */

uint8_t case_byte(uint64_t pos)
{
    return (uint8_t)(((pos + 1) * 0x9e3779b97f4a7c15ull) >> 53);
}

void case_fill(void *to, uint64_t pos, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)to)[i] = case_byte(pos + i);
}

bool case_same(const void *at, uint64_t pos, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (((const uint8_t *)at)[i] != case_byte(pos + i))
            return false;
    return true;
}

void case_peer_send(struct fixture *f, int peer, uint64_t pos, size_t bytes)
{
    uint8_t buf[16 * 1024];
    while (bytes > 0) {
        size_t piece = bytes < sizeof(buf) ? bytes : sizeof(buf);
        case_fill(buf, pos, piece);
        ssize_t count;
        UNTIL(f, (count = f->ops->send(f, peer, buf, piece)) != -EAGAIN);
        EXPECT(count > 0);
        pos += (uint64_t)count;
        bytes -= (size_t)count;
    }
}

void case_peer_expect(struct fixture *f, int peer, uint64_t pos, size_t bytes)
{
    uint8_t buf[16 * 1024];
    while (bytes > 0) {
        size_t piece = bytes < sizeof(buf) ? bytes : sizeof(buf);
        ssize_t count;
        UNTIL(f, (count = f->ops->recv(f, peer, buf, piece)) != -EAGAIN);
        EXPECT(count > 0);
        EXPECT(case_same(buf, pos, (size_t)count));
        pos += (uint64_t)count;
        bytes -= (size_t)count;
    }
}

ssize_t case_peer_end(struct fixture *f, int peer)
{
    uint8_t byte;
    ssize_t count;
    UNTIL(f, (count = f->ops->recv(f, peer, &byte, 1)) != -EAGAIN);
    EXPECT(count <= 0);
    return count;
}

void case_send(struct fixture *f, int fd, uint64_t pos, size_t bytes)
{
    uint8_t *buf = malloc(bytes);
    case_fill(buf, pos, bytes);
    struct case_op send = {0};
    for (size_t sent = 0; sent < bytes; sent += (size_t)send.result) {
        case_send_init(&send, fd, buf + sent, bytes - sent, 0);
        EXPECT(case_run(f, &send) > 0);
    }
    free(buf);
}

void case_expect(struct fixture *f, int fd, uint64_t pos, size_t bytes)
{
    uint8_t *buf = malloc(bytes);
    struct case_op recv = {0};
    for (size_t have = 0; have < bytes; have += (size_t)recv.result) {
        case_recv_init(&recv, fd, buf + have, bytes - have);
        EXPECT(case_run(f, &recv) > 0);
    }
    EXPECT(case_same(buf, pos, bytes));
    free(buf);
}

/* --- sockets, pairs, regions ---------------------------------------------------------------------
 */

int case_open(struct fixture *f, int family)
{
    int fd = f->be->ops->sockets->open(f->be, family);
    EXPECT(fd >= 0);
    return fd;
}

void case_close(struct fixture *f, int fd)
{
    f->be->ops->sockets->close(f->be, fd);
}

void case_pair_open(struct fixture *f, struct pair *pair)
{
    struct address addr;
    pair->listener = f->ops->listen(f, AF_INET, &addr);
    EXPECT(pair->listener >= 0);
    pair->fd = f->be->ops->sockets->open(f->be, AF_INET);
    EXPECT(pair->fd >= 0);
    /* Small and fixed, so that a peer that does not read is soon full. */
    const int small = 65536;
    EXPECT(f->be->ops->sockets->set_option(f->be, pair->fd, SOL_SOCKET, SO_SNDBUF, &small,
                                           sizeof(small)) == 0);
    struct case_op connect = {0};
    case_connect_init(&connect, pair->fd, &addr);
    EXPECT(case_run(f, &connect) == 0);
    UNTIL(f, (pair->peer = f->ops->accept(f, pair->listener)) != -EAGAIN);
    EXPECT(pair->peer >= 0);
}

void case_pair_close(struct fixture *f, struct pair *pair)
{
    if (pair->fd >= 0)
        f->be->ops->sockets->close(f->be, pair->fd);
    if (pair->peer >= 0)
        f->ops->close(f, pair->peer);
    f->ops->close_listener(f, pair->listener);
}

static uint8_t *map_twice(uint64_t bytes)
{
    int fd = memfd_create("conformance", MFD_CLOEXEC);
    EXPECT(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    uint8_t *base = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(base != MAP_FAILED);
    for (int half = 0; half < 2; half++) {
        uint8_t *at = base + (half ? bytes : 0);
        EXPECT(mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at);
    }
    close(fd);
    return base;
}

void case_region_open(struct fixture *f, struct sluice_region *region, uint64_t bytes,
                      bool one_shot)
{
    /* A wish, for backends that have no slices of their own: the simulation. */
    uint32_t slice_bytes = case_report->seed % 2 ? 16 * 1024 : 0;
    *region = (struct sluice_region){
        .base = map_twice(bytes), .bytes = bytes, .slice_bytes = slice_bytes, .one_shot = one_shot};
    EXPECT(f->be->ops->region_open(f->be, region) == 0);
    EXPECT(region->slice_bytes >= 1 && bytes % region->slice_bytes == 0);
}

void case_region_close(struct fixture *f, struct sluice_region *region)
{
    f->be->ops->region_close(f->be, region);
    munmap(region->base, 2 * region->bytes);
}
