/*
 * What the machine was like while sluice load measured.
 */
#include "load_weather.h"

#include "session.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>

#define SPIN_NS 100000000ll

static void read_word(const char *path, char *out, size_t out_bytes)
{
    FILE *file = fopen(path, "r");
    out[0] = 0;
    if (!file)
        return;
    if (!fgets(out, (int)out_bytes, file))
        out[0] = 0;
    out[strcspn(out, " \n")] = 0;
    fclose(file);
}

/* sched-stats(rst): time on a core, time waiting for one, slices. */
static uint64_t waited_ns(void)
{
    uint64_t ran, waited = UINT64_MAX;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (!file)
        return UINT64_MAX;
    if (fscanf(file, "%" SCNu64 " %" SCNu64, &ran, &waited) != 2)
        waited = UINT64_MAX;
    fclose(file);
    return waited;
}

/* How often, per second, an empty spin is away: what no program on this core can do better than. */
static uint64_t count_gaps(struct weather *w)
{
    uint64_t gaps = 0;
    int64_t begin = now_ns(), last = begin, now = begin;
    for (; now - begin < SPIN_NS; last = now) {
        now = now_ns();
        uint64_t gap = (uint64_t)(now - last);
        gaps += gap > WEATHER_GAP_NS;
        w->gap_max_ns = gap > w->gap_max_ns ? gap : w->gap_max_ns;
    }
    return gaps * 1000000000u / (uint64_t)(now - begin);
}

void weather_begin(struct weather *w)
{
    cpu_set_t set;
    memset(w, 0, sizeof(*w));
    read_word("/sys/devices/system/clocksource/clocksource0/current_clocksource", w->clock_source,
              sizeof(w->clock_source));
    read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", w->governor,
              sizeof(w->governor));
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        w->cores = (uint32_t)CPU_COUNT(&set);
    w->gaps_before_per_s = count_gaps(w);
    w->wait_ns = UINT64_MAX;
}

void weather_mark(struct weather *w)
{
    w->wait_ns = waited_ns();
    w->since_ns = (uint64_t)now_ns();
}

void weather_marked(struct weather *w)
{
    uint64_t waited = waited_ns(), now = (uint64_t)now_ns();
    if (waited == UINT64_MAX || w->wait_ns == UINT64_MAX || now == w->since_ns) {
        w->wait_ns = UINT64_MAX;
        return;
    }
    w->wait_ns = waited - w->wait_ns;
    w->wait_ppm = (uint64_t)((double)w->wait_ns * 1e6 / (double)(now - w->since_ns));
}

void weather_end(struct weather *w)
{
    w->gaps_after_per_s = count_gaps(w);
}

static bool is_disturbed(const struct weather *w)
{
    return w->wait_ns != UINT64_MAX && w->wait_ppm > WEATHER_DISTURBED_PPM;
}

static void write_word(struct json *j, const char *key, const char *word)
{
    if (word[0])
        json_text(j, key, word);
    else
        json_null(j, key);
}

void weather_write(const struct weather *w, struct json *j)
{
    json_open(j, "machine", '{');
    write_word(j, "clock_source", w->clock_source);
    write_word(j, "governor", w->governor);
    json_number(j, "cores", w->cores);
    json_number(j, "idle_gaps_before_per_s", w->gaps_before_per_s);
    json_number(j, "idle_gaps_after_per_s", w->gaps_after_per_s);
    json_number(j, "idle_gap_max_ns", w->gap_max_ns);
    if (w->wait_ns == UINT64_MAX) {
        json_null(j, "core_wait_ns");
        json_null(j, "core_wait_ppm");
        json_null(j, "disturbed");
    } else {
        json_number(j, "core_wait_ns", w->wait_ns);
        json_number(j, "core_wait_ppm", w->wait_ppm);
        json_bool(j, "disturbed", is_disturbed(w));
    }
    json_close(j, '}');
}

void weather_print(const struct weather *w, FILE *out)
{
    fprintf(out,
            "  machine       %u core%s, clock %s, governor %s; idle gaps over %u us: %" PRIu64
            "/s before, %" PRIu64 "/s after, longest %.0f us\n",
            w->cores, w->cores == 1 ? "" : "s", w->clock_source[0] ? w->clock_source : "not known",
            w->governor[0] ? w->governor : "not known", WEATHER_GAP_NS / 1000, w->gaps_before_per_s,
            w->gaps_after_per_s, (double)w->gap_max_ns / 1000);
    if (w->clock_source[0] && strcmp(w->clock_source, "tsc") != 0)
        fprintf(out,
                "  spoiled       reading the clock is a system call with %s: times are too "
                "long\n",
                w->clock_source);
    if (w->governor[0] && strcmp(w->governor, "performance") != 0)
        fprintf(out, "  spoiled       governor %s changes the core's speed\n", w->governor);
    if (w->cores == 1)
        fprintf(out, "  spoiled       one core: load and peer take turns\n");
    if (is_disturbed(w))
        fprintf(out,
                "  disturbed     %.1f %% of the time the load waited for its core: others use it "
                "(--core)\n",
                (double)w->wait_ppm / 1e4);
}
