/*
 * Conformance cases: connecting, accepting and closing. (n) names the line of backends/backend.h.
 * Bytes are stream_cases.c's, ops as such op_cases.c's.
 */
#include "tests/conformance/cases.h"

#include <fcntl.h>

#define MS 1000000ll

/* --- connect and accept ------------------------------------------------------------------ */

static void connect_family(struct fixture *f, int family)
{
    struct address addr;
    struct case_op connect = {0};
    int listener = f->ops->listen(f, family, &addr);
    if (listener < 0)
        case_skipped("no such address family here");
    int fd = case_open(f, family);
    case_connect_init(&connect, fd, &addr);
    EXPECT(case_run(f, &connect) == 0);
    EXPECT(connect.completions == 1);
    int peer;
    UNTIL(f, (peer = f->ops->accept(f, listener)) != -EAGAIN);
    case_send(f, fd, 0, 100);
    case_peer_expect(f, peer, 0, 100);
    case_close(f, fd);
    f->ops->close(f, peer);
    f->ops->close_listener(f, listener);
}

void connect_ipv4(struct fixture *f)
{
    connect_family(f, AF_INET);
}

void connect_ipv6(struct fixture *f)
{
    connect_family(f, AF_INET6);
}

void connect_refused(struct fixture *f) /* (4) */
{
    struct address addr;
    struct case_op connect = {0};
    f->ops->dead_address(f, &addr);
    int fd = case_open(f, AF_INET);
    case_connect_init(&connect, fd, &addr);
    EXPECT(case_run(f, &connect) == -ECONNREFUSED);
    case_close(f, fd);
}

void connect_unreachable(struct fixture *f) /* (4) */
{
    struct address addr;
    struct case_op connect = {0};
    f->ops->unreachable_address(f, &addr);
    int fd = case_open(f, AF_INET);
    case_connect_init(&connect, fd, &addr);
    EXPECT(case_run(f, &connect) == -ENETUNREACH);
    case_close(f, fd);
}

void connect_cancelled(struct fixture *f) /* (5) */
{
    struct address addr;
    struct case_op connect = {0};
    int listener = f->ops->black_hole(f, &addr);
    if (listener < 0)
        case_skipped("no black hole to be had");
    int fd = case_open(f, AF_INET);
    case_connect_init(&connect, fd, &addr);
    case_submit(f, &connect);
    case_idle(f, 20 * MS);
    EXPECT(!connect.ended);
    case_cancel(f, &connect);
    EXPECT(case_finish(f, &connect) == -ECANCELED);
    case_close(f, fd);
    f->ops->close_listener(f, listener);
}

void accept_one(struct fixture *f)
{
    struct address addr;
    struct case_op accept = {0};
    int listener = f->ops->listen(f, AF_INET, &addr);
    case_op_init(&accept, SLUICE_OP_ACCEPT, listener);
    case_submit(f, &accept);
    case_idle(f, 2 * MS);
    EXPECT(!accept.ended);
    int peer = f->ops->dial(f, listener);
    EXPECT(peer >= 0);
    int fd = case_finish(f, &accept);
    EXPECT(fd >= 0 && accept.completions == 1);
    EXPECT(f->ops->virtual_time || (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    case_peer_send(f, peer, 0, 1000);
    case_expect(f, fd, 0, 1000);
    case_close(f, fd);
    f->ops->close(f, peer);
    f->ops->close_listener(f, listener);
}

/* One op, or as many lives of it as a lost MORE makes: every connection comes out once. (1) */
void accept_multi(struct fixture *f)
{
    enum { PEERS = 10 };
    struct address addr;
    struct case_op accept = {0};
    int peers[PEERS];
    int fds[PEERS];
    int listener = f->ops->listen(f, AF_INET, &addr);
    case_op_init(&accept, SLUICE_OP_ACCEPT, listener);
    accept.op.flags = SLUICE_OP_MULTI;
    case_submit(f, &accept);
    for (int i = 0; i < PEERS; i++) {
        EXPECT((peers[i] = f->ops->dial(f, listener)) >= 0);
        if (accept.ended)
            case_submit(f, &accept);
        uint32_t seen = accept.completions;
        UNTIL(f, accept.completions > seen);
        EXPECT((fds[i] = accept.result) >= 0);
        case_peer_send(f, peers[i], (uint64_t)i * 1000, 10);
        case_expect(f, fds[i], (uint64_t)i * 1000, 10);
    }
    if (!accept.ended) {
        case_cancel(f, &accept);
        EXPECT(case_finish(f, &accept) == -ECANCELED);
    }
    for (int i = 0; i < PEERS; i++) {
        case_close(f, fds[i]);
        f->ops->close(f, peers[i]);
    }
    f->ops->close_listener(f, listener);
}

void accept_cancelled(struct fixture *f) /* (5) */
{
    struct address addr;
    struct case_op accept = {0};
    int listener = f->ops->listen(f, AF_INET, &addr);
    case_op_init(&accept, SLUICE_OP_ACCEPT, listener);
    case_submit(f, &accept);
    case_turn(f, 0);
    case_cancel(f, &accept);
    EXPECT(case_finish(f, &accept) == -ECANCELED);
    int peer = f->ops->dial(f, listener); /* it took nothing with it */
    EXPECT(case_run(f, &accept) >= 0);
    case_close(f, accept.result);
    f->ops->close(f, peer);
    f->ops->close_listener(f, listener);
}

/* --- closing ----------------------------------------------------------------------------- */

void close_is_a_clean_end(struct fixture *f)
{
    struct pair p;
    case_pair_open(f, &p);
    case_send(f, p.fd, 0, 1000);
    case_close(f, p.fd);
    p.fd = -1;
    case_peer_expect(f, p.peer, 0, 1000);
    EXPECT(case_peer_end(f, p.peer) == 0);
    case_pair_close(f, &p);
}

void close_after_reset_on_close(struct fixture *f)
{
    struct pair p;
    case_pair_open(f, &p);
    EXPECT(f->be->ops->sockets->reset_on_close(f->be, p.fd) == 0);
    case_close(f, p.fd);
    p.fd = -1;
    EXPECT(case_peer_end(f, p.peer) == -ECONNRESET);
    case_pair_close(f, &p);
}

void close_with_unread_bytes_resets(struct fixture *f)
{
    struct pair p;
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 1000);
    case_expect(f, p.fd, 0, 10);
    case_close(f, p.fd);
    p.fd = -1;
    EXPECT(case_peer_end(f, p.peer) == -ECONNRESET);
    case_pair_close(f, &p);
}
