/*
 * The measuring programs' common part: see bench.h. Nothing is measured here.
 */
#include "bench.h"

#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool bench_quick;
int bench_cores[2];

static void find_cores(void)
{
    cpu_set_t set;
    int found = 0;
    if (sched_getaffinity(0, sizeof(set), &set))
        CPU_ZERO(&set);
    for (int core = 0; core < CPU_SETSIZE && found < 2; core++)
        if (CPU_ISSET((size_t)core, &set))
            bench_cores[found++] = core;
    if (found == 1)
        bench_cores[1] = bench_cores[0];
}

void bench_begin(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            bench_quick = true;
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(BENCH_LIMIT_S);
    find_cores();
    sluice_clock();
}

void bench_pin(int which)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)bench_cores[which], &set);
    sched_setaffinity(0, sizeof(set), &set); /* not allowed: not pinned, and so it is measured */
}

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fprintf(stderr, "wrong: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

struct start {
    void *(*f)(void *);
    void *arg;
};

static void *run_pinned(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    bench_pin(1);
    return start.f(start.arg);
}

pthread_t bench_start(void *(*f)(void *), void *arg)
{
    pthread_t thread;
    struct start *start = malloc(sizeof(*start));
    BENCH_CHECK(start != NULL);
    *start = (struct start){f, arg};
    bench_pin(0);
    BENCH_CHECK(pthread_create(&thread, NULL, run_pinned, start) == 0);
    return thread;
}

void bench_join(pthread_t thread)
{
    BENCH_CHECK(pthread_join(thread, NULL) == 0);
}

void bench_meet(struct bench_gate *gate)
{
    uint32_t mine = atomic_fetch_add_explicit(&gate->arrived, 1, memory_order_acq_rel);
    uint32_t both = (mine / 2 + 1) * 2;
    while ((int32_t)(atomic_load_explicit(&gate->arrived, memory_order_acquire) - both) < 0)
        ;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_quantile(double *values, size_t count, double share)
{
    BENCH_CHECK(count > 0);
    qsort(values, count, sizeof(*values), compare);
    size_t at = (size_t)(share * (double)count);
    return values[at < count ? at : count - 1];
}

/* ---- JSON; the texts are our own and hold nothing to escape ---- */

static void put_values(const double *values, int count)
{
    for (int i = 0; i < count; i++)
        printf("%s%.6g", i ? ", " : "", values[i]);
}

static void put_list(const char *name, const double *values, int count)
{
    printf(", \"%s\": [", name);
    put_values(values, count);
    printf("]");
}

void bench_say_ratio(const struct bench_ratio *r)
{
    static const char *const goals[] = {"none", "at least", "at most", "at least", "at most"};
    printf("{\"kind\": \"ratio\", \"name\": \"%s\", \"text\": \"%s\", \"reference_text\": \"%s\", "
           "\"unit\": \"%s\", \"goal\": \"%s\", \"limit\": %g, \"within_interval\": %s",
           r->name, r->ours_text, r->reference_text, r->unit, goals[r->goal], r->limit,
           r->goal >= BENCH_AT_LEAST_WITHIN ? "true" : "false");
    put_list("ours", r->ours, r->rounds);
    put_list("reference", r->reference, r->rounds);
    printf("}\n");
}

void bench_say_count(const char *name, const char *text, double value, double max)
{
    printf("{\"kind\": \"count\", \"name\": \"%s\", \"text\": \"%s\", \"value\": %.10g, "
           "\"limit\": %.10g}\n",
           name, text, value, max);
}

void bench_say_beside(const char *name, const char *text, const char *unit, const double *values,
                      int rounds)
{
    printf("{\"kind\": \"beside\", \"name\": \"%s\", \"text\": \"%s\", \"unit\": \"%s\"", name,
           text, unit);
    put_list("values", values, rounds);
    printf("}\n");
}

static void put_columns(const char *name, int columns, const char *const *headings,
                        const double *const *values, int count)
{
    printf(", \"%s\": {", name);
    for (int i = 0; i < columns; i++) {
        printf("%s\"%s\": [", i ? ", " : "", headings[i]);
        put_values(values[i], count);
        printf("]");
    }
    printf("}");
}

void bench_say_field(const char *name, const char *text, const char *unit, int columns,
                     const char *const *headings, const double *const *values, int rounds)
{
    printf("{\"kind\": \"field\", \"name\": \"%s\", \"text\": \"%s\", \"unit\": \"%s\"", name, text,
           unit);
    put_columns("columns", columns, headings, values, rounds);
    printf("}\n");
}

void bench_say_curve(const char *name, const char *text, const char *unit, int points,
                     const double *percents, int curves, const char *const *headings,
                     const double *const *values)
{
    printf("{\"kind\": \"curve\", \"name\": \"%s\", \"text\": \"%s\", \"unit\": \"%s\"", name, text,
           unit);
    put_list("percents", percents, points);
    put_columns("curves", curves, headings, values, points);
    printf("}\n");
}
