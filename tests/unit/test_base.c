/*
 * runtime/base: the clocks, their calibration, checks and log lines. The reason table has a file of
 * its own.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * (long)SLUICE_NS_PER_MS}, NULL);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

Test(clock, is_calibrated_once)
{
    const struct sluice_clock *clk = sluice_clock();
    struct sluice_clock first = *clk;
    sleep_ms(2);
    cr_assert_eq(sluice_clock(), clk);
    cr_assert_eq(memcmp(&first, clk, sizeof(first)), 0);
}

Test(clock, readings_are_of_one_moment)
{
    const struct sluice_clock *clk = sluice_clock();
    cr_assert_neq(clk->cycles, 0);
    cr_assert_lt(distance(clk->monotonic_ns, sluice_monotonic_ns()), SLUICE_NS_PER_S);
    cr_assert_lt(distance(clk->realtime_ns, sluice_realtime_ns()), SLUICE_NS_PER_S);
}

Test(clock, rate_is_that_of_the_source)
{
    const struct sluice_clock *clk = sluice_clock();
    cr_assert_eq(clk->is_tsc, sluice_cycles_are_tsc);
    if (!clk->is_tsc)
        cr_assert_eq(clk->cycles_per_s, SLUICE_NS_PER_S);
    else /* no processor's TSC is outside of this */
        cr_assert(clk->cycles_per_s > 100000000ull && clk->cycles_per_s < 20000000000ull);
}

Test(clock, cycles_follow_monotonic_time)
{
    const struct sluice_clock *clk = sluice_clock();
    uint64_t cycles = sluice_cycles();
    uint64_t ns = sluice_monotonic_ns();
    sleep_ms(20);
    uint64_t by_cycles = sluice_cycles_to_ns(clk, sluice_cycles() - cycles);
    uint64_t by_clock = sluice_monotonic_ns() - ns;
    /* Wide: this is about a wrong factor, and the machine may be busy between two readings. */
    cr_assert(by_cycles > by_clock / 2 && by_cycles < by_clock * 2, "%lu ns against %lu ns",
              (unsigned long)by_cycles, (unsigned long)by_clock);
}

Test(clock, cycles_become_monotonic_on_both_sides_of_the_calibration)
{
    const struct sluice_clock clk = {.cycles = 1000000,
                                     .monotonic_ns = 5000000,
                                     .cycles_per_s = 2 * SLUICE_NS_PER_S,
                                     .ns_mult = 1ull << 31, /* half a ns each */
                                     .is_tsc = 1};
    cr_assert_eq(sluice_cycles_to_monotonic(&clk, 1000000), 5000000);
    cr_assert_eq(sluice_cycles_to_monotonic(&clk, 1000200), 5000100);
    cr_assert_eq(sluice_cycles_to_monotonic(&clk, 999800), 4999900);
}

Test(clock, long_spans_do_not_overflow)
{
    const struct sluice_clock clk = {.ns_mult = 1ull << 31};
    uint64_t ten_years = 10ull * 365 * 24 * 3600 * SLUICE_NS_PER_S;
    cr_assert_eq(sluice_cycles_to_ns(&clk, 2 * ten_years), ten_years);
}

static void *read_clock(void *unused)
{
    (void)unused;
    return (void *)(uintptr_t)sluice_clock()->cycles;
}

Test(clock, threads_get_the_same_calibration)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, read_clock, NULL), 0);
    for (int i = 0; i < 4; i++) {
        void *cycles;
        cr_assert_eq(pthread_join(threads[i], &cycles), 0);
        cr_assert_eq((uintptr_t)cycles, sluice_clock()->cycles);
    }
}

Test(check, lets_the_truth_pass)
{
    int calls = 0;
    SLUICE_CHECK(++calls == 1);
    cr_assert_eq(calls, 1);
}

Test(check, aborts_on_a_bug, .signal = SIGABRT)
{
    SLUICE_CHECK(1 + 1 == 3);
}

struct outer {
    int first;
    int member;
};

Test(check, container_of_finds_the_owner)
{
    struct outer o = {0};
    cr_assert_eq(SLUICE_CONTAINER_OF(&o.member, struct outer, member), &o);
}

/* What log() writes to stderr while body() runs. */
static const char *logged(void (*body)(void))
{
    static char text[4096];
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    int saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    body();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof(text) - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void log_one(void)
{
    sluice_log(SLUICE_LOG_WARN, "%s is %d", "answer", 42);
}

Test(log, line_has_time_level_and_text)
{
    const char *line = logged(log_one);
    int year, month, day, hour, minute, second, micros, end = 0;
    cr_assert_eq(sscanf(line, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ warn  answer is 42%n", &year, &month,
                        &day, &hour, &minute, &second, &micros, &end),
                 7, "%s", line);
    cr_assert_str_eq(line + end, "\n");
}

static void log_quiet(void)
{
    sluice_log(SLUICE_LOG_DEBUG, "nobody asked");
    sluice_log_set_level(SLUICE_LOG_ERROR);
    sluice_log(SLUICE_LOG_WARN, "nor for this");
}

Test(log, drops_what_is_above_the_level)
{
    cr_assert_str_empty(logged(log_quiet));
}

static void log_much(void)
{
    char text[3000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    sluice_log(SLUICE_LOG_ERROR, "%s", text);
}

Test(log, long_line_is_cut_and_still_ends)
{
    const char *line = logged(log_much);
    size_t length = strlen(line);
    cr_assert(length > 512 && length <= 1024, "%zu bytes", length);
    cr_assert_eq(strchr(line, '\n'), line + length - 1);
    cr_assert_eq(line[length - 2], 'x');
}

static void log_across_errno(void)
{
    errno = ENOENT;
    sluice_log(SLUICE_LOG_ERROR, "something");
    cr_assert_eq(errno, ENOENT);
}

Test(log, keeps_errno)
{
    cr_assert_not_null(strstr(logged(log_across_errno), "something"));
}
