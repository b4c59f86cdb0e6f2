/*
 * An echo server on bare io_uring: multishot accept into registered files, a multishot receive for
 * each connection into provided buffers, sends out of those buffers, and one enter for all that
 * completed. One send of a connection at a time: nothing orders two.
 */
#include "echo_server.h"

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ENTRIES 1024u
#define NONE    UINT16_MAX

enum { ACCEPTED, RECEIVED, SENT, CLOSED };

struct conn {
    uint16_t first, last; /* buffers to be sent, the first one in flight; NONE */
    bool armed, ended;
};

struct piece { /* what a provided buffer holds */
    uint32_t bytes;
    uint16_t next;
};

static struct {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char *memory;
    uint32_t bufs, buf_bytes;
    struct piece *pieces;
    struct conn *conns; /* by their registered file */
    uint32_t *starved;  /* connections whose receive ended without a buffer */
    uint32_t starved_count;
    int listener;
} s;

static struct io_uring_sqe *next_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&s.ring);
    if (!sqe) {
        io_uring_submit(&s.ring);
        sqe = io_uring_get_sqe(&s.ring);
    }
    if (!sqe)
        echo_fail("io_uring_get_sqe");
    return sqe;
}

/* Behind the prep, which clears it. */
static void tag(struct io_uring_sqe *sqe, uint32_t conn, unsigned kind)
{
    sqe->user_data = (uint64_t)conn << 8 | kind;
}

static void arm_accept(void)
{
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_multishot_accept_direct(sqe, s.listener, NULL, NULL, 0);
    tag(sqe, 0, ACCEPTED);
}

static void arm(uint32_t conn)
{
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_recv_multishot(sqe, (int)conn, NULL, 0, 0);
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    tag(sqe, conn, RECEIVED);
    s.conns[conn].armed = true;
}

static void send_first(uint32_t conn)
{
    uint16_t id = s.conns[conn].first;
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_send(sqe, (int)conn, s.memory + (size_t)id * s.buf_bytes, s.pieces[id].bytes,
                       MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    tag(sqe, conn, SENT);
}

static void give_back(uint16_t id)
{
    io_uring_buf_ring_add(s.buffers, s.memory + (size_t)id * s.buf_bytes, s.buf_bytes, id,
                          (int)s.bufs - 1, 0);
    io_uring_buf_ring_advance(s.buffers, 1);
}

static void close_when_done(uint32_t conn)
{
    struct conn *c = &s.conns[conn];
    if (!c->ended || c->armed || c->first != NONE)
        return;
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_close_direct(sqe, conn);
    tag(sqe, conn, CLOSED);
}

static void on_accepted(const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm_accept();
    if (cqe->res < 0)
        return;
    s.conns[cqe->res] = (struct conn){.first = NONE, .last = NONE};
    arm((uint32_t)cqe->res);
}

static void on_received(uint32_t conn, const struct io_uring_cqe *cqe)
{
    struct conn *c = &s.conns[conn];
    c->armed = cqe->flags & IORING_CQE_F_MORE;
    if (cqe->res > 0) {
        uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        s.pieces[id] = (struct piece){.bytes = (uint32_t)cqe->res, .next = NONE};
        if (c->first == NONE) {
            c->first = c->last = id;
            send_first(conn);
        } else {
            s.pieces[c->last].next = id;
            c->last = id;
        }
        if (!c->armed)
            arm(conn);
    } else if (cqe->res == -ENOBUFS) {
        s.starved[s.starved_count++] = conn;
    } else {
        c->ended = true;
        close_when_done(conn);
    }
}

static void on_sent(uint32_t conn, const struct io_uring_cqe *cqe)
{
    struct conn *c = &s.conns[conn];
    uint16_t id = c->first;
    c->ended |= cqe->res < (int)s.pieces[id].bytes; /* a MSG_WAITALL send that is short failed */
    c->first = s.pieces[id].next;
    give_back(id);
    if (c->first != NONE)
        send_first(conn);
    else if (c->ended)
        close_when_done(conn);
    while (s.starved_count)
        arm(s.starved[--s.starved_count]);
}

static void open_ring(const struct echo_args *args)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_CQSIZE,
                                .cq_entries = 4 * ENTRIES};
    if (io_uring_queue_init_params(ENTRIES, &s.ring, &p) ||
        io_uring_register_files_sparse(&s.ring, args->conns_max))
        echo_fail("io_uring");
    io_uring_register_ring_fd(&s.ring);
    s.bufs = echo_pool_bufs(args);
    s.buf_bytes = args->buffer_bytes;
    s.pieces = calloc(s.bufs, sizeof(*s.pieces));
    s.conns = calloc(args->conns_max, sizeof(*s.conns));
    s.starved = calloc(args->conns_max, sizeof(*s.starved));
    s.memory = malloc((size_t)s.bufs * s.buf_bytes);
    if (!s.pieces || !s.conns || !s.starved || !s.memory ||
        posix_memalign((void **)&s.buffers, 4096, s.bufs * sizeof(struct io_uring_buf)))
        echo_fail("memory");
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)s.buffers, .ring_entries = s.bufs};
    if (io_uring_register_buf_ring(&s.ring, &reg, 0))
        echo_fail("io_uring_register_buf_ring");
    io_uring_buf_ring_init(s.buffers);
    for (uint32_t i = 0; i < s.bufs; i++)
        give_back((uint16_t)i);
}

int main(int argc, char **argv)
{
    struct echo_args args = echo_begin(argc, argv);
    open_ring(&args);
    s.listener = echo_listen();
    arm_accept();
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_submit_and_wait(&s.ring, 1);
        io_uring_for_each_cqe(&s.ring, head, cqe)
        {
            uint32_t conn = (uint32_t)(cqe->user_data >> 8);
            switch (cqe->user_data & 0xff) {
            case ACCEPTED:
                on_accepted(cqe);
                break;
            case RECEIVED:
                on_received(conn, cqe);
                break;
            case SENT:
                on_sent(conn, cqe);
                break;
            }
            count++;
        }
        io_uring_cq_advance(&s.ring, count);
    }
}
