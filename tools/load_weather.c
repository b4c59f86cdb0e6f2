/*
 * What the machine was like while sluice load measured.
 */
#include "load_weather.h"

#include "hist.h"
#include "session.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SPIN_NS  100000000ll
#define HOP_NS   100000000ll /* at most, where the other core is busy */
#define HOPS_MAX 20000u

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

/* ---- a cache line's way ---- */

struct hop {
    _Atomic uint32_t ball; /* odd: the other's turn */
    _Atomic bool over;
};

static void *answer(void *arg)
{
    struct hop *h = arg;
    while (!atomic_load_explicit(&h->over, memory_order_relaxed)) {
        uint32_t ball = atomic_load_explicit(&h->ball, memory_order_acquire);
        if (ball & 1)
            atomic_store_explicit(&h->ball, ball + 1, memory_order_release);
    }
    return NULL;
}

/* The median of many: some are disturbed, and that is the gaps' story. 0: the other never ran. */
static uint64_t measure_hop(struct hop *h)
{
    static struct hist times;
    int64_t begin = now_ns(), now = begin;
    hist_clear(&times);
    while (times.count < HOPS_MAX && now - begin < HOP_NS) {
        int64_t from = now_ns();
        uint32_t ball = atomic_load_explicit(&h->ball, memory_order_relaxed);
        bool back = false;
        atomic_store_explicit(&h->ball, ball + 1, memory_order_release);
        while (!back && now - begin < HOP_NS) {
            back = atomic_load_explicit(&h->ball, memory_order_acquire) != ball + 1;
            now = now_ns();
        }
        if (back)
            hist_record(&times, (uint64_t)(now - from));
    }
    return hist_percentile(&times, 50);
}

/* 0: there is no other core. */
static uint64_t time_hop(const struct weather *w)
{
    struct hop h = {0};
    pthread_t other;
    pthread_attr_t attr;
    uint64_t ns = 0;
    cpu_set_t set = w->cores;
    CPU_CLR((size_t)sched_getcpu(), &set);
    if (CPU_COUNT(&set) == 0 || pthread_attr_init(&attr))
        return 0;
    if (pthread_attr_setaffinity_np(&attr, sizeof(set), &set) == 0 &&
        pthread_create(&other, &attr, answer, &h) == 0) {
        ns = measure_hop(&h);
        atomic_store(&h.over, true);
        pthread_join(other, NULL);
    }
    pthread_attr_destroy(&attr);
    return ns;
}

/* ---- before, meanwhile, after ---- */

void weather_look(struct weather *w)
{
    memset(w, 0, sizeof(*w));
    read_word("/sys/devices/system/clocksource/clocksource0/current_clocksource", w->clock_source,
              sizeof(w->clock_source));
    read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", w->governor,
              sizeof(w->governor));
    if (sched_getaffinity(0, sizeof(w->cores), &w->cores) == 0)
        w->core_count = (uint32_t)CPU_COUNT(&w->cores);
    w->wait_ns = UINT64_MAX;
}

void weather_begin(struct weather *w)
{
    w->gaps_before_per_s = count_gaps(w);
    w->hop_before_ns = time_hop(w);
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
    w->hop_after_ns = time_hop(w);
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

static void write_hop(struct json *j, const char *key, uint64_t ns)
{
    if (ns)
        json_number(j, key, ns);
    else
        json_null(j, key);
}

void weather_write(const struct weather *w, struct json *j)
{
    json_open(j, "machine", '{');
    write_word(j, "clock_source", w->clock_source);
    write_word(j, "governor", w->governor);
    json_number(j, "cores", w->core_count);
    json_number(j, "idle_gaps_before_per_s", w->gaps_before_per_s);
    json_number(j, "idle_gaps_after_per_s", w->gaps_after_per_s);
    json_number(j, "idle_gap_max_ns", w->gap_max_ns);
    write_hop(j, "cache_line_hop_before_ns", w->hop_before_ns);
    write_hop(j, "cache_line_hop_after_ns", w->hop_after_ns);
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
            w->core_count, w->core_count == 1 ? "" : "s",
            w->clock_source[0] ? w->clock_source : "not known",
            w->governor[0] ? w->governor : "not known", WEATHER_GAP_NS / 1000, w->gaps_before_per_s,
            w->gaps_after_per_s, (double)w->gap_max_ns / 1000);
    if (w->clock_source[0] && strcmp(w->clock_source, "tsc") != 0)
        fprintf(out,
                "  spoiled       reading the clock is a system call with %s: times are too "
                "long\n",
                w->clock_source);
    if (w->governor[0] && strcmp(w->governor, "performance") != 0)
        fprintf(out, "  spoiled       governor %s changes the core's speed\n", w->governor);
    if (w->core_count == 1)
        fprintf(out, "  spoiled       one core: load and peer take turns\n");
    if (is_disturbed(w))
        fprintf(out,
                "  disturbed     %.1f %% of the time the load waited for its core: others use it "
                "(--core)\n",
                (double)w->wait_ppm / 1e4);
}
