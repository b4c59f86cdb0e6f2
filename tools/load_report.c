/*
 * What sluice load says. Live lines go to stderr, results to stdout.
 */
#include "load_report.h"

#include "fail.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define BAR_CHARS 20

static double per_second(uint64_t count, int64_t ns)
{
    return ns > 0 ? (double)count * 1e9 / (double)ns : 0;
}

static bool has_latency(const struct load *load)
{
    return load->plan.mode != LOAD_STREAM && load->plan.mode != LOAD_IDLE;
}

/* ---- each second ---- */

static void print_bar(const struct load *load, int64_t to_ns)
{
    const struct load_plan *plan = &load->plan;
    double share = (double)to_ns / (double)plan->options->duration_ns;
    if (plan->count != UINT64_MAX && (double)load->begun / (double)plan->count > share)
        share = (double)load->begun / (double)plan->count;
    int full = share > 1 ? BAR_CHARS : (int)(share * BAR_CHARS);
    fprintf(stderr, "\r\033[K[%.*s%*s] ", full, "####################", BAR_CHARS - full, "");
}

static void print_interval(const struct load *load, const struct tally *t, int64_t from_ns,
                           int64_t to_ns)
{
    bool terminal = isatty(STDERR_FILENO);
    const uint64_t *count = t->count;
    if (terminal)
        print_bar(load, to_ns);
    fprintf(stderr, "%5.1f s  ", (double)to_ns / 1e9);
    if (load->plan.mode == LOAD_CONNECT)
        fprintf(stderr, "%.0f connections/s", per_second(count[LOAD_opened], to_ns - from_ns));
    else if (load->plan.mode == LOAD_IDLE)
        fprintf(stderr, "%u connections open", load->open);
    else
        fprintf(
            stderr, "%.0f messages/s, %.1f MB/s out, %.1f MB/s in",
            per_second(load->plan.sends ? count[LOAD_sent] : count[LOAD_answered], to_ns - from_ns),
            per_second(count[LOAD_sent_bytes], to_ns - from_ns) / 1e6,
            per_second(count[LOAD_received_bytes], to_ns - from_ns) / 1e6);
    if (t->latency.count)
        fprintf(stderr, "; p50 %.1f us, p99 %.1f us, max %.1f us",
                (double)hist_percentile(&t->latency, 50) / 1e3,
                (double)hist_percentile(&t->latency, 99) / 1e3, (double)t->latency.max / 1e3);
    if (!terminal)
        fputc('\n', stderr);
}

static void write_counts(struct json *j, const struct tally *t, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        json_number(j, tally_key(i), t->count[i]);
}

static void write_number_or_null(struct json *j, const char *key, bool known, uint64_t value)
{
    if (known)
        json_number(j, key, value);
    else
        json_null(j, key);
}

static bool counts_resumed(const struct load *load)
{
    return load->plan.mode == LOAD_CONNECT && load->plan.tls;
}

static void write_resumed(struct json *j, const struct load *load, const struct tally *t)
{
    write_number_or_null(j, tally_key(LOAD_resumed), counts_resumed(load), t->count[LOAD_resumed]);
}

void report_interval(const struct load *load, const struct tally *t, int64_t from_ns, int64_t to_ns)
{
    struct json j = {.out = stdout, .one_line = true};
    if (!load->plan.options->json) {
        print_interval(load, t, from_ns, to_ns);
        return;
    }
    json_open(&j, NULL, '{');
    json_text(&j, "event", "interval");
    json_number(&j, "from_ns", (uint64_t)from_ns);
    json_number(&j, "to_ns", (uint64_t)to_ns);
    json_number(&j, "open_connections", load->open);
    write_counts(&j, t, 0, LOAD_lost);
    write_resumed(&j, load, t);
    stages_write_hist(&j, "latency", &t->latency);
    json_close(&j, '}');
    fflush(stdout);
}

/* ---- the end: JSON ---- */

static void write_hist_or_null(struct json *j, const char *key, bool known, const struct hist *h)
{
    if (known)
        stages_write_hist(j, key, h);
    else
        json_null(j, key);
}

static void write_plan(struct json *j, const struct load_plan *plan)
{
    json_text(j, "mode", plan->mode_name);
    json_text(j, "target", plan->target);
    json_number(j, "connections", plan->connections);
    write_number_or_null(j, "depth", plan->mode == LOAD_RTT || plan->mode == LOAD_RATE,
                         plan->depth);
    write_number_or_null(j, "rate_per_s", plan->mode == LOAD_RATE, (uint64_t)plan->options->rate);
    json_number(j, "size_min_bytes", plan->size_min);
    json_number(j, "size_max_bytes", plan->size_max);
    json_bool(j, "verify", plan->verify);
}

static void write_stages(struct json *j, const struct load *load)
{
    if (!load->stages) {
        json_null(j, "stages");
        return;
    }
    json_open(j, "stages", '{');
    stages_write_hist(j, "outbox_to_send", &load->stages->outbox_to_send);
    stages_write(load->stages, j);
    json_close(j, '}');
}

static void write_summary(const struct load *load, const struct weather *w, const char *carrier)
{
    struct json j = {.out = stdout, .one_line = true};
    const struct tally *t = &load->total;
    bool by_rate = load->plan.mode == LOAD_RATE;
    json_open(&j, NULL, '{');
    json_text(&j, "event", "summary");
    write_plan(&j, &load->plan);
    json_text(&j, "carrier", carrier);
    json_number(&j, "duration_ns", (uint64_t)(load->end_ns - load->count_ns));
    json_number(&j, "idle_ns", (uint64_t)load->idle_ns);
    write_counts(&j, t, 0, LOAD_lost);
    write_resumed(&j, load, t);
    for (unsigned i = LOAD_lost; i <= LOAD_corrupted; i++)
        write_number_or_null(&j, tally_key(i), load->plan.verify, t->count[i]);
    json_number(&j, "unanswered_messages", load->in_flight);
    write_number_or_null(&j, "unsent_messages", by_rate, load->unsent);
    write_hist_or_null(&j, "latency", has_latency(load), &t->latency);
    write_hist_or_null(&j, "uncorrected", by_rate, &t->service);
    write_hist_or_null(&j, "late", by_rate, &t->late);
    write_stages(&j, load);
    weather_write(w, &j);
    json_close(&j, '}');
}

/* ---- the end: a table ---- */

static void print_row(const char *title, const struct hist *h)
{
    static const double points[] = {50, 90, 99, 99.9, 99.99, 100};
    printf("    %-20s", title);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++)
        printf(" %10.1f", (double)hist_percentile(h, points[i]) / 1000);
    printf(" %12" PRIu64 "\n", h->count);
}

static void print_latencies(const struct load *load)
{
    const struct tally *t = &load->total;
    printf("  %-22s %10s %10s %10s %10s %10s %10s %12s\n", "latency, us", "p50", "p90", "p99",
           "p99.9", "p99.99", "max", "count");
    if (load->plan.mode == LOAD_CONNECT) {
        print_row("until open", &t->latency);
    } else if (load->plan.mode == LOAD_RATE) {
        print_row("since it was due", &t->latency);
        print_row("uncorrected", &t->service);
        print_row("sent late by", &t->late);
    } else {
        print_row("round trip", &t->latency);
    }
    if (load->stages) {
        print_row("outbox -> send", &load->stages->outbox_to_send);
        print_row("arrival -> inbox", &load->stages->arrival_to_inbox);
        print_row("inbox -> upstream", &load->stages->inbox_to_upstream);
        print_row("arrival -> upstream", &load->stages->arrival_to_upstream);
    }
}

static void print_counts(const struct load *load, int64_t ns)
{
    const uint64_t *count = load->total.count;
    if (load->plan.mode == LOAD_CONNECT || load->plan.mode == LOAD_IDLE) {
        printf("  connections   %" PRIu64 " opened, %.0f/s; %" PRIu64 " failed\n",
               count[LOAD_opened], per_second(count[LOAD_opened], ns), count[LOAD_failed]);
        if (counts_resumed(load))
            printf("  handshakes    %" PRIu64 " full, %" PRIu64 " resumed\n",
                   count[LOAD_opened] - count[LOAD_resumed], count[LOAD_resumed]);
        return;
    }
    uint64_t messages = load->plan.sends ? count[LOAD_sent] : count[LOAD_answered];
    printf("  messages      %" PRIu64 " sent, %" PRIu64 " came, %.0f/s; %" PRIu64 " unanswered\n",
           count[LOAD_sent], count[LOAD_answered], per_second(messages, ns), load->in_flight);
    printf("  bytes         %.1f MB/s out, %.1f MB/s in\n",
           per_second(count[LOAD_sent_bytes], ns) / 1e6,
           per_second(count[LOAD_received_bytes], ns) / 1e6);
    if (load->plan.mode == LOAD_RATE)
        printf("  schedule      %" PRIu64 " sent more than 1 ms late, %" PRIu64
               " never sent; idle %.0f %% of the time%s\n",
               count[LOAD_missed], load->unsent,
               100 * (double)load->idle_ns / (double)(ns ? ns : 1),
               load->idle_ns * 20 < ns ? ": the load itself is saturated" : "");
    if (load->plan.verify)
        printf("  verified      %" PRIu64 " lost, %" PRIu64 " duplicated, %" PRIu64
               " reordered, %" PRIu64 " corrupted\n",
               count[LOAD_lost], count[LOAD_duplicated], count[LOAD_reordered],
               count[LOAD_corrupted]);
}

void report_summary(const struct load *load, const struct weather *w, const char *carrier)
{
    const struct load_plan *plan = &load->plan;
    int64_t ns = load->end_ns - load->count_ns;
    if (isatty(STDERR_FILENO) && !plan->options->json)
        fputs("\r\033[K", stderr);
    if (plan->options->json) {
        write_summary(load, w, carrier);
        return;
    }
    printf("%s %s (%s): %u connection%s, %.1f s\n", plan->mode_name, plan->target, carrier,
           plan->connections, plan->connections == 1 ? "" : "s", (double)ns / 1e9);
    print_counts(load, ns);
    if (has_latency(load))
        print_latencies(load);
    weather_print(w, stdout);
}

int report_hgrm(const struct load *load)
{
    const char *path = load->plan.options->hgrm;
    FILE *out = fopen(path, "w");
    if (!out)
        return fail_errno(-errno, "--hgrm %s", path);
    hist_write(&load->total.latency, out);
    bool failed = ferror(out);
    return fclose(out) || failed ? fail_errno(errno ? -errno : -EIO, "--hgrm %s", path) : 0;
}
