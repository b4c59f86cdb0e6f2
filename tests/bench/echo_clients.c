/*
 * The clients of an echo server: see echo_clients.h. A multishot receive for each connection, and
 * one enter for all messages that the answers at hand made possible.
 */
#include "echo_clients.h"
#include "tcp.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENTRIES     2048u
#define SAMPLES_MAX (1u << 20)
#define SENT        UINT64_MAX /* user_data of a send; a receive's is its connection */

struct one {
    uint32_t got;
    bool waiting;
    uint64_t since; /* when its message was sent, or due */
};

struct clients {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char *memory;
    uint32_t bufs, buf_bytes;
    struct one *ones;
    uint32_t count, waiting;
    char *message;
    uint32_t bytes;
    uint32_t answered[1024]; /* in this turn: whose turn to send it is */
    uint32_t answered_count;
};

static double samples[SAMPLES_MAX];
static size_t sample_count;

/* ---- opening ---- */

void clients_want_files(uint32_t wanted)
{
    struct rlimit files;
    BENCH_CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
    if (files.rlim_max < wanted)
        bench_fail("%u descriptors are needed, %llu allowed: raise the hard limit (ulimit -Hn)",
                   wanted, (unsigned long long)files.rlim_max);
    files.rlim_cur = files.rlim_max;
    BENCH_CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
}

static void give_back(struct clients *c, unsigned short id)
{
    io_uring_buf_ring_add(c->buffers, c->memory + (size_t)id * c->buf_bytes, c->buf_bytes, id,
                          (int)c->bufs - 1, 0);
    io_uring_buf_ring_advance(c->buffers, 1);
}

static void open_ring(struct clients *c)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
                                .cq_entries = 4 * ENTRIES};
    BENCH_CHECK(io_uring_queue_init_params(ENTRIES, &c->ring, &p) == 0);
    io_uring_register_ring_fd(&c->ring);
    for (c->bufs = 64; c->bufs < 2 * c->count; c->bufs *= 2)
        continue;
    c->buf_bytes = c->bytes;
    c->memory = malloc((size_t)c->bufs * c->buf_bytes);
    BENCH_CHECK(c->memory && posix_memalign((void **)&c->buffers, 4096,
                                            c->bufs * sizeof(struct io_uring_buf)) == 0);
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)c->buffers, .ring_entries = c->bufs};
    BENCH_CHECK(io_uring_register_buf_ring(&c->ring, &reg, 0) == 0);
    io_uring_buf_ring_init(c->buffers);
    for (uint32_t i = 0; i < c->bufs; i++)
        give_back(c, (unsigned short)i);
}

static struct io_uring_sqe *next_sqe(struct clients *c)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
    if (!sqe) {
        BENCH_CHECK(io_uring_submit(&c->ring) >= 0);
        sqe = io_uring_get_sqe(&c->ring);
    }
    BENCH_CHECK(sqe != NULL);
    return sqe;
}

static void arm(struct clients *c, uint32_t i)
{
    struct io_uring_sqe *sqe = next_sqe(c);
    io_uring_prep_recv_multishot(sqe, (int)i, NULL, 0, 0);
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->user_data = i;
}

struct clients *clients_open(uint16_t port, uint32_t count, uint32_t bytes)
{
    struct clients *c = calloc(1, sizeof(*c));
    int *fds = calloc(count, sizeof(*fds));
    BENCH_CHECK(c && fds);
    c->count = count;
    c->bytes = bytes;
    c->ones = calloc(count, sizeof(*c->ones));
    c->message = malloc(bytes);
    BENCH_CHECK(c->ones && c->message);
    for (uint32_t i = 0; i < bytes; i++)
        c->message[i] = (char)(i * 31 + (i >> 8) + 7);
    open_ring(c);
    for (uint32_t i = 0; i < count; i++)
        fds[i] = tcp_connect(port);
    BENCH_CHECK(io_uring_register_files(&c->ring, fds, count) == 0);
    for (uint32_t i = 0; i < count; i++) {
        close(fds[i]);
        arm(c, i);
    }
    BENCH_CHECK(io_uring_submit(&c->ring) >= 0);
    free(fds);
    return c;
}

void clients_close(struct clients *c)
{
    io_uring_queue_exit(&c->ring);
    free(c->buffers);
    free(c->memory);
    free(c->ones);
    free(c->message);
    free(c);
}

/* ---- messages ---- */

static void ask(struct clients *c, uint32_t i, uint64_t since)
{
    struct io_uring_sqe *sqe = next_sqe(c);
    io_uring_prep_send(sqe, (int)i, c->message, c->bytes, MSG_WAITALL | MSG_NOSIGNAL);
    sqe->flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = SENT;
    c->ones[i].waiting = true;
    c->ones[i].since = since;
    c->ones[i].got = 0;
    c->waiting++;
}

/* True: that was the last piece of an answer. */
static bool take(struct clients *c, const struct io_uring_cqe *cqe)
{
    uint32_t i = (uint32_t)cqe->user_data;
    struct one *one = &c->ones[i];
    if (cqe->user_data == SENT)
        bench_fail("an echo client's send: %d", cqe->res);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm(c, i);
    if (cqe->res == -ENOBUFS)
        return false;
    if (cqe->res <= 0)
        bench_fail("an echo server ended a connection: %d", cqe->res);
    unsigned short id = (unsigned short)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    uint32_t n = (uint32_t)cqe->res;
    if (one->got + n > c->bytes ||
        memcmp(c->memory + (size_t)id * c->buf_bytes, c->message + one->got, n) != 0)
        bench_fail("an echo differs from what was sent");
    one->got += n;
    give_back(c, id);
    if (one->got < c->bytes)
        return false;
    one->waiting = false;
    c->waiting--;
    return true;
}

/* Submit what is queued, run the kernel's part, and note who was answered. */
static void reap(struct clients *c)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    BENCH_CHECK(io_uring_submit_and_get_events(&c->ring) >= 0);
    c->answered_count = 0;
    uint64_t now = sluice_cycles();
    io_uring_for_each_cqe(&c->ring, head, cqe)
    {
        if (c->answered_count == sizeof(c->answered) / sizeof(c->answered[0]))
            break;
        if (take(c, cqe)) {
            uint32_t i = (uint32_t)cqe->user_data;
            c->answered[c->answered_count++] = i;
            if (sample_count < SAMPLES_MAX)
                samples[sample_count++] = bench_ns(now - c->ones[i].since);
        }
        count++;
    }
    io_uring_cq_advance(&c->ring, count);
}

static void drain(struct clients *c)
{
    while (c->waiting)
        reap(c);
}

static struct clients_seen seen(size_t messages, double ns)
{
    BENCH_CHECK(messages > 0 && sample_count > 0 && sample_count < SAMPLES_MAX);
    struct clients_seen s = {.answered = sample_count, .per_s = (double)messages * 1e9 / ns};
    s.p50_us = bench_quantile(samples, sample_count, 0.50) / 1e3;
    s.p99_us = bench_quantile(samples, sample_count, 0.99) / 1e3;
    return s;
}

struct clients_seen clients_run(struct clients *c, uint64_t duration_ns)
{
    uint64_t start = sluice_cycles();
    sample_count = 0;
    for (uint32_t i = 0; i < c->count; i++)
        ask(c, i, sluice_cycles());
    double ns;
    do {
        reap(c);
        uint64_t now = sluice_cycles();
        for (uint32_t i = 0; i < c->answered_count; i++)
            ask(c, c->answered[i], now);
        ns = bench_ns(sluice_cycles() - start);
    } while (ns < (double)duration_ns || sample_count == 0); /* a core may be busy elsewhere */
    size_t messages = sample_count;
    drain(c);
    return seen(messages, ns);
}

struct clients_seen clients_run_paced(struct clients *c, uint64_t duration_ns, uint32_t per_s)
{
    uint64_t start = sluice_cycles(), sent = 0;
    uint64_t total = duration_ns * per_s / 1000000000u;
    uint64_t step = (uint64_t)((double)sluice_clock()->cycles_per_s / per_s);
    sample_count = 0;
    while (sent < total) {
        uint64_t now = sluice_cycles();
        while (sent < total && start + sent * step <= now &&
               !c->ones[sent % c->count].waiting) { /* one in flight: what is due waits */
            ask(c, (uint32_t)(sent % c->count), start + sent * step);
            sent++;
        }
        reap(c);
    }
    drain(c);
    return seen(sent, bench_ns(sluice_cycles() - start));
}

/* ---- connections ---- */

static void ask_once(int fd)
{
    char bytes[64] = "a connection's only message", answer[sizeof(bytes)];
    tcp_send_all(fd, bytes, sizeof(bytes));
    BENCH_CHECK(recv(fd, answer, sizeof(answer), MSG_WAITALL) == (ssize_t)sizeof(answer));
    BENCH_CHECK(memcmp(bytes, answer, sizeof(bytes)) == 0);
}

struct clients_idle clients_hold_idle(uint16_t port, uint32_t count)
{
    struct clients_idle idle = {calloc(count, sizeof(int)), count};
    BENCH_CHECK(idle.fds != NULL);
    for (uint32_t i = 0; i < count; i++) {
        idle.fds[i] = tcp_connect(port);
        if (i % 512 == 511 || i == count - 1) /* never more than the backlog */
            ask_once(idle.fds[i]);
    }
    return idle;
}

static void reset(int fd)
{
    struct linger none = {.l_onoff = 1};
    BENCH_CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0);
    close(fd);
}

void clients_end_idle(struct clients_idle *idle)
{
    for (uint32_t i = 0; i < idle->count; i++)
        reset(idle->fds[i]);
    free(idle->fds);
}

void clients_come_and_go(uint16_t port, uint32_t count)
{
    char out[64] = "a connection's only message", in[sizeof(out)];
    int *fds = calloc(count, sizeof(*fds));
    BENCH_CHECK(fds != NULL);
    for (uint32_t i = 0; i < count; i++) {
        fds[i] = tcp_connect(port);
        tcp_send_all(fds[i], out, sizeof(out));
    }
    for (uint32_t i = 0; i < count; i++) {
        BENCH_CHECK(recv(fds[i], in, sizeof(in), MSG_WAITALL) == (ssize_t)sizeof(in));
        reset(fds[i]);
    }
    free(fds);
}
