/*
 * A handler of SIGBUS for mapped memory: see memory_guard.h.
 */
#include "rings/memory_guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#define RANGES_MAX 512u /* more are not guarded */

/* Read by the handler at any moment: bytes of 0 is none. */
static struct {
    _Atomic uintptr_t addr;
    _Atomic uint64_t bytes;
} ranges[RANGES_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct sigaction before;
static uintptr_t page;

static bool is_ours(uintptr_t at)
{
    for (unsigned i = 0; i < RANGES_MAX; i++) {
        uint64_t bytes = atomic_load_explicit(&ranges[i].bytes, memory_order_acquire);
        if (bytes && at - atomic_load_explicit(&ranges[i].addr, memory_order_relaxed) < bytes)
            return true;
    }
    return false;
}

/* Not ours: as it was before, when the instruction is tried again. */
static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t at = (uintptr_t)info->si_addr;
    void *addr = (void *)(at & ~(page - 1));
    if (is_ours(at) && mmap(addr, page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
        return;
    sigaction(number, &before, NULL);
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    page = (uintptr_t)sysconf(_SC_PAGESIZE);
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
}

void sluice_memory_guard(const void *addr, uint64_t bytes)
{
    pthread_once(&once, install);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < RANGES_MAX; i++) {
        if (atomic_load_explicit(&ranges[i].bytes, memory_order_relaxed))
            continue;
        atomic_store_explicit(&ranges[i].addr, (uintptr_t)addr, memory_order_relaxed);
        atomic_store_explicit(&ranges[i].bytes, bytes, memory_order_release);
        break;
    }
    pthread_mutex_unlock(&lock);
}

void sluice_memory_unguard(const void *addr)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < RANGES_MAX; i++)
        if (atomic_load_explicit(&ranges[i].addr, memory_order_relaxed) == (uintptr_t)addr)
            atomic_store_explicit(&ranges[i].bytes, 0, memory_order_release);
    pthread_mutex_unlock(&lock);
}
