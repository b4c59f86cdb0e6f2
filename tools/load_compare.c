/*
 * sluice load --compare: the summaries that two runs wrote with --json, side by side. Reads what
 * load_report.c writes, not JSON at large.
 */
#include "load_report.h"

#include "fail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct compared {
    const char *path;
    char *summary; /* its line */
};

static int read_summary(struct compared *c, const char *path)
{
    size_t room = 0;
    FILE *file = fopen(path, "r");
    *c = (struct compared){.path = path};
    if (!file)
        return fail_errno(-errno, "--compare %s", path);
    while (getline(&c->summary, &room, file) > 0)
        if (strstr(c->summary, "\"event\": \"summary\"")) {
            fclose(file);
            return 0;
        }
    fclose(file);
    return fail_remedy(SLUICE_REASON_USAGE, "give what sluice load --json wrote to its end",
                       "--compare %s: no summary in it", path);
}

/* What stands behind "key": in the object of that name (NULL: the outermost). NULL: not there. */
static const char *find(const struct compared *c, const char *object, const char *key)
{
    char word[64];
    const char *at = c->summary;
    if (object) {
        snprintf(word, sizeof(word), "\"%s\": {", object);
        at = strstr(at, word);
    }
    snprintf(word, sizeof(word), "\"%s\": ", key);
    at = at ? strstr(at, word) : NULL;
    return at ? at + strlen(word) : NULL;
}

static bool number(const struct compared *c, const char *object, const char *key, double *out)
{
    const char *at = find(c, object, key);
    char *end;
    if (!at)
        return false;
    *out = strtod(at, &end);
    return end != at; /* null is none */
}

static void print_row(const char *title, double a, double b)
{
    printf("  %-28s %14.1f %14.1f", title, a, b);
    if (a > 0)
        printf(" %8.3f\n", b / a);
    else
        printf(" %8s\n", "-");
}

static void compare_rate(const struct compared pair[2], const char *key, const char *title,
                         double unit)
{
    double count[2], ns[2];
    for (unsigned i = 0; i < 2; i++)
        if (!number(&pair[i], NULL, key, &count[i]) ||
            !number(&pair[i], NULL, "duration_ns", &ns[i]) || ns[i] <= 0)
            return;
    if (count[0] > 0 || count[1] > 0)
        print_row(title, count[0] / ns[0] * 1e9 / unit, count[1] / ns[1] * 1e9 / unit);
}

static void compare_latency(const struct compared pair[2], const char *object, const char *title)
{
    static const char *const points[][2] = {{"p50_ns", "p50"},       {"p90_ns", "p90"},
                                            {"p99_ns", "p99"},       {"p99_9_ns", "p99.9"},
                                            {"p99_99_ns", "p99.99"}, {"max_ns", "max"}};
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        double a, b;
        char row[64];
        snprintf(row, sizeof(row), "%s %s, us", title, points[i][1]);
        if (number(&pair[0], object, points[i][0], &a) &&
            number(&pair[1], object, points[i][0], &b))
            print_row(row, a / 1e3, b / 1e3);
    }
}

/* Runs that did not do the same say nothing about each other. */
static void warn_of_differences(const struct compared pair[2])
{
    static const char *const keys[] = {"mode",           "connections",    "depth", "rate_per_s",
                                       "size_min_bytes", "size_max_bytes", "verify"};
    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *a = find(&pair[0], NULL, keys[i]), *b = find(&pair[1], NULL, keys[i]);
        size_t n = a ? strcspn(a, ",}") : 0;
        if (a && b && (strcspn(b, ",}") != n || memcmp(a, b, n) != 0))
            printf("  different     %s: %.*s and %.*s\n", keys[i], (int)n, a, (int)strcspn(b, ",}"),
                   b);
    }
    for (unsigned i = 0; i < 2; i++) {
        const char *disturbed = find(&pair[i], "machine", "disturbed");
        if (disturbed && strncmp(disturbed, "true", 4) == 0)
            printf("  disturbed     %s: others used its core\n", pair[i].path);
    }
}

static void print_comparison(const struct compared pair[2])
{
    printf("A %s\nB %s\n  %-28s %14s %14s %8s\n", pair[0].path, pair[1].path, "", "A", "B", "B/A");
    compare_rate(pair, "sent_messages", "messages sent/s", 1);
    compare_rate(pair, "answered_messages", "messages that came/s", 1);
    compare_rate(pair, "sent_bytes", "MB/s out", 1e6);
    compare_rate(pair, "received_bytes", "MB/s in", 1e6);
    compare_rate(pair, "opened_connections", "connections/s", 1);
    compare_latency(pair, "latency", "latency");
    compare_latency(pair, "uncorrected", "uncorrected");
    warn_of_differences(pair);
}

int load_compare(const char *path_a, const char *path_b)
{
    struct compared pair[2] = {{0}};
    int failed = read_summary(&pair[0], path_a);
    if (!failed)
        failed = read_summary(&pair[1], path_b);
    if (!failed)
        print_comparison(pair);
    free(pair[0].summary);
    free(pair[1].summary);
    return failed;
}
