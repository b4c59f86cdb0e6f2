/*
 * Conformance cases: datagrams, both ends on the backend. (n) names the line of backends/backend.h.
 */
#include "tests/conformance/cases.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#define MS 1000000ll

static const struct sluice_datagram_ops *of(const struct fixture *f)
{
    return f->be->ops->sockets->datagrams;
}

/* Bound to the loopback address, port 0: any. */
static int open_at(struct fixture *f, uint16_t port, struct sockaddr_in *addr)
{
    socklen_t bytes = sizeof(*addr);
    int fd = of(f)->open(f->be, AF_INET);
    EXPECT(fd >= 0);
    *addr = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    EXPECT(of(f)->bind(f->be, fd, (struct sockaddr *)addr, sizeof(*addr)) == 0);
    EXPECT(f->be->ops->sockets->address(f->be, fd, false, (struct sockaddr *)addr, &bytes) == 0);
    EXPECT(addr->sin_port != 0);
    return fd;
}

static int send_to(struct fixture *f, int fd, const struct sockaddr_in *to, uint64_t pos,
                   size_t bytes)
{
    static uint8_t data[70000];
    case_fill(data, pos, bytes);
    return of(f)->send(f->be, fd, data, bytes, (const struct sockaddr *)to, sizeof(*to));
}

static void await_readable(struct fixture *f, int fd)
{
    struct case_op poll = {0};
    case_op_init(&poll, SLUICE_OP_POLL, fd);
    poll.op.poll.events = POLLIN;
    EXPECT(case_run(f, &poll) & (POLLIN | POLLERR));
}

/* By POLL, then whole: its bytes from pos on, from whom. */
static void expect_from(struct fixture *f, int fd, const struct sockaddr_in *from, uint64_t pos,
                        size_t bytes)
{
    static uint8_t data[70000];
    struct sluice_datagram about;
    await_readable(f, fd);
    ssize_t n = of(f)->recv(f->be, fd, data, sizeof(data), &about);
    EXPECT(n == (ssize_t)bytes && case_same(data, pos, bytes));
    EXPECT(about.from_bytes == sizeof(*from) && about.dropped == 0);
    EXPECT(memcmp(&about.from, from, sizeof(*from)) == 0);
}

static ssize_t recv_result(struct fixture *f, int fd)
{
    struct sluice_datagram about;
    uint8_t byte;
    return of(f)->recv(f->be, fd, &byte, 1, &about);
}

void datagrams_whole_and_in_order(struct fixture *f) /* (15) */
{
    static const size_t sizes[] = {1, 1000, 0, 65507, 2};
    struct sockaddr_in a, b;
    int from = open_at(f, 0, &a), to = open_at(f, 0, &b);
    EXPECT(recv_result(f, to) == -EAGAIN);
    for (size_t i = 0; i < 5; i++)
        EXPECT(send_to(f, from, &b, i * 1000, sizes[i]) == 0);
    EXPECT(send_to(f, from, &b, 0, 65508) == -EMSGSIZE);
    for (size_t i = 0; i < 5; i++)
        expect_from(f, to, &a, i * 1000, sizes[i]);
    EXPECT(recv_result(f, to) == -EAGAIN);
    case_close(f, from);
    case_close(f, to);
}

/* What does not fit is cut off, and not there the next time. */
void datagram_cut_to_the_room(struct fixture *f)
{
    struct sockaddr_in a, b;
    int from = open_at(f, 0, &a), to = open_at(f, 0, &b);
    EXPECT(send_to(f, from, &b, 0, 100) == 0);
    EXPECT(send_to(f, from, &b, 500, 7) == 0);
    await_readable(f, to);
    EXPECT(recv_result(f, to) == 1);
    expect_from(f, to, &a, 500, 7);
    case_close(f, from);
    case_close(f, to);
}

void datagrams_poll_waits_for_them(struct fixture *f)
{
    struct sockaddr_in a, b;
    struct case_op poll = {0};
    int from = open_at(f, 0, &a), to = open_at(f, 0, &b);
    case_op_init(&poll, SLUICE_OP_POLL, to);
    poll.op.flags = SLUICE_OP_MULTI;
    poll.op.poll.events = POLLIN;
    case_submit(f, &poll);
    case_idle(f, 5 * MS);
    EXPECT(poll.completions == 0);
    for (uint64_t i = 0; i < 5; i++) {
        if (poll.ended)
            case_submit(f, &poll);
        uint32_t seen = poll.completions;
        EXPECT(send_to(f, from, &b, i, 10) == 0);
        UNTIL(f, poll.completions > seen);
        EXPECT(poll.result & POLLIN);
        expect_from(f, to, &a, i, 10);
    }
    if (!poll.ended)
        case_cancel(f, &poll);
    UNTIL(f, poll.ended);
    case_close(f, from);
    case_close(f, to);
}

void datagrams_of_the_peer_only(struct fixture *f)
{
    struct sockaddr_in a, b, c;
    int one = open_at(f, 0, &a), two = open_at(f, 0, &b), other = open_at(f, 0, &c);
    EXPECT(of(f)->send(f->be, one, "x", 1, NULL, 0) == -EDESTADDRREQ);
    EXPECT(of(f)->connect(f->be, one, (struct sockaddr *)&b, sizeof(b)) == 0);
    EXPECT(send_to(f, other, &a, 0, 10) == 0);
    EXPECT(send_to(f, two, &a, 100, 10) == 0);
    expect_from(f, one, &b, 100, 10);
    case_idle(f, 5 * MS);
    EXPECT(recv_result(f, one) == -EAGAIN);
    EXPECT(of(f)->send(f->be, one, "x", 1, NULL, 0) == 0);
    await_readable(f, two);
    EXPECT(recv_result(f, two) == 1);
    case_close(f, one);
    case_close(f, two);
    case_close(f, other);
}

/* Told once to who is connected, never to who is not. (15) */
void datagram_to_nobody(struct fixture *f)
{
    struct sockaddr_in a, gone;
    int fd = open_at(f, 0, &a), was = open_at(f, 0, &gone);
    case_close(f, was);
    EXPECT(send_to(f, fd, &gone, 0, 10) == 0);
    case_idle(f, 5 * MS);
    EXPECT(recv_result(f, fd) == -EAGAIN);
    EXPECT(of(f)->connect(f->be, fd, (struct sockaddr *)&gone, sizeof(gone)) == 0);
    EXPECT(of(f)->send(f->be, fd, "x", 1, NULL, 0) == 0);
    await_readable(f, fd);
    EXPECT(recv_result(f, fd) == -ECONNREFUSED);
    EXPECT(recv_result(f, fd) == -EAGAIN);
    case_close(f, fd);
}

/* Nobody reads: some are lost, the rest stay in order, and a later one says how many. (15) */
void datagrams_that_find_no_room(struct fixture *f)
{
    enum { SENT = 500, BYTES = 1000 };
    const int room = 65536;
    static uint8_t data[BYTES];
    struct sluice_datagram about;
    struct sockaddr_in a, b;
    int from = open_at(f, 0, &a), to = open_at(f, 0, &b);
    EXPECT(f->be->ops->sockets->set_option(f->be, to, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) ==
           0);
    for (int i = 0; i < SENT; i++)
        EXPECT(send_to(f, from, &b, (uint64_t)i * BYTES, BYTES) == 0);
    case_idle(f, 5 * MS);
    uint32_t came = 0;
    uint64_t pos = 0;
    while (of(f)->recv(f->be, to, data, sizeof(data), &about) == BYTES) {
        while (pos < SENT * BYTES && !case_same(data, pos, BYTES))
            pos += BYTES;
        EXPECT(pos < SENT * BYTES);
        pos += BYTES;
        came++;
    }
    EXPECT(came > 10 && came < SENT);
    EXPECT(send_to(f, from, &b, 0, 1) == 0);
    await_readable(f, to);
    EXPECT(of(f)->recv(f->be, to, data, sizeof(data), &about) == 1);
    EXPECT(about.dropped == SENT - came);
    case_close(f, from);
    case_close(f, to);
}

void datagrams_port_is_taken(struct fixture *f) /* (4) */
{
    struct sockaddr_in a;
    int one = open_at(f, 0, &a), two = of(f)->open(f->be, AF_INET);
    EXPECT(of(f)->bind(f->be, two, (struct sockaddr *)&a, sizeof(a)) == -EADDRINUSE);
    case_close(f, one);
    EXPECT(of(f)->bind(f->be, two, (struct sockaddr *)&a, sizeof(a)) == 0);
    case_close(f, two);
}
