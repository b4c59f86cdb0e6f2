/*
 * Two loops on libev in two threads of one process: bytes go back and forth between them over a
 * socketpair, and each rings the other's eventfd. Neither loop may know of the other.
 */
#include "backends/backend.h"
#include "tests/support/threads.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PIECE = 4096, OPS_MAX = 64 };

struct side {
    const char *event;
    struct sluice_op recv, send, bell;
    struct sluice_backend *be;
    int fd, bell_fd, others_bell_fd;
    uint8_t in[PIECE], out[PIECE];
    uint64_t spoken, received, rung;
    bool first; /* speaks first */
    struct finding finding;
    pthread_t thread;
};

static uint64_t deadline;

static void never(struct sluice_op *op, int32_t result, bool more)
{
    (void)op, (void)result, (void)more;
    SLUICE_CHECK(!"backends do not call back");
}

static void submit(struct side *s, struct sluice_op *op)
{
    must(s->be->ops->submit(s->be, op));
}

static void receive(struct side *s)
{
    sluice_op_init(&s->recv, SLUICE_OP_RECV, never);
    s->recv.fd = s->fd;
    s->recv.recv.addr = s->in;
    s->recv.recv.bytes = 1 + s->received % PIECE;
    submit(s, &s->recv);
}

static void speak(struct side *s)
{
    sluice_op_init(&s->send, SLUICE_OP_SEND, never);
    memset(s->out, (int)(s->spoken++ % 251), PIECE);
    s->send.fd = s->fd;
    s->send.flags = SLUICE_OP_WAITALL;
    s->send.send.addr = s->out;
    s->send.send.bytes = PIECE;
    submit(s, &s->send);
}

static void watch_bell(struct side *s)
{
    sluice_op_init(&s->bell, SLUICE_OP_POLL, never);
    s->bell.fd = s->bell_fd;
    s->bell.flags = SLUICE_OP_MULTI;
    s->bell.poll.events = POLLIN;
    submit(s, &s->bell);
}

/* A piece for each one heard; the first speaks unasked. */
static void answer(struct side *s)
{
    if (s->send.state == SLUICE_OP_IDLE && s->spoken < s->received / PIECE + s->first)
        speak(s);
}

/* Piece n is all bytes n, modulo a prime. */
static void take(struct side *s, int32_t count)
{
    if (found(&s->finding, count <= 0, "a receive failed", s->received))
        return;
    for (int32_t i = 0; i < count; i++, s->received++)
        found(&s->finding, s->in[i] != (uint8_t)(s->received / PIECE % 251), "a wrong byte",
              s->received);
    receive(s);
}

static void handle(struct side *s, const struct sluice_completion *c)
{
    eventfd_t count;
    if (c->result == -ECANCELED)
        return;
    if (c->op == &s->recv) {
        take(s, c->result);
    } else if (c->op == &s->send) {
        found(&s->finding, c->result != PIECE, "a send failed", s->spoken);
        must(eventfd_write(s->others_bell_fd, 1));
    } else {
        s->rung++;
        must(eventfd_read(s->bell_fd, &count));
    }
    answer(s);
}

static void turn(struct side *s, int64_t timeout_ns)
{
    struct sluice_completion out[8];
    int n = s->be->ops->poll(s->be, timeout_ns, out, 8);
    found(&s->finding, n < 0, "poll failed", s->received);
    for (int i = 0; i < n; i++)
        handle(s, &out[i]);
}

static void end(struct side *s)
{
    s->be->ops->cancel(s->be, &s->recv);
    s->be->ops->cancel(s->be, &s->send);
    s->be->ops->cancel(s->be, &s->bell);
    while (s->recv.state != SLUICE_OP_IDLE || s->send.state != SLUICE_OP_IDLE ||
           s->bell.state != SLUICE_OP_IDLE)
        turn(s, 0);
    sluice_backend_destroy(s->be);
}

static void *run(void *arg)
{
    struct side *s = arg;
    const struct sluice_backend_config cfg = {.ops_max = OPS_MAX, .event = s->event};
    must(sluice_backend_create(&s->be, &sluice_backend_ev, &cfg));
    sluice_op_init(&s->send, SLUICE_OP_SEND, never);
    receive(s);
    watch_bell(s);
    answer(s);
    while (sluice_monotonic_ns() < deadline && !s->finding.text)
        turn(s, 20 * (int64_t)SLUICE_NS_PER_MS);
    end(s);
    return NULL;
}

static void run_pair(const char *event, const char *others_event)
{
    static struct side sides[2];
    int fds[2], bells[2];
    memset(sides, 0, sizeof(sides));
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    for (int i = 0; i < 2; i++)
        bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    deadline = threads_deadline(500, 10000);
    for (int i = 0; i < 2; i++) {
        sides[i].event = i ? others_event : event;
        sides[i].fd = fds[i];
        sides[i].bell_fd = bells[i];
        sides[i].others_bell_fd = bells[!i];
        sides[i].first = i == 0;
        start_thread(&sides[i].thread, run, &sides[i]);
    }
    for (int i = 0; i < 2; i++)
        join_thread(sides[i].thread);
    for (int i = 0; i < 2; i++) {
        tap_finding(&sides[i].finding, sides[i].event);
        tap_ok(sides[i].rung > 100 && sides[i].received > 100 * PIECE,
               "%s beside %s: %llu bytes, rung %llu times", sides[i].event, sides[!i].event,
               (unsigned long long)sides[i].received, (unsigned long long)sides[i].rung);
        close(fds[i]);
        close(bells[i]);
    }
}

int main(void)
{
    tap_begin();
    run_pair("epoll", "epoll");
    run_pair("poll", "select");
    return tap_end();
}
