/*
 * Round trips without sluice: a bare io_uring loop (one-shot and multishot receive), and plain
 * recv, epoll and blocking recv. Nothing more than each needs to be fast.
 */
#include "bare.h"
#include "tcp.h"

#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a bare io_uring loop ---- */

#define BUFFERS      16u
#define BUFFER_BYTES 2048u

enum { SENT, RECEIVED };

struct bare {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers; /* multishot only */
    char memory[BUFFERS][BUFFER_BYTES];
    char out[BARE_BYTES];
    bool armed, sleeps;
};

static struct bare bare;

static void open_ring(int fd, bool multishot, bool sleeps)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG};
    memset(&bare, 0, sizeof(bare));
    bare.sleeps = sleeps;
    BENCH_CHECK(io_uring_queue_init_params(8, &bare.ring, &p) == 0);
    BENCH_CHECK(io_uring_register_files(&bare.ring, &fd, 1) == 0);
    io_uring_register_ring_fd(&bare.ring);
    if (!multishot)
        return;
    BENCH_CHECK(posix_memalign((void **)&bare.buffers, 4096, 4096) == 0);
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)bare.buffers, .ring_entries = BUFFERS};
    BENCH_CHECK(io_uring_register_buf_ring(&bare.ring, &reg, 0) == 0);
    io_uring_buf_ring_init(bare.buffers);
    for (unsigned short i = 0; i < BUFFERS; i++)
        io_uring_buf_ring_add(bare.buffers, bare.memory[i], BUFFER_BYTES, i, BUFFERS - 1, i);
    io_uring_buf_ring_advance(bare.buffers, BUFFERS);
}

static void close_ring(void)
{
    io_uring_queue_exit(&bare.ring);
    free(bare.buffers);
}

static void arm(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&bare.ring);
    BENCH_CHECK(sqe != NULL);
    if (bare.buffers)
        io_uring_prep_recv_multishot(sqe, 0, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, 0, bare.memory, BUFFER_BYTES, 0);
    sqe->flags = IOSQE_FIXED_FILE | (bare.buffers ? IOSQE_BUFFER_SELECT : 0);
    sqe->user_data = RECEIVED;
    bare.armed = true;
}

/* Bytes it brought. */
static unsigned take(const struct io_uring_cqe *cqe)
{
    BENCH_CHECK(cqe->res > 0);
    if (cqe->user_data == SENT)
        return 0;
    bare.armed = cqe->flags & IORING_CQE_F_MORE;
    if (bare.buffers) {
        unsigned short id = (unsigned short)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        io_uring_buf_ring_add(bare.buffers, bare.memory[id], BUFFER_BYTES, id, BUFFERS - 1, 0);
        io_uring_buf_ring_advance(bare.buffers, 1);
    }
    return (unsigned)cqe->res;
}

static void uring_trip(void)
{
    if (!bare.armed)
        arm();
    struct io_uring_sqe *sqe = io_uring_get_sqe(&bare.ring);
    BENCH_CHECK(sqe != NULL);
    io_uring_prep_send(sqe, 0, bare.out, BARE_BYTES, MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->user_data = SENT;
    if (!bare.sleeps)
        BENCH_CHECK(io_uring_submit_and_get_events(&bare.ring) >= 0);
    bool sent = false;
    for (unsigned got = 0; got < BARE_BYTES;) {
        struct io_uring_cqe *cqe;
        if (io_uring_peek_cqe(&bare.ring, &cqe)) { /* enters when IORING_SQ_TASKRUN says so */
            if (bare.sleeps) /* until it is sent and something came back: one enter */
                BENCH_CHECK(io_uring_submit_and_wait(&bare.ring, got || sent ? 1 : 2) >= 0);
            continue;
        }
        sent |= cqe->user_data == SENT;
        got += take(cqe);
        io_uring_cqe_seen(&bare.ring, cqe);
        if (!bare.armed && got < BARE_BYTES) {
            arm();
            io_uring_submit(&bare.ring);
        }
    }
}

static void uring_trips(int fd, bool multishot, bool sleeps, int trips, double *ns)
{
    open_ring(fd, multishot, sleeps);
    for (int i = 0; i < trips; i++) {
        uint64_t start = sluice_cycles();
        memset(bare.out, i, sizeof(bare.out));
        uring_trip();
        ns[i] = bench_ns(sluice_cycles() - start);
    }
    close_ring();
}

void bare_uring_one_shot(int fd, int trips, double *ns)
{
    uring_trips(fd, false, false, trips, ns);
}

void bare_uring_multishot(int fd, int trips, double *ns)
{
    uring_trips(fd, true, false, trips, ns);
}

void bare_uring_sleeping(int fd, int trips, double *ns)
{
    uring_trips(fd, true, true, trips, ns);
}

/* ---- plain system calls ---- */

static void trips_by(int fd, int trips, double *ns, int flags, int epoll, int timeout_ms)
{
    char out[BARE_BYTES], in[BARE_BYTES];
    for (int i = 0; i < trips; i++) {
        uint64_t start = sluice_cycles();
        memset(out, i, sizeof(out));
        tcp_send_all(fd, out, sizeof(out));
        for (size_t got = 0; got < sizeof(in);) {
            struct epoll_event event;
            if (epoll >= 0 && epoll_wait(epoll, &event, 1, timeout_ms) != 1)
                continue;
            ssize_t n = recv(fd, in + got, sizeof(in) - got, flags);
            got += n > 0 ? (size_t)n : 0;
            BENCH_CHECK(n != 0);
        }
        ns[i] = bench_ns(sluice_cycles() - start);
    }
}

void bare_recv_spin(int fd, int trips, double *ns)
{
    trips_by(fd, trips, ns, MSG_DONTWAIT, -1, 0);
}

void bare_recv_blocking(int fd, int trips, double *ns)
{
    trips_by(fd, trips, ns, 0, -1, 0);
}

static void trips_by_epoll(int fd, int trips, double *ns, int timeout_ms)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    BENCH_CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    trips_by(fd, trips, ns, MSG_DONTWAIT, epoll, timeout_ms);
    close(epoll);
}

void bare_epoll_spin(int fd, int trips, double *ns)
{
    trips_by_epoll(fd, trips, ns, 0);
}

void bare_epoll_sleeping(int fd, int trips, double *ns)
{
    trips_by_epoll(fd, trips, ns, -1);
}
