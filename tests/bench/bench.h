/*
 * What the measuring programs share: arguments, pinned threads, clocks, order statistics, and the
 * lines of JSON that tools/bench turns into a table. What is measured is in one program per figure.
 */
#ifndef BENCH_H
#define BENCH_H

#include "base/clock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_ROUNDS  15  /* at least; each is A B A B: see bench_order() */
#define BENCH_LIMIT_S 300 /* a process that hangs is ended by SIGALRM, and has failed */

/* Set by bench_begin(). */
extern bool bench_quick; /* --quick: shorter rounds, as many */
extern int
    bench_cores[2]; /* two that this process may use; the same one twice if it has only one */

/** Arguments, cores, clock. Every program calls it first. */
void bench_begin(int argc, char **argv);

/** Pin the calling thread to bench_cores[which]. */
void bench_pin(int which);

/** End the program: something was not just slow but wrong. */
_Noreturn __attribute__((format(printf, 1, 2))) void bench_fail(const char *format, ...);

/** bench_fail() unless the condition holds. */
#define BENCH_CHECK(condition)                                       \
    do {                                                             \
        if (!(condition))                                            \
            bench_fail("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)

static inline double bench_ns(uint64_t cycles)
{
    return (double)sluice_cycles_to_ns(sluice_clock(), cycles);
}

/** Run f(arg) on a thread pinned to the second core, while the caller stays on the first. */
pthread_t bench_start(void *(*f)(void *), void *arg);
void bench_join(pthread_t thread);

/** Two threads meet: each calls it, neither goes on alone. Spins. */
struct bench_gate {
    _Alignas(128) _Atomic uint32_t arrived;
};
void bench_meet(struct bench_gate *gate);

/** The value below which this share of them lies; sorts them. */
double bench_quantile(double *values, size_t count, double share);

/** Variant number k of a round, in an order that turns with the rounds: none is always first. */
static inline int bench_order(int round, int k, int variants)
{
    return (k + round) % variants;
}

/* ---- what is said: each call prints one line of JSON ---- */

enum bench_goal {
    BENCH_NO_GOAL,
    BENCH_AT_LEAST,
    BENCH_AT_MOST,
    BENCH_AT_LEAST_WITHIN, /* the ratio's interval reaches it */
    BENCH_AT_MOST_WITHIN,
};

/** A figure: ours[i] and reference[i] were measured in round i, one after the other. */
struct bench_ratio {
    const char *name, *ours_text, *reference_text, *unit;
    const double *ours, *reference;
    int rounds;
    enum bench_goal goal;
    double limit;
};
void bench_say_ratio(const struct bench_ratio *r);

/** A count with a highest value. */
void bench_say_count(const char *name, const char *text, double value, double max);

/** Something beside the figures, one value per round. */
void bench_say_beside(const char *name, const char *text, const char *unit, const double *values,
                      int rounds);

/** The same of several contestants: one line of a table that has a column for each. */
void bench_say_field(const char *name, const char *text, const char *unit, int columns,
                     const char *const *headings, const double *const *values, int rounds);

/** Percentiles of several contestants, for a picture: values[contestant][point]. */
void bench_say_curve(const char *name, const char *text, const char *unit, int points,
                     const double *percents, int curves, const char *const *headings,
                     const double *const *values);

#endif
