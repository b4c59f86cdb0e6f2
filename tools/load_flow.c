/*
 * The messages of one connection of sluice load: sent when they are due, told apart when they come
 * back, timed and verified. What carries them is load_sockets.c's or load_channel.c's.
 */
#include "load.h"

#include "fail.h"
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PONG      0x8au        /* FIN and opcode */
#define TICKET_NS 2000000000ll /* how long the ticket of a full handshake may take */

static bool is_one_by_one(const struct load_plan *plan)
{
    return plan->mode == LOAD_RTT || plan->mode == LOAD_RATE;
}

/* ---- its end ---- */

static void fail_flow(struct load_flow *flow, enum sluice_reason reason, const char *remedy,
                      const char *why)
{
    struct load *load = flow->load;
    load->interval.count[LOAD_failed]++;
    if (load->failed)
        return; /* the first one is said, all are counted */
    if (load->plan.connections > 1)
        load->failed = fail_remedy(reason, remedy, "%s: connection %u: %s", load->plan.target,
                                   flow->index + 1, why);
    else
        load->failed = fail_remedy(reason, remedy, "%s: %s", load->plan.target, why);
}

void flow_ended(struct load_flow *flow, enum sluice_reason reason, const char *why)
{
    struct load *load = flow->load;
    load->open -= flow->state == FLOW_OPEN;
    load->opening -= flow->state == FLOW_OPENING || flow->state == FLOW_UPGRADING;
    flow->state = FLOW_CLOSED;
    flow->carried = NULL;
    if (flow->hung_up || load->ending)
        return;
    if (reason == SLUICE_REASON_PEER_CLOSE || reason == SLUICE_REASON_LOCAL_CLOSE)
        fail_flow(flow, SLUICE_REASON_RESET, "a peer must keep it open: see the peer's log",
                  "the peer closed the connection");
    else
        fail_flow(flow, reason, NULL, why);
}

static void hang_up(struct load_flow *flow)
{
    flow->hung_up = true;
    flow->load->carrier->hang_up(flow);
}

/* What came makes no sense: nothing behind it can be read. */
static void break_off(struct load_flow *flow, const char *why)
{
    fail_flow(flow, SLUICE_REASON_PROTOCOL, NULL, why);
    hang_up(flow);
}

void flow_give_up(struct load_flow *flow)
{
    fail_flow(flow, SLUICE_REASON_TIMED_OUT, NULL, "no answer to the upgrade");
    hang_up(flow);
}

/* ---- sending ---- */

static uint32_t next_size(struct load *load)
{
    const struct load_plan *plan = &load->plan;
    uint32_t span = plan->size_max - plan->size_min + 1;
    if (span == 1)
        return plan->size_min;
    load->random ^= load->random << 13; /* xorshift64 */
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return plan->size_min + (uint32_t)(load->random % span);
}

/* A message as bytes in load->room. Raw and unverified, all are the same: they stand there. */
static size_t make(struct load_flow *flow, uint32_t size)
{
    struct load *load = flow->load;
    if (load->plan.kind == WIRE_RAW)
        return size;
    return wire_write(load->room, load->plan.kind, flow->mask, load->plan.verify, flow->sent, size);
}

static int64_t due_of(const struct load_flow *flow, int64_t now)
{
    const struct load *load = flow->load;
    if (load->plan.period_ns == 0)
        return now;
    double nth = (double)(flow->index + flow->sent * load->plan.connections);
    return load->begin_ns + (int64_t)(nth * load->plan.period_ns);
}

static void note_sent(struct load_flow *flow, uint32_t size, size_t bytes, int64_t now)
{
    struct load *load = flow->load;
    int64_t due = due_of(flow, now);
    bool counts = load->plan.period_ns > 0 ? due >= load->count_ns : load->counting;
    if (counts) {
        load->interval.count[LOAD_sent]++;
        load->interval.count[LOAD_sent_bytes] += bytes;
        if (load->plan.period_ns > 0) {
            hist_record(&load->interval.late, now > due ? (uint64_t)(now - due) : 0);
            load->interval.count[LOAD_missed] += now - due > LOAD_LATE_NS;
        }
    }
    if (flow->ring) {
        flow->ring[flow->sent & flow->ring_mask] =
            (struct load_sent){.due_ns = due, .sent_ns = now, .bytes = size, .counts = counts};
        load->in_flight++;
    } else if (!load->plan.answers) {
        flow->next = flow->sent + 1;
    }
    flow->sent++;
    flow->owed -= flow->owed != UINT64_MAX;
    load->begun++;
}

static bool may_send(const struct load_flow *flow)
{
    const struct load *load = flow->load;
    bool in_time = !load->ending || load->plan.mode == LOAD_RATE; /* what was due is still owed */
    return flow->state == FLOW_OPEN && !flow->full && in_time && flow->owed > 0 &&
           load->begun < load->plan.count &&
           (!flow->ring || flow->sent - flow->next < load->plan.depth);
}

void flow_push(struct load_flow *flow, int64_t now)
{
    struct load *load = flow->load;
    bool known = true; /* the clock costs as much as all this: read only for one more */
    while (may_send(flow)) {
        now = known ? now : now_ns();
        uint32_t size = next_size(load);
        size_t bytes = make(flow, size);
        int err = load->carrier->send(flow, load->room, bytes);
        flow->full = err == -EAGAIN;
        if (err)
            return; /* any other error: its end follows */
        note_sent(flow, size, bytes, now);
        known = false;
    }
}

void flow_room(struct load_flow *flow)
{
    flow->full = false;
    flow_push(flow, now_ns());
}

/* ---- what came ---- */

static bool was_missing(struct load_flow *flow, uint64_t number)
{
    for (uint32_t i = 0; i < flow->missing_count; i++) {
        if (flow->missing[i] == number) {
            flow->missing[i] = flow->missing[--flow->missing_count];
            return true;
        }
    }
    return false;
}

/* Those before number were passed over. They may come yet. */
static void pass_over(struct load_flow *flow, uint64_t number)
{
    struct load *load = flow->load;
    uint64_t count = number - flow->next;
    load->total.count[LOAD_lost] += count;
    load->in_flight -= flow->ring ? count : 0;
    while (flow->next < number && flow->missing_count < LOAD_MISSING_MAX)
        flow->missing[flow->missing_count++] = flow->next++;
    flow->next = number; /* a peer's word, and there may be 2^64 before it */
}

/* Whether it is the next answer, or stands in for it. */
static bool verify(struct load_flow *flow, const struct wire_message *message)
{
    uint64_t *count = flow->load->total.count;
    bool ours = flow->load->plan.sends;
    if (!message->intact || (ours && message->number >= flow->sent)) {
        count[LOAD_corrupted]++;
        return !ours || flow->next < flow->sent;
    }
    if (message->number < flow->next) {
        bool late = was_missing(flow, message->number);
        count[LOAD_lost] -= late;
        count[late ? LOAD_reordered : LOAD_duplicated]++;
        return false;
    }
    if (message->number > flow->next)
        pass_over(flow, message->number);
    return true;
}

static void time_answer(struct load_flow *flow)
{
    struct load *load = flow->load;
    const struct load_sent *sent = &flow->ring[flow->next & flow->ring_mask];
    load->in_flight--;
    if (!sent->counts)
        return;
    load->interval.count[LOAD_answered]++;
    if (load->timed_count == LOAD_TIMED_MAX)
        flow_record_timed(load);
    load->timed_ns[load->timed_count++] = (uint64_t)(flow->now_ns - sent->due_ns);
    if (load->plan.period_ns > 0)
        hist_record(&load->interval.service, (uint64_t)(flow->now_ns - sent->sent_ns));
}

/* A histogram is large: finding the place in it takes longer than all else between an answer and
 * the next message, which does not wait for it. */
void flow_record_timed(struct load *load)
{
    while (load->timed_count > 0)
        hist_record(&load->interval.latency, load->timed_ns[--load->timed_count]);
}

static void on_message(void *user, const struct wire_message *message)
{
    struct load_flow *flow = user;
    struct load *load = flow->load;
    if (flow->hung_up)
        return; /* behind what broke it */
    if (flow->ring && !load->plan.verify && flow->next == flow->sent) {
        break_off(flow, "the peer sent a message that nobody asked for");
        return;
    }
    if (load->plan.verify && !verify(flow, message))
        return;
    if (flow->ring)
        time_answer(flow);
    else
        load->interval.count[LOAD_answered] += load->counting;
    flow->next++;
    flow_push(flow, flow->now_ns); /* what we take in between is part of the next round trip */
}

static uint64_t on_size(void *user)
{
    struct load_flow *flow = user;
    return flow->next < flow->sent ? flow->ring[flow->next & flow->ring_mask].bytes : 0;
}

static void on_control(void *user, unsigned opcode, const uint8_t *bytes, size_t count)
{
    struct load_flow *flow = user;
    uint8_t pong[WIRE_FRAME_MAX + WIRE_CONTROL_MAX];
    if (flow->hung_up)
        return;
    if (opcode == WIRE_OPCODE_PING) /* RFC 6455, 5.5.3; a later one is answered if this cannot be */
        flow->load->carrier->send(flow, pong,
                                  wire_write_frame(pong, PONG, flow->mask, bytes, count));
    else if (opcode == WIRE_OPCODE_CLOSE && !flow->load->ending)
        break_off(flow, "the peer closed the WebSocket");
}

static const struct wire_events events = {
    .size = on_size, .message = on_message, .control = on_control};

/* ---- its beginning ---- */

/* Connect mode: opened is all it was to be. With TLS 1.3 a ticket comes behind the handshake. */
static void finish(struct load_flow *flow)
{
    struct load *load = flow->load;
    struct sluice_tls_facts tls = {.resumed = false};
    if (load->plan.tls)
        load->carrier->tls(flow, &tls);
    int64_t now = now_ns();
    if (load->counting) {
        load->interval.count[LOAD_opened]++;
        load->interval.count[LOAD_resumed] += tls.resumed;
        hist_record(&load->interval.latency, (uint64_t)(now - flow->dialled_ns));
    }
    if (load->plan.options->resume && !tls.resumed)
        flow->ticket_by_ns = now + TICKET_NS;
    else
        hang_up(flow);
}

void flow_seek_ticket(struct load_flow *flow)
{
    struct sluice_tls_facts tls = {.ticket = false};
    if (flow->state == FLOW_OPEN)
        flow->load->carrier->tls(flow, &tls);
    if (flow->state == FLOW_OPEN && !tls.ticket && now_ns() < flow->ticket_by_ns)
        return;
    flow->ticket_by_ns = 0;
    if (flow->state == FLOW_OPEN && !tls.ticket)
        fail_flow(flow, SLUICE_REASON_UNSUPPORTED, "leave --resume out",
                  "the peer gave no ticket to resume its TLS session with");
    if (flow->state == FLOW_OPEN)
        hang_up(flow);
}

static void begin(struct load_flow *flow)
{
    struct load *load = flow->load;
    flow->state = FLOW_OPEN;
    load->opening--;
    load->open++;
    if (load->plan.mode == LOAD_CONNECT)
        finish(flow);
    else
        load->interval.count[LOAD_opened]++;
}

/* host:port of "tcp://host:port" */
static void send_upgrade(struct load_flow *flow)
{
    static char request[UPGRADE_REQUEST_MAX];
    const struct load_plan *plan = &flow->load->plan;
    const char *host = strstr(plan->url, "://");
    int n = upgrade_request(&flow->upgrade, request, sizeof(request), host ? host + 3 : "localhost",
                            plan->path ? plan->path : "/", &plan->options->headers);
    if (n < 0)
        break_off(flow, "--path and --header are too long together");
    else
        flow->load->carrier->send(flow, (const uint8_t *)request, (size_t)n);
}

void flow_opened(struct load_flow *flow)
{
    if (flow->load->plan.kind != WIRE_FRAMES) {
        begin(flow);
        return;
    }
    flow->state = FLOW_UPGRADING;
    send_upgrade(flow);
}

/* Bytes of this piece that belong to the answer; it is kept until it is whole. */
static size_t take_upgrade(struct load_flow *flow, const uint8_t *bytes, size_t count)
{
    char why[256];
    size_t before = flow->answer_bytes, n = UPGRADE_RESPONSE_MAX - before;
    n = n < count ? n : count;
    memcpy(flow->answer + before, bytes, n);
    flow->answer_bytes += n;
    int whole = upgrade_check(&flow->upgrade, flow->answer, flow->answer_bytes, why, sizeof(why));
    if (whole < 0) {
        break_off(flow, why);
        return count;
    }
    if (whole == 0)
        return count;
    flow->answer_bytes = 0;
    begin(flow);
    return (size_t)whole - before;
}

void flow_took(struct load_flow *flow, const uint8_t *bytes, size_t count, int64_t now)
{
    struct load *load = flow->load;
    flow->now_ns = load->took_ns = now;
    load->taken_bytes += count;
    if (flow->state == FLOW_UPGRADING) {
        size_t n = take_upgrade(flow, bytes, count);
        bytes += n;
        count -= n;
    }
    if (flow->state != FLOW_OPEN || flow->hung_up || count == 0)
        return;
    load->interval.count[LOAD_received_bytes] += load->counting ? count : 0;
    if (load->plan.kind == WIRE_RAW && !flow->ring) {
        if (!load->plan.answers && load->plan.mode == LOAD_STREAM)
            break_off(flow, "the peer answers: give it a sink, or --direction both");
        return; /* bytes are all there is to count */
    }
    if (wire_take(&flow->reader, bytes, count) && !flow->hung_up)
        break_off(flow, load->plan.kind == WIRE_RAW ? "the peer sent more than it was asked for"
                        : load->plan.kind == WIRE_FRAMES ? "the peer sent a broken WebSocket frame"
                                                         : "the peer sent what is no message");
}

int flow_init(struct load_flow *flow, struct load *load, uint32_t index)
{
    const struct load_plan *plan = &load->plan;
    flow->load = load;
    flow->index = index;
    flow->owed = plan->sends && plan->mode != LOAD_RATE ? UINT64_MAX : 0;
    flow->reader = (struct wire_reader){
        .kind = plan->kind, .verify = plan->verify, .events = &events, .user = flow};
    uint64_t key = (index + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)now_ns();
    memcpy(flow->mask, &key, sizeof(flow->mask));
    if (plan->kind == WIRE_FRAMES && !(flow->answer = malloc(UPGRADE_RESPONSE_MAX)))
        return -ENOMEM;
    if (!is_one_by_one(plan))
        return 0;
    uint64_t slots = 1;
    while (slots < plan->depth)
        slots *= 2;
    flow->ring = calloc(slots, sizeof(*flow->ring));
    flow->ring_mask = slots - 1;
    return flow->ring ? 0 : -ENOMEM;
}

void flow_fini(struct load_flow *flow)
{
    free(flow->ring);
    free(flow->answer);
}
