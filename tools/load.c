/*
 * sluice load: options to a plan, then the run: connect, warm up, measure, wait for the last
 * answers, report. The messages are load_flow.c's.
 */
#include "tools.h"

#include "fail.h"
#include "load.h"
#include "load_report.h"
#include "session.h"
#include "stop.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define SECOND          1000000000ll
#define ANSWERS_NS      (2 * SECOND) /* how long the last answers may take */
#define OPENING_MAX     64u          /* at once: a backlog is short */
#define DUE_PER_TURN    256u         /* messages sent before we look at what came */
#define RATE_DEPTH      64u
#define TURNS_PER_CLOCK 16u

/* ---- the plan ---- */

static int plan_mode(struct load_plan *plan, const char *name)
{
    static const char *const names[] = {"rtt", "rate", "stream", "connect", "idle"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], name) == 0) {
            plan->mode = (enum load_mode)i;
            plan->mode_name = names[i];
            return 0;
        }
    }
    return fail_remedy(SLUICE_REASON_USAGE, "choose rtt, rate, stream, connect or idle",
                       "load: no mode '%s'", name);
}

static int plan_target(struct load_plan *plan, struct options *o)
{
    bool frames = false;
    if (o->engine && o->arg_count > 1)
        return fail_remedy(SLUICE_REASON_USAGE, "an engine has its peer: leave the URL out",
                           "load --engine %s: '%s'", o->engine, o->args[1]);
    if (!o->engine && o->arg_count < 2)
        return fail_remedy(SLUICE_REASON_USAGE, "see sluice load --help", "load: URL is missing");
    plan->target = plan->url = o->engine ? o->engine : o->args[1];
    if (o->engine) {
        frames = o->path != NULL;
    } else {
        frames = strncmp(plan->target, "ws://", 5) == 0 || strncmp(plan->target, "wss://", 6) == 0;
        o->args[0] = plan->target;
        int failed =
            frames ? upgrade_target(o, plan->url_room, sizeof(plan->url_room), &plan->url) : 0;
        if (failed)
            return failed;
    }
    plan->path = o->path;
    plan->tls = !plan->by_channel && strncmp(plan->url, "tls://", 6) == 0;
    plan->kind = frames ? WIRE_FRAMES : o->verify ? WIRE_CHECKED : WIRE_RAW;
    return 0;
}

static int plan_numbers(struct load_plan *plan, const struct options *o)
{
    plan->connections = (uint32_t)o->connections;
    plan->depth = o->depth ? (uint64_t)o->depth : plan->mode == LOAD_RATE ? RATE_DEPTH : 1;
    plan->count = o->count ? (uint64_t)o->count : UINT64_MAX;
    plan->size_min = (uint32_t)o->size_bytes.least;
    plan->size_max = (uint32_t)o->size_bytes.most;
    plan->verify = o->verify;
    if (plan->mode == LOAD_RATE && o->rate == 0)
        return fail_remedy(SLUICE_REASON_USAGE, "give --rate R, messages per second", "load rate");
    if (plan->mode != LOAD_RATE && o->rate != 0)
        return fail_remedy(SLUICE_REASON_USAGE, "that is mode rate's", "load %s: --rate",
                           plan->mode_name);
    if (plan->verify && plan->size_min < WIRE_CHECK_BYTES)
        return fail_remedy(SLUICE_REASON_USAGE, "number and checksum take 16 bytes: raise --size",
                           "load --verify --size %u", plan->size_min);
    if (plan->by_channel && plan->connections > 1)
        return fail_remedy(SLUICE_REASON_USAGE, "a channel has one connection",
                           "load --connections %u through an engine", plan->connections);
    if (plan->by_channel && (plan->mode == LOAD_CONNECT || plan->mode == LOAD_IDLE))
        return fail_remedy(SLUICE_REASON_USAGE, "give a URL without --engine and --in-process",
                           "load %s through an engine", plan->mode_name);
    if (o->resume && (plan->mode != LOAD_CONNECT || !plan->tls))
        return fail_remedy(SLUICE_REASON_USAGE, "it goes with connect, and tls:// or wss://",
                           "load %s %s: --resume", plan->mode_name, plan->target);
    if (o->plot && !plot_name_ok(o->plot))
        return fail_remedy(SLUICE_REASON_USAGE, "name a file .svg, .png or .gp", "--plot %s",
                           o->plot);
    plan->period_ns = plan->mode == LOAD_RATE ? 1e9 / (double)o->rate : 0;
    return 0;
}

static void plan_direction(struct load_plan *plan, const char *direction)
{
    bool one_by_one = plan->mode == LOAD_RTT || plan->mode == LOAD_RATE;
    bool stream = plan->mode == LOAD_STREAM;
    plan->sends = one_by_one || (stream && strcmp(direction, "in") != 0);
    plan->answers = one_by_one || (stream && strcmp(direction, "out") != 0);
}

static int make_plan(struct load_plan *plan, struct options *o)
{
    plan->options = o;
    plan->by_channel = o->engine || o->in_process;
    if (o->report)
        return fail_remedy(SLUICE_REASON_USAGE, "use --json", "load: --report is a feed's");
    int failed = plan_mode(plan, o->args[0]);
    if (!failed)
        failed = plan_target(plan, o);
    if (!failed)
        failed = plan_numbers(plan, o);
    if (!failed)
        plan_direction(plan, o->direction);
    return failed;
}

/* ---- the run ---- */

static bool wants_more(const struct load *load)
{
    if (load->ending || load->failed)
        return false;
    return load->plan.mode == LOAD_CONNECT ? load->begun < load->plan.count : load->begin_ns == 0;
}

/* Those that are to be opened: all of them once, in connect mode always again. */
static void dial_more(struct load *load)
{
    const struct load_plan *plan = &load->plan;
    for (uint32_t i = 0; i < plan->connections && load->opening < OPENING_MAX; i++) {
        struct load_flow *flow = &load->flows[i];
        if (flow->ticket_by_ns)
            flow_seek_ticket(flow);
        if (flow->state != FLOW_CLOSED || flow->carried || !wants_more(load))
            continue;
        load->begun += plan->mode == LOAD_CONNECT;
        flow->state = FLOW_OPENING;
        flow->dialled_ns = now_ns();
        load->opening++;
        int failed = load->carrier->dial(flow);
        if (failed) {
            load->failed = load->failed ? load->failed : failed;
            flow->state = FLOW_CLOSED;
            load->opening--;
        }
    }
}

static void begin_counting(struct load *load, struct weather *w, int64_t now)
{
    if (load->counting || now < load->count_ns)
        return;
    load->counting = true;
    weather_mark(w);
}

/* Everything is open: the schedule begins. */
static void begin(struct load *load, struct weather *w)
{
    load->begin_ns = now_ns();
    load->count_ns = load->begin_ns + load->plan.options->warmup_ns;
    load->end_ns = load->count_ns + load->plan.options->duration_ns;
    begin_counting(load, w, load->begin_ns);
    for (uint32_t i = 0; i < load->plan.connections; i++)
        flow_push(&load->flows[i], now_ns());
}

static bool is_open(const struct load *load)
{
    return load->plan.mode == LOAD_CONNECT || load->open == load->plan.connections;
}

static void push_due(struct load *load, int64_t now)
{
    const struct load_plan *plan = &load->plan;
    for (unsigned i = 0; i < DUE_PER_TURN; i++) {
        int64_t due = load->begin_ns + (int64_t)((double)load->due * plan->period_ns);
        if (due > now || due >= load->end_ns || load->due >= plan->count)
            return;
        struct load_flow *flow = &load->flows[load->due++ % plan->connections];
        flow->owed++;
        flow_push(flow, now_ns());
    }
}

static void keep_moment(struct load *load, int64_t from_ns, int64_t to_ns)
{
    const struct tally *t = &load->interval;
    bool connects = load->plan.mode == LOAD_CONNECT;
    double amount = connects
                        ? (double)t->count[LOAD_opened]
                        : (double)(t->count[LOAD_sent_bytes] + t->count[LOAD_received_bytes]) / 1e6;
    load->moments[load->moment_count++] =
        (struct load_moment){.to_ns = to_ns - load->count_ns,
                             .per_s = amount * 1e9 / (double)(to_ns - from_ns),
                             .p50_ns = hist_percentile(&t->latency, 50),
                             .p99_ns = hist_percentile(&t->latency, 99),
                             .max_ns = t->latency.max};
}

static void end_interval(struct load *load, int64_t from_ns, int64_t to_ns)
{
    flow_record_timed(load);
    if (to_ns > from_ns)
        report_interval(load, &load->interval, from_ns - load->count_ns, to_ns - load->count_ns);
    if (to_ns > from_ns && load->moments)
        keep_moment(load, from_ns, to_ns);
    tally_add(&load->total, &load->interval);
    tally_clear(&load->interval);
}

/* Nothing more is to be waited for. */
static bool is_over(const struct load *load, int64_t now)
{
    bool dead = load->open == 0 && load->opening == 0 && load->plan.mode != LOAD_CONNECT;
    bool broken = load->failed && (load->plan.mode == LOAD_CONNECT || load->begin_ns == 0);
    bool done = load->begun >= load->plan.count && load->in_flight == 0 && load->opening == 0;
    return dead || broken || done || now >= load->end_ns || stop_count() > 0;
}

/* What became due since the last turn: without it a freeze at the end would not show. */
static void push_rest(struct load *load)
{
    for (uint64_t before = UINT64_MAX; before != load->due && load->plan.mode == LOAD_RATE;) {
        before = load->due;
        push_due(load, load->end_ns);
    }
}

/* Changes whenever something is sent or came. */
static uint64_t progress(const struct load *load)
{
    return load->begun + load->taken_bytes;
}

/* From the begin of the schedule to the end of sending. */
static void measure(struct load *load, struct weather *w)
{
    int64_t now = now_ns(), tick = load->count_ns + SECOND, from = load->count_ns;
    for (uint32_t turns = 1; !is_over(load, now); turns++) {
        uint64_t before = progress(load);
        if (load->plan.mode == LOAD_CONNECT)
            dial_more(load);
        if (load->plan.mode == LOAD_RATE)
            push_due(load, now);
        int failed = load->carrier->turn(load);
        load->failed = load->failed ? load->failed : failed;
        bool moved = progress(load) != before;
        if (!moved && load->timed_count > 0)
            flow_record_timed(load);
        if (!moved && load->plan.mode != LOAD_RATE && turns % TURNS_PER_CLOCK)
            continue; /* the clock takes as long as the turn does: answers are seen sooner */
        int64_t last = now;
        bool known = load->took_ns > last && load->plan.mode != LOAD_RATE;
        now = known ? load->took_ns : now_ns(); /* what was sent next waits until the next turn */
        begin_counting(load, w, now);
        load->idle_ns += load->counting && !moved ? now - last : 0;
        if (now >= tick) {
            end_interval(load, from, now);
            from = now;
            tick += SECOND;
        }
    }
    if (now < load->end_ns)
        load->end_ns = now > load->count_ns ? now : load->count_ns;
    push_rest(load);
    weather_marked(w);
    load->counting = false;
    load->ending = true;
    end_interval(load, from < load->end_ns ? from : load->end_ns, load->end_ns);
}

static void wait_answers(struct load *load)
{
    int64_t until = now_ns() + ANSWERS_NS;
    while ((load->in_flight > 0 || load->due > load->begun) && load->open > 0 && !load->failed &&
           now_ns() < until && stop_count() < 2)
        load->failed = load->carrier->turn(load);
    load->unsent = load->due > load->begun ? load->due - load->begun : 0;
    flow_record_timed(load);
    tally_add(&load->total, &load->interval); /* answers to what was sent in time */
    tally_clear(&load->interval);
}

/* The carriers mind the time until they are connected; an upgrade is ours. */
static void mind_upgrades(struct load *load)
{
    int64_t oldest = now_ns() - load->plan.options->connect_timeout_ns;
    for (uint32_t i = 0; i < load->plan.connections && !load->failed; i++)
        if (load->flows[i].state == FLOW_UPGRADING && load->flows[i].dialled_ns < oldest)
            flow_give_up(&load->flows[i]);
}

static int wait_open(struct load *load)
{
    while (!is_open(load) && !load->failed && stop_count() == 0) {
        dial_more(load);
        mind_upgrades(load);
        int failed = load->carrier->turn(load);
        load->failed = load->failed ? load->failed : failed;
    }
    return load->failed;
}

/* What the numbers themselves say is wrong. */
static int judge(const struct load *load)
{
    const uint64_t *count = load->total.count;
    uint64_t lost = count[LOAD_lost] + (load->plan.verify ? load->in_flight : 0);
    if (load->failed)
        return load->failed;
    if (load->plan.verify &&
        lost + count[LOAD_duplicated] + count[LOAD_reordered] + count[LOAD_corrupted] > 0)
        return fail(
            SLUICE_REASON_DAMAGED, "%s: %llu lost, %llu duplicated, %llu reordered, %llu corrupted",
            load->plan.target, (unsigned long long)lost, (unsigned long long)count[LOAD_duplicated],
            (unsigned long long)count[LOAD_reordered], (unsigned long long)count[LOAD_corrupted]);
    if (load->in_flight > 0)
        return fail_remedy(SLUICE_REASON_TIMED_OUT,
                           "the peer must echo what it gets: see sluice load --serve echo",
                           "%s: %llu messages had no answer", load->plan.target,
                           (unsigned long long)load->in_flight);
    return 0;
}

/* After an engine of ours has its threads: they would inherit it. */
static int pin(const struct option_cores *cores)
{
    cpu_set_t set;
    if (cores->count == 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET((size_t)cores->core[0], &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0
               ? 0
               : fail_errno(-errno, "--core %d", (int)cores->core[0]);
}

static int run(struct load *load)
{
    struct weather weather;
    char carrier[256];
    weather_look(&weather);
    int failed = load->carrier->open(load);
    if (!failed)
        failed = pin(&load->plan.options->cores);
    if (failed)
        return failed;
    if (wait_open(load) || stop_count() > 0)
        return load->failed ? load->failed : 128 + 2;
    weather_begin(&weather);
    load->carrier->describe(load, carrier, sizeof(carrier));
    begin(load, &weather);
    measure(load, &weather);
    wait_answers(load);
    weather_end(&weather);
    if (load->failed && load->total.count[LOAD_opened] == 0)
        return load->failed; /* nothing was measured */
    report_summary(load, &weather, carrier);
    failed = judge(load);
    int wrote = load->plan.options->hgrm ? report_hgrm(load) : 0;
    if (load->plan.options->plot && !wrote)
        wrote = report_plot(load);
    return failed ? failed : wrote;
}

/* ---- the command ---- */

static int prepare(struct load *load)
{
    const struct load_plan *plan = &load->plan;
    load->carrier = plan->by_channel ? &load_channel : &load_sockets;
    load->random = (uint64_t)now_ns() | 1;
    load->flows = calloc(plan->connections, sizeof(*load->flows));
    load->room = malloc(plan->size_max + 2 * WIRE_FRAME_MAX);
    if (plan->options->plot) /* at least a second each, and the last one */
        load->moments =
            calloc((size_t)(plan->options->duration_ns / SECOND) + 2, sizeof(*load->moments));
    int err = load->flows && load->room && (load->moments || !plan->options->plot) ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < plan->connections && !err; i++)
        err = flow_init(&load->flows[i], load, i);
    if (err)
        return fail_errno(err, "%u connections", plan->connections);
    wire_write(load->room, WIRE_RAW, NULL, false, 0, plan->size_max);
    return 0;
}

static void dispose(struct load *load)
{
    load->ending = true;
    if (load->carrier)
        load->carrier->close(load);
    for (uint32_t i = 0; load->flows && i < load->plan.connections; i++)
        flow_fini(&load->flows[i]);
    free(load->flows);
    free(load->moments);
    free(load->room);
    free(load);
}

static int measure_peer(struct options *o)
{
    struct load *load = calloc(1, sizeof(*load));
    if (!load)
        return fail_errno(-ENOMEM, "load");
    int failed = stop_install();
    if (!failed)
        failed = make_plan(&load->plan, o);
    if (!failed)
        failed = prepare(load);
    if (!failed)
        failed = run(load);
    dispose(load);
    return failed;
}

int cmd_load(struct options *o)
{
    if (o->compare && o->arg_count == 2)
        return load_compare(o->args[0], o->args[1]);
    if (o->compare)
        return fail_remedy(SLUICE_REASON_USAGE, "give two files that --json wrote",
                           "load --compare");
    if (!o->serve)
        return measure_peer(o);
    if (o->arg_count > 1)
        return fail_remedy(SLUICE_REASON_USAGE, "a server takes a URL only",
                           "load --serve %s: '%s'", o->serve, o->args[1]);
    int failed = stop_install();
    return failed ? failed : load_serve(o);
}
