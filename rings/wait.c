/*
 * Sleeping, the clients' end. One poll(2) on an eventfd and the rendezvous socket: a futex word
 * would wake for entries just as fast, but not when the engine dies.
 */
#include "rings/client.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* Changes whenever something in the state does that one can wait for. */
static uint64_t state_word(const struct sluice_client *c)
{
    const struct engine_shared *s = c->shared;
    uint64_t version = atomic_load_explicit(&s->text_version, memory_order_acquire);
    uint64_t state = atomic_load_explicit(&s->conn_state, memory_order_acquire);
    uint64_t ready = atomic_load_explicit(&s->ready, memory_order_acquire);
    return version << 16 | state << 8 | ready;
}

static unsigned look(struct sluice_client *c, unsigned what)
{
    unsigned there = 0;
    if ((what & SLUICE_WAIT_INBOX) && c->role != SLUICE_PRODUCER && sluice_client_has_entry(c))
        there |= SLUICE_WAIT_INBOX;
    if ((what & SLUICE_WAIT_OUTBOX) && c->mine && sluice_producer_has_room(&c->outbox) &&
        sluice_producer_has_room(&c->pongs))
        there |= SLUICE_WAIT_OUTBOX;
    if ((what & SLUICE_WAIT_STATE) && state_word(c) != c->state_seen)
        there |= SLUICE_WAIT_STATE;
    return there;
}

int sluice_client_fd(const struct sluice_client *c)
{
    return c->bell_fd;
}

int sluice_client_hangup_fd(const struct sluice_client *c)
{
    return c->sock;
}

int sluice_client_arm(struct sluice_client *c, unsigned what)
{
    if (c->mine) {
        uint32_t word = (++c->waiting_count << 8) | what;
        atomic_store_explicit(&c->mine->waiting, word, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst); /* the engine's half: sluice_channel_flush() */
    }
    return (int)look(c, what);
}

void sluice_client_disarm(struct sluice_client *c)
{
    eventfd_t rung;
    if (!c->mine)
        return;
    atomic_store_explicit(&c->mine->waiting, 0, memory_order_relaxed);
    eventfd_read(c->bell_fd, &rung); /* non-blocking; nothing there is fine */
}

static bool hung_up(struct sluice_client *c)
{
    char byte;
    if (c->gone)
        return true;
    ssize_t n = recv(c->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    c->gone = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    return c->gone;
}

static int left_ms(const struct sluice_client *c, int64_t timeout_ns, uint64_t start)
{
    uint64_t past = sluice_monotonic_ns() - start;
    if (timeout_ns >= 0 && past >= (uint64_t)timeout_ns)
        return 0;
    if (c->role == SLUICE_OBSERVER)
        return 1; /* it has no word in which to say that it sleeps */
    if (timeout_ns < 0)
        return -1;
    uint64_t ms = ((uint64_t)timeout_ns - past + SLUICE_NS_PER_MS - 1) / SLUICE_NS_PER_MS;
    return ms > 1000000 ? 1000000 : (int)ms;
}

int sluice_client_wait(struct sluice_client *c, unsigned what, int64_t timeout_ns)
{
    uint64_t start = sluice_monotonic_ns();
    for (;;) {
        struct pollfd fds[] = {{.fd = c->sock, .events = POLLIN},
                               {.fd = c->bell_fd, .events = POLLIN}};
        unsigned there = look(c, what);
        int ms = left_ms(c, timeout_ns, start);
        if (!there && ms != 0) {
            there = (unsigned)sluice_client_arm(c, what);
            int n = there || c->gone ? 0 : poll(fds, 2, ms);
            int err = n < 0 ? -errno : 0;
            sluice_client_disarm(c);
            if (err)
                return err;
            there |= look(c, what);
        }
        if (there & SLUICE_WAIT_STATE)
            c->state_seen = state_word(c);
        if (there)
            return (int)there;
        if (hung_up(c))
            return look(c, what) ? (int)look(c, what) : -EPIPE;
        if (ms == 0)
            return 0;
    }
}

int sluice_client_wait_ready(struct sluice_client *c, unsigned ready, int64_t timeout_ns)
{
    uint64_t start = sluice_monotonic_ns();
    for (;;) {
        if ((atomic_load_explicit(&c->shared->ready, memory_order_acquire) & ready) == ready)
            return 0;
        if (atomic_load_explicit(&c->shared->conn_state, memory_order_acquire) ==
            SLUICE_CONN_CLOSED)
            return -ECONNABORTED;
        int64_t left = timeout_ns;
        if (timeout_ns >= 0) {
            uint64_t past = sluice_monotonic_ns() - start;
            if (past >= (uint64_t)timeout_ns)
                return -ETIMEDOUT;
            left -= (int64_t)past;
        }
        int n = sluice_client_wait(c, SLUICE_WAIT_STATE, left);
        if (n < 0)
            return n;
    }
}
