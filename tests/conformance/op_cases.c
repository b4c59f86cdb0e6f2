/*
 * Conformance cases: POLL, ops as such, files, time. (n) names the line of backends/backend.h.
 * What an op does to a stream is in stream_cases.c.
 */
#include "tests/conformance/cases.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ll

/* --- poll ops ---------------------------------------------------------------------------- */

void poll_readable(struct fixture *f)
{
    struct pair p;
    struct case_op poll = {0};
    case_pair_open(f, &p);
    case_op_init(&poll, SLUICE_OP_POLL, p.fd);
    poll.op.poll.events = POLLIN;
    case_submit(f, &poll);
    case_idle(f, 5 * MS);
    EXPECT(!poll.ended);
    case_peer_send(f, p.peer, 0, 10);
    EXPECT(case_finish(f, &poll) == POLLIN);
    EXPECT(case_run(f, &poll) == POLLIN); /* it stands: at once */
    case_expect(f, p.fd, 0, 10);
    case_pair_close(f, &p);
}

void poll_writable(struct fixture *f)
{
    struct pair p;
    struct case_op poll = {0};
    case_pair_open(f, &p);
    case_op_init(&poll, SLUICE_OP_POLL, p.fd);
    poll.op.poll.events = POLLOUT;
    EXPECT(case_run(f, &poll) == POLLOUT);
    case_pair_close(f, &p);
}

void poll_multi(struct fixture *f) /* (1) */
{
    struct pair p;
    struct case_op poll = {0};
    case_pair_open(f, &p);
    case_op_init(&poll, SLUICE_OP_POLL, p.fd);
    poll.op.flags = SLUICE_OP_MULTI;
    poll.op.poll.events = POLLIN;
    case_submit(f, &poll);
    for (uint64_t pos = 0; pos < 500; pos += 100) {
        case_turn(f, 0);
        if (poll.ended)
            case_submit(f, &poll);
        uint32_t seen = poll.completions;
        case_peer_send(f, p.peer, pos, 100);
        UNTIL(f, poll.completions > seen || poll.ended);
        EXPECT(poll.result & POLLIN);
        case_expect(f, p.fd, pos, 100);
    }
    if (!poll.ended)
        case_cancel(f, &poll);
    UNTIL(f, poll.ended);
    EXPECT(poll.result == -ECANCELED || (poll.result & POLLIN));
    case_pair_close(f, &p);
}

void poll_foreign_descriptor_cancelled(struct fixture *f) /* (5) */
{
    struct case_op poll = {0};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    EXPECT(fd >= 0);
    case_op_init(&poll, SLUICE_OP_POLL, fd);
    poll.op.flags = SLUICE_OP_MULTI;
    poll.op.poll.events = POLLIN;
    case_submit(f, &poll);
    case_idle(f, 5 * MS);
    EXPECT(!poll.ended && poll.completions == 0);
    case_cancel(f, &poll);
    EXPECT(case_finish(f, &poll) == -ECANCELED);
    close(fd);
}

/* --- ops in general ---------------------------------------------------------------------- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, timeout_ms) == 1;
}

/* Also what was parked in the turn that handed something back. */
void pollable_is_readable_for_what_comes(struct fixture *f)
{
    struct pair with, without;
    uint8_t a[10], b[10];
    bool due = true;
    int fd = f->be->ops->pollable ? f->be->ops->pollable(f->be, &due) : -ENOTSUP;
    if (fd == -ENOTSUP)
        case_skipped("it has no descriptor");
    case_pair_open(f, &with);
    case_pair_open(f, &without);
    for (uint64_t trip = 0; trip < 4; trip++) {
        struct case_op there = {0}, to_come = {0};
        case_peer_send(f, with.peer, trip * sizeof(a), sizeof(a));
        case_recv_init(&there, with.fd, a, sizeof(a));
        case_recv_init(&to_come, without.fd, b, sizeof(b));
        case_submit(f, &there);
        case_submit(f, &to_come);
        EXPECT(case_finish(f, &there) == sizeof(a));
        for (due = true; due;) {
            EXPECT(f->be->ops->pollable(f->be, &due) == fd);
            if (due)
                case_turn(f, 0);
        }
        EXPECT(!is_readable(fd, 10) && !to_come.ended);
        EXPECT(f->ops->send(f, without.peer, a, sizeof(a)) == sizeof(a));
        EXPECT(is_readable(fd, 5000));
        EXPECT(case_finish(f, &to_come) == sizeof(b));
    }
    case_pair_close(f, &with);
    case_pair_close(f, &without);
}

void submit_only_queues(struct fixture *f) /* (1) (3) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[100];
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 50);
    case_recv_init(&recv, p.fd, buf, sizeof(buf));
    case_submit(f, &recv); /* checks: in flight, although all is there */
    EXPECT(recv.completions == 0);
    EXPECT(case_finish(f, &recv) > 0);
    EXPECT(f->be->in_flight == 0);
    case_idle(f, 5 * MS);
    EXPECT(recv.completions == 1); /* and never again */
    case_pair_close(f, &p);
}

void cancel_of_a_completed_op(struct fixture *f) /* (5) */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[100];
    case_pair_open(f, &p);
    uint64_t pos = 0;
    for (int i = 0; i < 20; i++) {
        case_recv_init(&recv, p.fd, buf, sizeof(buf));
        case_submit(f, &recv);
        case_peer_send(f, p.peer, pos, 10);
        case_cancel(f, &recv);
        int32_t result = case_finish(f, &recv);
        EXPECT(result == -ECANCELED || (result > 0 && case_same(buf, pos, (size_t)result)));
        EXPECT(recv.completions == 1);
        size_t have = result > 0 ? (size_t)result : 0;
        case_expect(f, p.fd, pos + have, 10 - have);
        pos += 10;
    }
    case_pair_close(f, &p);
}

void late_cancel_spares_the_next_life(struct fixture *f) /* (5), generation */
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    for (uint64_t pos = 0; pos < 20; pos++) {
        case_recv_init(&recv, p.fd, &byte, 1);
        case_submit(f, &recv);
        case_peer_send(f, p.peer, pos, 1);
        case_turn(f, 0);
        if (!recv.ended)
            case_cancel(f, &recv); /* may find it, or come too late */
        if (case_finish(f, &recv) == -ECANCELED)
            case_expect(f, p.fd, pos, 1);
        else
            EXPECT(recv.result == 1 && byte == case_byte(pos));
        case_submit(f, &recv);
        case_idle(f, 2 * MS);
        EXPECT(!recv.ended);
        case_cancel(f, &recv);
        EXPECT(case_finish(f, &recv) == -ECANCELED);
    }
    case_pair_close(f, &p);
}

void op_lives_many_times(struct fixture *f) /* generation wraps at 65536 */
{
    struct pair p;
    struct case_op poll = {0};
    case_pair_open(f, &p);
    case_op_init(&poll, SLUICE_OP_POLL, p.fd);
    poll.op.poll.events = POLLOUT;
    poll.op.generation = 65400;
    for (int i = 0; i < 300; i++)
        EXPECT(case_run(f, &poll) == POLLOUT && poll.completions == 1);
    EXPECT(poll.op.generation == (uint16_t)(65400 + 300));
    case_pair_close(f, &p);
}

void no_room_for_another_op(struct fixture *f) /* (7) */
{
    struct case_op ops[CASE_OPS_MAX + 1] = {0};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (int i = 0; i <= CASE_OPS_MAX; i++) {
        case_op_init(&ops[i], SLUICE_OP_POLL, fd);
        ops[i].op.poll.events = POLLIN;
    }
    for (int i = 0; i < CASE_OPS_MAX; i++)
        case_submit(f, &ops[i]);
    struct sluice_op *extra = &ops[CASE_OPS_MAX].op;
    struct sluice_op before = *extra;
    EXPECT(f->be->ops->submit(f->be, extra) == -EAGAIN);
    EXPECT(memcmp(&before, extra, sizeof(before)) == 0);
    EXPECT(f->be->in_flight == CASE_OPS_MAX);
    case_turn(f, 0);
    case_cancel(f, &ops[7]);
    EXPECT(case_finish(f, &ops[7]) == -ECANCELED);
    case_submit(f, &ops[CASE_OPS_MAX]); /* there is room now */
    for (int i = 0; i <= CASE_OPS_MAX; i++)
        if (i != 7)
            case_cancel(f, &ops[i]);
    for (int i = 0; i <= CASE_OPS_MAX; i++)
        EXPECT(case_finish(f, &ops[i]) == -ECANCELED);
    close(fd);
}

/* More is asked for between two polls than any queue on the way to the kernel holds. */
void row_58_more_than_the_submission_queue_holds(struct fixture *f) /* (5) (7) */
{
    struct case_op ops[CASE_OPS_MAX] = {0};
    struct pair p;
    case_pair_open(f, &p);
    for (int i = 0; i < CASE_OPS_MAX; i++) {
        case_op_init(&ops[i], SLUICE_OP_POLL, p.fd);
        ops[i].op.poll.events = POLLIN;
        case_submit(f, &ops[i]);
    }
    for (int i = 0; i < CASE_OPS_MAX; i += 2)
        case_cancel(f, &ops[i]);
    for (int i = 0; i < CASE_OPS_MAX; i += 2)
        EXPECT(case_finish(f, &ops[i]) == -ECANCELED);
    EXPECT(f->be->in_flight == CASE_OPS_MAX / 2);
    case_peer_send(f, p.peer, 0, 1);
    for (int i = 1; i < CASE_OPS_MAX; i += 2)
        EXPECT((case_finish(f, &ops[i]) & POLLIN) && ops[i].completions == 1);
    case_pair_close(f, &p);
}

/* More complete at once than one poll hands back, and than one enter runs. (1) */
void many_complete_at_once(struct fixture *f)
{
    enum { PAIRS = 40 };
    static struct pair pairs[PAIRS];
    static struct case_op recvs[PAIRS];
    uint8_t bufs[PAIRS][8];
    for (int i = 0; i < PAIRS; i++) {
        case_pair_open(f, &pairs[i]);
        case_recv_init(&recvs[i], pairs[i].fd, bufs[i], 1);
        case_submit(f, &recvs[i]);
    }
    case_turn(f, 0);
    f->poll_max = 7;
    for (int i = 0; i < PAIRS; i++)
        case_peer_send(f, pairs[i].peer, (uint64_t)i * 100, 1);
    for (int i = 0; i < PAIRS; i++) {
        EXPECT(case_finish(f, &recvs[i]) == 1);
        EXPECT(recvs[i].completions == 1);
        EXPECT(bufs[i][0] == case_byte((uint64_t)i * 100));
        case_pair_close(f, &pairs[i]);
    }
    EXPECT(f->be->in_flight == 0);
}

void shorter_names_for_files(struct fixture *f)
{
    const struct sluice_backend_ops *be = f->be->ops;
    struct pair p;
    struct case_op recv = {0}, send = {0};
    uint8_t buf[100];
    case_pair_open(f, &p);
    int file = be->file_add(f->be, p.fd);
    EXPECT(file >= 0 || file == -ENFILE); /* a backend may have none: descriptors serve */
    case_fill(buf, 0, sizeof(buf));
    case_send_init(&send, p.fd, buf, 1, 0);
    send.op.file = file < 0 ? -1 : file;
    EXPECT(case_run(f, &send) == 1);
    case_peer_expect(f, p.peer, 0, 1);
    case_peer_send(f, p.peer, 0, 1);
    case_recv_init(&recv, p.fd, buf, sizeof(buf));
    recv.op.file = file < 0 ? -1 : file;
    EXPECT(case_run(f, &recv) == 1 && buf[0] == case_byte(0));
    if (file >= 0)
        be->file_remove(f->be, file);
    case_send(f, p.fd, 1, 100); /* the descriptor itself is as good as ever */
    case_peer_expect(f, p.peer, 1, 100);
    case_close(f, p.fd); /* nothing holds it: the peer sees the end */
    p.fd = -1;
    EXPECT(case_peer_end(f, p.peer) == 0);
    case_pair_close(f, &p);
}

void file_names_run_out_and_come_back(struct fixture *f)
{
    const struct sluice_backend_ops *be = f->be->ops;
    int fd = case_open(f, AF_INET);
    int files[CASE_FILES_MAX];
    int first = be->file_add(f->be, fd);
    if (first == -ENFILE) { /* a backend may have none at all */
        EXPECT(be->file_add(f->be, fd) == -ENFILE);
        case_close(f, fd);
        return;
    }
    be->file_remove(f->be, first);
    for (int i = 0; i < CASE_FILES_MAX; i++) {
        files[i] = be->file_add(f->be, fd);
        EXPECT(files[i] >= 0);
        for (int other = 0; other < i; other++)
            EXPECT(files[other] != files[i]);
    }
    EXPECT(be->file_add(f->be, fd) < 0);
    be->file_remove(f->be, files[3]);
    EXPECT(be->file_add(f->be, fd) == files[3]);
    for (int i = 0; i < CASE_FILES_MAX; i++)
        be->file_remove(f->be, files[i]);
    case_close(f, fd);
}

/* --- time -------------------------------------------------------------------------------- */

void poll_without_timeout_does_not_wait(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, &byte, 1);
    case_submit(f, &recv);
    uint64_t start_ns = case_now_ns(f);
    for (int i = 0; i < 10; i++)
        EXPECT(case_turn(f, 0) == 0);
    EXPECT(case_now_ns(f) - start_ns < 500 * MS);
    case_cancel(f, &recv);
    case_finish(f, &recv);
    case_pair_close(f, &p);
}

void poll_waits_about_that_long(struct fixture *f)
{
    uint64_t start_ns = case_now_ns(f);
    EXPECT(case_turn(f, 30 * MS) == 0);
    uint64_t took_ns = case_now_ns(f) - start_ns;
    EXPECT(took_ns >= 29 * MS && took_ns < 5000 * MS);
}

void poll_returns_early_for_a_completion(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t byte;
    case_pair_open(f, &p);
    case_recv_init(&recv, p.fd, &byte, 1);
    case_submit(f, &recv);
    case_turn(f, 0);
    case_peer_send(f, p.peer, 0, 1);
    uint64_t start_ns = case_now_ns(f);
    EXPECT(recv.ended || case_turn(f, -1) == 1);
    EXPECT(recv.ended && recv.result == 1);
    EXPECT(case_now_ns(f) - start_ns < 3000 * MS);
    case_pair_close(f, &p);
}

void nothing_is_lost_without_timeout(struct fixture *f)
{
    struct pair p;
    struct case_op recv = {0};
    uint8_t buf[64];
    uint64_t pos = 0;
    case_pair_open(f, &p);
    case_peer_send(f, p.peer, 0, 4000);
    uint64_t limit_ns = case_now_ns(f) + 8000 * MS;
    while (pos < 4000) {
        EXPECT(case_now_ns(f) < limit_ns);
        if (recv.op.state == SLUICE_OP_IDLE) {
            case_recv_init(&recv, p.fd, buf, sizeof(buf));
            case_submit(f, &recv);
        }
        if (case_turn(f, 0) == 0)
            continue;
        EXPECT(recv.result > 0 && case_same(buf, pos, (size_t)recv.result));
        pos += (uint64_t)recv.result;
    }
    case_pair_close(f, &p);
}

static void on_signal(int number)
{
    (void)number;
}

void row_57_signal_ends_a_poll_with_nothing(struct fixture *f)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {.it_value.tv_nsec = 20 * MS};
    timer_t timer;
    EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    EXPECT(timer_settime(timer, 0, &soon, NULL) == 0);
    uint64_t start_ns = case_now_ns(f);
    EXPECT(case_turn(f, 5000 * MS) == 0);
    EXPECT(f->ops->virtual_time || case_now_ns(f) - start_ns < 4000 * MS);
    timer_delete(timer);
}
