/*
 * Signals: a handler rings a bell that the loop polls. The same on every system: signalfd(2) would
 * want the signal blocked in every thread there is or will be, and in what they execute.
 */
#include "signals.h"
#include "loop.h"
#include "base/check.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#define SLOTS_MAX 64

/* What a handler reads, on whichever thread it runs. */
struct slot {
    _Atomic int number; /* 0: free */
    uint64_t process;   /* a child's signals are not its parent's */
    struct sluice_bell bell;
    struct sigaction before; /* of the first slot of a number; passed on to the next */
};

struct sluice_signal {
    struct sluice_loop *loop;
    struct slot *slot; /* NULL: not begun */
    struct sluice_bell bell;
    struct sluice_watch watch;
    void (*on_signal)(struct sluice_signal *s, void *user);
    void *user;
};

static struct slot slots[SLOTS_MAX];
static atomic_int handling; /* handlers that run now */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void handle(int number)
{
    int saved = errno;
    atomic_fetch_add_explicit(&handling, 1, memory_order_seq_cst);
    for (struct slot *slot = slots; slot < slots + SLOTS_MAX; slot++)
        if (atomic_load_explicit(&slot->number, memory_order_seq_cst) == number &&
            slot->process == sluice_system_process())
            sluice_bell_ring(&slot->bell);
    atomic_fetch_sub_explicit(&handling, 1, memory_order_release);
    errno = saved;
}

/* NULL, with number 0: a free one. */
static struct slot *find(int number)
{
    for (struct slot *slot = slots; slot < slots + SLOTS_MAX; slot++)
        if (atomic_load_explicit(&slot->number, memory_order_relaxed) == number)
            return slot;
    return NULL;
}

/* Under the lock. */
static int add_slot(struct slot **out, int number, const struct sluice_bell *bell)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    const struct slot *other = find(number);
    struct slot *slot = find(0);
    if (!slot)
        return -ENOBUFS;
    slot->bell = *bell;
    slot->process = sluice_system_process();
    sigfillset(&action.sa_mask); /* a handler is not interrupted by another one's */
    if (other)
        slot->before = other->before;
    else if (sigaction(number, NULL, &slot->before))
        return -errno;
    atomic_store_explicit(&slot->number, number, memory_order_seq_cst);
    if (!other && sigaction(number, &action, NULL)) {
        int err = -errno;
        atomic_store_explicit(&slot->number, 0, memory_order_relaxed);
        return err;
    }
    *out = slot;
    return 0;
}

/* Under the lock. Afterwards no handler holds the bell. */
static void remove_slot(struct slot *slot)
{
    int number = atomic_load_explicit(&slot->number, memory_order_relaxed);
    atomic_store_explicit(&slot->number, 0, memory_order_seq_cst);
    if (!find(number))
        sigaction(number, &slot->before, NULL);
    while (atomic_load_explicit(&handling, memory_order_seq_cst))
        sched_yield();
}

static void release(struct sluice_signal *s)
{
    sluice_bell_close(&s->bell);
    free(s);
}

static void on_bell(struct sluice_watch *watch, int32_t result)
{
    struct sluice_signal *s = SLUICE_CONTAINER_OF(watch, struct sluice_signal, watch);
    if (result <= 0) /* the bell may have been rung: it is looked at again */
        return;
    sluice_bell_clear(&s->bell);
    s->on_signal(s, s->user);
}

static void unwatched(struct sluice_watch *watch)
{
    release(SLUICE_CONTAINER_OF(watch, struct sluice_signal, watch));
}

static int start(struct sluice_signal *s, int number)
{
    int err = sluice_bell_open(&s->bell);
    if (err)
        return err;
    pthread_mutex_lock(&lock);
    err = number > 0 ? add_slot(&s->slot, number, &s->bell) : -EINVAL;
    pthread_mutex_unlock(&lock);
    if (err)
        return err;
    return sluice_watch_start(&s->watch, s->loop, s->bell.fd, SLUICE_OP_MULTI, on_bell);
}

int sluice_signal_create(struct sluice_signal **out, struct sluice_loop *loop, int number,
                         void (*on_signal)(struct sluice_signal *s, void *user), void *user)
{
    *out = NULL;
    if (sluice_loop_is_forked(loop))
        return -ECHILD;
    struct sluice_signal *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct sluice_signal){
        .loop = loop, .bell = {-1, -1}, .on_signal = on_signal, .user = user};
    int err = start(s, number);
    if (err) {
        sluice_signal_destroy(s);
        return err;
    }
    *out = s;
    return 0;
}

void sluice_signal_destroy(struct sluice_signal *s)
{
    if (!s)
        return;
    if (s->slot) {
        pthread_mutex_lock(&lock);
        remove_slot(s->slot);
        pthread_mutex_unlock(&lock);
    }
    if (s->watch.ready && !sluice_loop_is_forked(s->loop))
        sluice_watch_stop(&s->watch, unwatched);
    else
        release(s);
}
