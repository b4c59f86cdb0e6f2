/*
 * A bare cache-line round trip between two cores: one line each way, nothing else. The reference of
 * the one-way hop, and a measure of the machine.
 */
#ifndef BENCH_LINE_H
#define BENCH_LINE_H

#include "bench.h"

#include <stdatomic.h>

struct line_pair {
    _Alignas(128) _Atomic uint64_t there;
    _Alignas(128) _Atomic uint64_t back;
    struct bench_gate gate;
};

static inline void line_answer(struct line_pair *p, int trips)
{
    bench_meet(&p->gate);
    uint64_t n = atomic_load_explicit(&p->back, memory_order_relaxed);
    for (int i = 0; i < trips; i++) {
        while (atomic_load_explicit(&p->there, memory_order_acquire) == n)
            ;
        atomic_store_explicit(&p->back, ++n, memory_order_release);
    }
}

/* Duration of each trip, ns. */
static inline void line_ask(struct line_pair *p, int trips, double *ns)
{
    uint64_t n = atomic_load_explicit(&p->there, memory_order_relaxed);
    bench_meet(&p->gate);
    for (int i = 0; i < trips; i++) {
        uint64_t start = sluice_cycles();
        atomic_store_explicit(&p->there, ++n, memory_order_release);
        while (atomic_load_explicit(&p->back, memory_order_acquire) != n)
            ;
        ns[i] = (double)(sluice_cycles() - start);
    }
    for (int i = 0; i < trips; i++)
        ns[i] = bench_ns((uint64_t)ns[i]);
}

#endif
