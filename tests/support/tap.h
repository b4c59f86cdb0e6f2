/*
 * TAP for test programs that are not Criterion's: one line per test point on stdout, the plan last.
 * Of one thread: worker threads hand their findings to the one that calls these.
 *
 *     int main(void)
 *     {
 *         tap_begin();
 *         TAP_OK(1 + 1 == 2);
 *         tap_ok(sum == expected, "sum over %d threads", threads);
 *         return tap_end();
 *     }
 */
#ifndef SLUICE_TESTS_TAP_H
#define SLUICE_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tap {
    int points;
    int failed;
};

static struct tap tap;

#define TAP_UNUSED __attribute__((unused))

/** First call. Lines leave as they are written, so that a crash or a fork keeps them whole. */
static TAP_UNUSED void tap_begin(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("TAP version 13");
}

/** One test point; returns ok. */
static TAP_UNUSED __attribute__((format(printf, 2, 3))) bool tap_ok(bool ok, const char *fmt, ...)
{
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof(name), fmt, ap);
    va_end(ap);
    tap.points++;
    tap.failed += !ok;
    printf("%s %d - %s\n", ok ? "ok" : "not ok", tap.points, name);
    return ok;
}

/** A test point that could not be tried here; the reason is shown and must not be empty. */
static TAP_UNUSED void tap_skip(const char *name, const char *reason)
{
    tap.points++;
    printf("ok %d - %s # SKIP %s\n", tap.points, name, reason);
}

/** A line about the point above it; shown when that failed. */
static TAP_UNUSED __attribute__((format(printf, 1, 2))) void tap_note(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printf("# %s\n", text);
}

/** A test point named after its condition. */
#define TAP_OK(cond)                               \
    do {                                           \
        if (!tap_ok((cond), "%s", #cond))          \
            tap_note("%s:%d", __FILE__, __LINE__); \
    } while (0)

/** Last call; returns what main() returns. */
static TAP_UNUSED int tap_end(void)
{
    printf("1..%d\n", tap.points);
    return tap.points > 0 && tap.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
