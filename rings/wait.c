/*
 * Sleeping, the clients' end: on the doorbell that the engine rings. A futex word would wake
 * for entries just as fast, but not when the engine dies.
 */
#include "rings/client.h"
#include "rings/doorbell.h"
#include "base/clock.h"

#include <errno.h>

/* Changes whenever something in the state does that one can wait for. */
static uint64_t state_word(const struct sluice_client *c)
{
    const struct engine_shared *s = c->shared;
    uint64_t version = atomic_load_explicit(&s->text_version, memory_order_acquire);
    uint64_t state = atomic_load_explicit(&s->conn_state, memory_order_acquire);
    uint64_t ready = atomic_load_explicit(&s->ready, memory_order_acquire);
    return version << 16 | state << 8 | ready;
}

/* In any of the two that was full. */
static bool room_came_back(struct sluice_client *c)
{
    if (!c->outbox.full && !c->pongs.full)
        return true;
    bool outbox = c->outbox.full && sluice_producer_has_room(&c->outbox);
    bool pongs = c->pongs.full && sluice_producer_has_room(&c->pongs);
    return outbox || pongs;
}

static unsigned look(struct sluice_client *c, unsigned what)
{
    unsigned there = 0;
    if ((what & SLUICE_WAIT_INBOX) && c->role != SLUICE_PRODUCER && sluice_client_has_entry(c))
        there |= SLUICE_WAIT_INBOX;
    if ((what & SLUICE_WAIT_OUTBOX) && c->mine && room_came_back(c))
        there |= SLUICE_WAIT_OUTBOX;
    if ((what & SLUICE_WAIT_STATE) && state_word(c) != c->state_seen)
        there |= SLUICE_WAIT_STATE;
    return there;
}

int sluice_client_fd(const struct sluice_client *c)
{
    return c->bell_fd;
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

static void stop_waiting(struct sluice_client *c)
{
    if (c->mine)
        atomic_store_explicit(&c->mine->waiting, 0, memory_order_relaxed);
}

static void heard(struct sluice_client *c, int rung)
{
    c->gone = rung == 0 || (rung < 0 && rung != -EAGAIN && rung != -EINTR);
}

/* There is at most one ring for each time armed. */
int sluice_client_disarm(struct sluice_client *c)
{
    stop_waiting(c);
    if (!c->gone)
        heard(c, sluice_doorbell_wait(c->bell_fd, 0));
    return c->gone ? -EPIPE : 0;
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

/* One sleep: 0, or -EINTR. */
static int doze(struct sluice_client *c, unsigned what, int ms)
{
    if (sluice_client_arm(c, what) || c->gone) {
        sluice_client_disarm(c);
        return 0;
    }
    int rung = sluice_doorbell_wait(c->bell_fd, ms);
    stop_waiting(c);
    heard(c, rung);
    return rung == -EINTR ? rung : 0;
}

int sluice_client_wait(struct sluice_client *c, unsigned what, int64_t timeout_ns)
{
    uint64_t start = sluice_monotonic_ns();
    for (;;) {
        unsigned there = look(c, what);
        int ms = left_ms(c, timeout_ns, start);
        if (!there) {
            int err = doze(c, what, ms); /* of no time: to notice the engine's end */
            if (err)
                return err;
            there = look(c, what);
        }
        if (there & SLUICE_WAIT_STATE)
            c->state_seen = state_word(c);
        if (there)
            return (int)there;
        if (c->gone)
            return -EPIPE;
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
