/*
 * The simulated backend: ops over the network of net.c, a virtual clock, faults by seed. The same
 * seed and the same calls give the same run. Nothing here reads a clock or makes a system
 * call, but for the one that reads a file.
 */
#include "backends/sim/bells.h"
#include "backends/sim/chance.h"
#include "backends/sim/net.h"
#include "base/check.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    QUEUED_MAX = 4, /* completions of one op that wait to be handed back */
    START_NS = 1000 * 1000 * 1000,
    PPM = 1000 * 1000,
};

const struct sluice_sim_faults sluice_sim_faults_none = {.turn_ns = 1000};
const struct sluice_sim_faults sluice_sim_faults_default = {.short_ppm = 500 * 1000,
                                                            .delay_ppm = 300 * 1000,
                                                            .enobufs_ppm = 30 * 1000,
                                                            .lost_more_ppm = 30 * 1000,
                                                            .cancel_race_ppm = 300 * 1000,
                                                            .delay_max_ns = 20 * 1000,
                                                            .turn_ns = 1000};

/* An op in flight. */
struct sim_slot {
    struct sluice_op *op; /* NULL: free */
    struct net_end *end;  /* NULL: a POLL on a descriptor that is not ours */
    uint64_t taken;       /* SEND: bytes that have left */
    uint64_t write_pos;   /* RECV into a region */
    uint64_t seen;        /* POLL: changes already reported */
    uint64_t due_ns;      /* of its newest completion: the next is never earlier */
    uint32_t queued;
    uint32_t woken; /* POLL: events from sluice_sim_wake */
    bool cancelled;
    bool cancel_late;
    bool ended; /* its last completion is queued */
};

struct sim_queued {
    uint64_t due_ns;
    struct sluice_completion completion;
};

struct sim_file {
    int fd; /* -1: free */
    struct net_end *end;
};

struct sim_region {
    uint64_t filled;
    const struct sluice_op *op; /* who fills it now */
};

struct sim {
    struct sluice_backend be;
    struct net net;
    struct sluice_sim_faults faults;
    uint64_t now_ns;
    uint64_t random_state;
    struct sim_slot *slots; /* ops_max */
    uint32_t *order;        /* ops_max: this turn's order */
    struct sim_queued *queue;
    size_t queue_count;
    struct sim_file *files;
    uint32_t files_max;
    uint16_t regions;
    struct sim_bells bells;
};

static struct sim *sim_of(struct sluice_backend *be)
{
    SLUICE_CHECK(be->ops == &sluice_backend_sim);
    return (struct sim *)be;
}

struct net *sluice_net_of(struct sluice_backend *be)
{
    return &sim_of(be)->net;
}

/* --- chance ------------------------------------------------------------------------------ */

static bool chance(struct sim *sim, uint32_t ppm)
{
    return ppm > 0 && sim_random_below(&sim->random_state, PPM) < ppm;
}

bool sluice_net_loses(struct sluice_backend *be)
{
    return chance(sim_of(be), sim_of(be)->faults.lose_ppm);
}

static size_t shorten(struct sim *sim, size_t count)
{
    if (count < 2 || !chance(sim, sim->faults.short_ppm))
        return count;
    return (size_t)(1 + sim_random_below(&sim->random_state, count - 1));
}

/* --- completions ------------------------------------------------------------------------- */

static struct sim_queued *report(struct sim *sim, struct sim_slot *slot, int64_t result, bool more)
{
    SLUICE_CHECK(!slot->ended);
    SLUICE_CHECK(result <= INT32_MAX);
    SLUICE_CHECK(sim->queue_count < (size_t)sim->be.ops_max * (QUEUED_MAX + 1));
    uint64_t due_ns = sim->now_ns;
    if (sim->faults.delay_max_ns > 0 && chance(sim, sim->faults.delay_ppm))
        due_ns += 1 + sim_random_below(&sim->random_state, sim->faults.delay_max_ns);
    if (due_ns < slot->due_ns)
        due_ns = slot->due_ns;
    slot->due_ns = due_ns;
    slot->queued++;
    slot->ended = !more;
    struct sim_queued *queued = &sim->queue[sim->queue_count++];
    *queued = (struct sim_queued){
        .due_ns = due_ns,
        .completion = {.op = slot->op, .result = (int32_t)result, .more = more},
    };
    return queued;
}

/* A good result of a MULTI op: it goes on, unless MORE is lost. */
static struct sim_queued *report_step(struct sim *sim, struct sim_slot *slot, int64_t result)
{
    bool multi = (slot->op->flags & SLUICE_OP_MULTI) != 0;
    return report(sim, slot, result, multi && !chance(sim, sim->faults.lost_more_ppm));
}

static void slot_free(struct sim *sim, struct sim_slot *slot)
{
    struct sluice_op *op = slot->op;
    struct net_end *end = slot->end;
    if (end) {
        end->ops--;
        if (end->recv == op)
            end->recv = NULL;
        if (end->send == op)
            end->send = NULL;
    }
    if (op->kind == SLUICE_OP_RECV && op->region)
        ((struct sim_region *)op->region->backend_data)->op = NULL;
    slot->op = NULL;
    sluice_op_end(&sim->be, op);
}

static void hand_back(struct sim *sim, const struct sluice_completion *completion)
{
    struct sim_slot *slot = &sim->slots[completion->op->backend_word];
    SLUICE_CHECK(slot->op == completion->op);
    SLUICE_CHECK(slot->queued > 0);
    slot->queued--;
    if (!completion->more)
        slot_free(sim, slot);
}

/* A SEND that took all at once waits for something else to be told with (backend.h, 11). */
static bool is_quiet(const struct sim *sim, const struct sim_queued *queued)
{
    const struct sluice_op *op = queued->completion.op;
    return op->kind == SLUICE_OP_SEND && op->flags & SLUICE_OP_NOWAIT &&
           (size_t)queued->completion.result == op->send.bytes &&
           !sim->slots[op->backend_word].cancelled;
}

/* When a poll that waits has something to return for; UINT64_MAX: never. */
static uint64_t next_due(const struct sim *sim)
{
    uint64_t due_ns = UINT64_MAX;
    for (size_t i = 0; i < sim->queue_count; i++)
        if (sim->queue[i].due_ns < due_ns && !is_quiet(sim, &sim->queue[i]))
            due_ns = sim->queue[i].due_ns;
    return due_ns;
}

/* In queue order; what is not due yet, or does not fit, stays in that order. */
static int reap(struct sim *sim, struct sluice_completion *out, int max)
{
    int count = 0;
    size_t kept = 0;
    for (size_t i = 0; i < sim->queue_count; i++) {
        const struct sim_queued *queued = &sim->queue[i];
        if (count == max || queued->due_ns > sim->now_ns) {
            sim->queue[kept++] = *queued;
            continue;
        }
        out[count++] = queued->completion;
        hand_back(sim, &queued->completion);
    }
    sim->queue_count = kept;
    return count;
}

/* --- one step of each kind: true if it moved --------------------------------------------- */

static bool step_accept(struct sim *sim, struct sim_slot *slot)
{
    int fd = sluice_net_accept(&sim->net, slot->end);
    if (fd == -EAGAIN)
        return false;
    if (fd < 0)
        report(sim, slot, fd, false);
    else
        report_step(sim, slot, fd);
    return true;
}

static bool step_connect(struct sim *sim, struct sim_slot *slot)
{
    const struct sluice_op *op = slot->op;
    int result = sluice_net_connect(&sim->net, slot->end, op->connect.addr, op->connect.bytes);
    if (result == -EAGAIN)
        return false;
    report(sim, slot, result, false);
    return true;
}

static void maybe_break(struct sim *sim, struct net_end *end)
{
    if (end->peer && chance(sim, sim->faults.reset_ppm))
        sluice_net_break(end);
}

static uint8_t *recv_target(const struct sim_slot *slot, size_t *room)
{
    const struct sluice_op *op = slot->op;
    const struct sluice_region *region = op->region;
    if (!region) {
        *room = op->recv.bytes;
        return op->recv.addr;
    }
    uint64_t at = slot->write_pos;
    *room = region->lent > at ? (size_t)(region->lent - at) : 0;
    return region->base + (at & (region->bytes - 1));
}

static void report_recv(struct sim *sim, struct sim_slot *slot, ssize_t count, size_t room)
{
    bool multi = (slot->op->flags & SLUICE_OP_MULTI) != 0;
    const struct sluice_region *region = slot->op->region;
    if (count <= 0 || !multi || !region || region->one_shot) {
        report(sim, slot, count, false);
        return;
    }
    /* The last of the credit ends the op with this count, or with -ENOBUFS after it. */
    if ((size_t)count == room && chance(sim, PPM / 2))
        report(sim, slot, count, false);
    else
        report_step(sim, slot, count);
}

static bool step_pooled(struct sim *sim, struct sim_slot *slot)
{
    struct net_end *end = slot->end;
    struct sluice_pool *pool = &sim->be.pool;
    maybe_break(sim, end);
    size_t ready = sluice_net_receivable(end);
    int taken =
        chance(sim, ready > 0 ? sim->faults.enobufs_ppm : 0) ? -ENOBUFS : sluice_pool_take(pool);
    if (taken < 0) {
        report(sim, slot, taken, false);
        return true;
    }
    uint16_t buffer = (uint16_t)taken;
    size_t room = sluice_pool_room(pool, slot->op);
    size_t want = shorten(sim, ready < room ? ready : room);
    ssize_t count = sluice_net_recv(end, sluice_pool_at(pool, buffer), want);
    if (count > 0) {
        report_step(sim, slot, count)->completion.buffer = buffer;
        return true;
    }
    sluice_pool_put(&sim->be, buffer);
    if (count != -EAGAIN)
        report(sim, slot, count, false);
    return count != -EAGAIN;
}

static bool step_recv(struct sim *sim, struct sim_slot *slot)
{
    if (slot->op->flags & SLUICE_OP_POOLED)
        return step_pooled(sim, slot);
    struct net_end *end = slot->end;
    const struct sluice_op *op = slot->op;
    size_t room;
    uint8_t *to = recv_target(slot, &room);
    bool multi = (op->flags & SLUICE_OP_MULTI) != 0;
    if (op->region && (room == 0 || (multi && chance(sim, sim->faults.enobufs_ppm)))) {
        report(sim, slot, -ENOBUFS, false);
        return true;
    }
    maybe_break(sim, end);
    size_t ready = sluice_net_receivable(end);
    size_t want = shorten(sim, ready < room ? ready : room);
    ssize_t count = sluice_net_recv(end, to, want);
    if (count == -EAGAIN)
        return false;
    if (count > 0 && op->region) {
        slot->write_pos += (uint64_t)count;
        ((struct sim_region *)op->region->backend_data)->filled = slot->write_pos;
    }
    report_recv(sim, slot, count, room);
    return true;
}

/* An error behind bytes that have left is swallowed with them: so does the kernel. */
static bool step_send(struct sim *sim, struct sim_slot *slot)
{
    struct net_end *end = slot->end;
    const struct sluice_op *op = slot->op;
    maybe_break(sim, end);
    size_t left = op->send.bytes - slot->taken;
    size_t ready = sluice_net_sendable(end);
    size_t want = ready == 0 ? left : shorten(sim, ready < left ? ready : left);
    ssize_t count = sluice_net_send(end, (const uint8_t *)op->send.addr + slot->taken, want);
    if (count == -EAGAIN && !(op->flags & SLUICE_OP_NOWAIT))
        return false;
    if (count < 0) {
        report(sim, slot, slot->taken > 0 ? (int64_t)slot->taken : count, false);
        return true;
    }
    slot->taken += (uint64_t)count;
    bool waitall = (op->flags & SLUICE_OP_WAITALL) != 0 && !(op->flags & SLUICE_OP_NOWAIT);
    if (slot->taken == op->send.bytes || !waitall || chance(sim, sim->faults.short_ppm / 16))
        report(sim, slot, (int64_t)slot->taken, false);
    return true;
}

static bool step_poll(struct sim *sim, struct sim_slot *slot)
{
    uint32_t events = slot->woken;
    uint64_t changes = slot->seen;
    slot->woken = 0;
    if (slot->end) {
        events = sluice_net_events(slot->end);
        changes = slot->end->changes;
        if (changes == slot->seen) /* MULTI tells each change once, as io_uring does */
            return false;
    }
    events &= slot->op->poll.events | POLLERR | POLLHUP;
    if (events == 0)
        return false;
    slot->seen = changes;
    report_step(sim, slot, events);
    return true;
}

/* A file is the machine's own: what stands in it is for the test to make the same every time. */
static bool step_read(struct sim *sim, struct sim_slot *slot)
{
    const struct sluice_op *op = slot->op;
    size_t room = shorten(sim, op->read.bytes);
    ssize_t count = pread(op->fd, op->read.addr, room, (off_t)op->read.offset);
    report(sim, slot, count < 0 ? -errno : count, false);
    return true;
}

static bool step(struct sim *sim, struct sim_slot *slot)
{
    if (!slot->end && slot->op->kind != SLUICE_OP_POLL && slot->op->kind != SLUICE_OP_READ) {
        report(sim, slot, -EBADF, false);
        return true;
    }
    switch ((enum sluice_op_kind)slot->op->kind) {
    case SLUICE_OP_ACCEPT:
        return step_accept(sim, slot);
    case SLUICE_OP_CONNECT:
        return step_connect(sim, slot);
    case SLUICE_OP_RECV:
        return step_recv(sim, slot);
    case SLUICE_OP_SEND:
        return step_send(sim, slot);
    case SLUICE_OP_POLL:
        return step_poll(sim, slot);
    case SLUICE_OP_READ:
        return step_read(sim, slot);
    case SLUICE_OP_KINDS:
        break;
    }
    return false;
}

/* --- a turn ------------------------------------------------------------------------------ */

static void finish_cancel(struct sim *sim, struct sim_slot *slot)
{
    if (slot->op->kind == SLUICE_OP_CONNECT && slot->end && slot->end->state == NET_CONNECTING)
        slot->end->state = NET_FRESH;
    report(sim, slot, slot->taken > 0 ? (int64_t)slot->taken : -ECANCELED, false);
}

static void run_slot(struct sim *sim, struct sim_slot *slot)
{
    if (slot->ended)
        return;
    bool may_move = !slot->cancelled || slot->cancel_late;
    while (may_move && !slot->ended && slot->queued < QUEUED_MAX)
        may_move = step(sim, slot);
    if (slot->cancelled && !slot->ended)
        finish_cancel(sim, slot);
}

static void run_all(struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->be.ops_max; i++)
        if (sim->slots[i].op)
            sim->order[count++] = i;
    for (uint32_t left = count; left > 0; left--) {
        uint32_t pick = (uint32_t)sim_random_below(&sim->random_state, left);
        uint32_t at = sim->order[pick];
        sim->order[pick] = sim->order[left - 1];
        run_slot(sim, &sim->slots[at]);
    }
}

/* Nothing else can happen meanwhile, so waiting is a jump to the next due completion. */
static void wait_until_due(struct sim *sim, int64_t timeout_ns)
{
    uint64_t end_ns = timeout_ns < 0 ? UINT64_MAX : sim->now_ns + (uint64_t)timeout_ns;
    uint64_t due_ns = next_due(sim);
    uint64_t until_ns = due_ns < end_ns ? due_ns : end_ns;
    if (until_ns != UINT64_MAX)
        sim->now_ns = until_ns;
}

/* Without a limit and with nothing that could ever come, returns 0 at once: only the test, which
 * is this thread, could change that. */
static int sim_poll(struct sluice_backend *be, int64_t timeout_ns, struct sluice_completion *out,
                    int max)
{
    struct sim *sim = sim_of(be);
    SLUICE_CHECK(max > 0);
    sim->now_ns += sim->faults.turn_ns;
    run_all(sim);
    if (timeout_ns != 0 && next_due(sim) > sim->now_ns)
        wait_until_due(sim, timeout_ns);
    return reap(sim, out, max);
}

/* --- submit and cancel ------------------------------------------------------------------- */

static void claim(struct sluice_op **holder, struct sluice_op *op)
{
    SLUICE_CHECK(*holder == NULL); /* backend.h, 9 */
    *holder = op;
}

static void attach_end(struct net_end *end, struct sluice_op *op)
{
    end->ops++;
    if (op->kind == SLUICE_OP_RECV)
        claim(&end->recv, op);
    if (op->kind == SLUICE_OP_SEND)
        claim(&end->send, op);
}

static void attach_region(struct sim_slot *slot, struct sluice_op *op)
{
    struct sluice_region *region = op->region;
    struct sim_region *mine = region->backend_data;
    SLUICE_CHECK(mine != NULL);
    SLUICE_CHECK(mine->op == NULL);
    /* A one-shot owner may stay where it was: a TLS control record was there, not data. */
    SLUICE_CHECK(region->one_shot ? region->pos <= mine->filled : region->pos == mine->filled);
    mine->op = op;
    mine->filled = region->pos;
    slot->write_pos = region->pos;
}

static void check_file(const struct sim *sim, const struct sluice_op *op)
{
    if (op->file < 0)
        return;
    SLUICE_CHECK((uint32_t)op->file < sim->files_max);
    SLUICE_CHECK(sim->files[op->file].fd == op->fd);
}

static uint32_t slot_find(const struct sim *sim)
{
    uint32_t at = 0;
    while (sim->slots[at].op)
        at++;
    return at;
}

static int sim_submit(struct sluice_backend *be, struct sluice_op *op)
{
    struct sim *sim = sim_of(be);
    if (be->in_flight == be->ops_max)
        return -EAGAIN;
    sluice_op_begin(be, op);
    check_file(sim, op);
    uint32_t at = slot_find(sim);
    struct sim_slot *slot = &sim->slots[at];
    *slot =
        (struct sim_slot){.op = op, .end = sluice_net_end(&sim->net, op->fd), .seen = UINT64_MAX};
    op->backend_word = at;
    if (slot->end)
        attach_end(slot->end, op);
    else
        slot->woken = op->kind == SLUICE_OP_POLL ? sim_bells_take(&sim->bells, op->fd) : 0;
    if (op->kind == SLUICE_OP_RECV && op->region)
        attach_region(slot, op);
    return 0;
}

static void sim_cancel(struct sluice_backend *be, struct sluice_op *op)
{
    struct sim *sim = sim_of(be);
    if (op->state != SLUICE_OP_IN_FLIGHT)
        return;
    struct sim_slot *slot = &sim->slots[op->backend_word];
    SLUICE_CHECK(slot->op == op);
    if (slot->cancelled)
        return;
    slot->cancelled = true;
    slot->cancel_late = chance(sim, sim->faults.cancel_race_ppm);
}

static uint64_t sim_now_ns(struct sluice_backend *be)
{
    return sim_of(be)->now_ns;
}

/* --- files and regions ------------------------------------------------------------------- */

static int sim_file_add(struct sluice_backend *be, int fd)
{
    struct sim *sim = sim_of(be);
    for (uint32_t at = 0; at < sim->files_max; at++) {
        struct sim_file *file = &sim->files[at];
        if (file->fd >= 0)
            continue;
        *file = (struct sim_file){.fd = fd, .end = sluice_net_end(&sim->net, fd)};
        if (file->end)
            file->end->file_slots++;
        return (int)at;
    }
    return -ENFILE;
}

static void sim_file_remove(struct sluice_backend *be, int at)
{
    struct sim *sim = sim_of(be);
    SLUICE_CHECK(at >= 0 && (uint32_t)at < sim->files_max);
    struct sim_file *file = &sim->files[at];
    SLUICE_CHECK(file->fd >= 0);
    if (file->end)
        sluice_net_release(&sim->net, file->end);
    *file = (struct sim_file){.fd = -1};
}

static int sim_region_open(struct sluice_backend *be, struct sluice_region *region)
{
    SLUICE_CHECK(region->bytes > 0 && (region->bytes & (region->bytes - 1)) == 0);
    struct sim_region *mine = calloc(1, sizeof(*mine));
    if (!mine)
        return -ENOMEM;
    if (region->one_shot || region->slice_bytes == 0)
        region->slice_bytes = 1;
    SLUICE_CHECK(region->bytes % region->slice_bytes == 0);
    mine->filled = region->pos;
    region->lent = region->pos;
    region->id = sim_of(be)->regions++;
    region->backend_data = mine;
    return 0;
}

static void sim_region_close(struct sluice_backend *be, struct sluice_region *region)
{
    (void)be;
    struct sim_region *mine = region->backend_data;
    if (!mine)
        return;
    SLUICE_CHECK(mine->op == NULL);
    free(mine);
    region->backend_data = NULL;
}

static uint64_t sim_region_lend(struct sluice_backend *be, struct sluice_region *region,
                                uint64_t limit)
{
    (void)be;
    SLUICE_CHECK(region->backend_data != NULL);
    SLUICE_CHECK(limit <= region->pos + region->bytes);
    uint64_t lent = limit - limit % region->slice_bytes;
    if (lent > region->lent)
        region->lent = lent;
    return region->lent;
}

/* --- life -------------------------------------------------------------------------------- */

static void sim_fini(struct sluice_backend *be)
{
    struct sim *sim = sim_of(be);
    for (uint32_t at = 0; sim->files && at < sim->files_max; at++)
        if (sim->files[at].fd >= 0)
            sim_file_remove(be, (int)at);
    sluice_net_fini(&sim->net);
    free(sim->slots);
    free(sim->order);
    free(sim->queue);
    free(sim->files);
}

static int sim_init(struct sluice_backend *be, const struct sluice_backend_config *cfg)
{
    struct sim *sim = sim_of(be);
    if (cfg->napi_busy_poll_us || cfg->sqpoll_idle_ms)
        return -ENOTSUP;
    sim->net.window_bytes = NET_WINDOW_BYTES;
    sim->faults = sluice_sim_faults_default;
    sim->now_ns = START_NS;
    /* Never 0, and neighbouring seeds far apart. */
    sim->random_state = (cfg->seed + 1) * 0x9e3779b97f4a7c15ull | 1;
    sim->files_max = cfg->files_max;
    snprintf(be->detail, sizeof(be->detail), "sim (seed %" PRIu64 ")", cfg->seed);
    sim->slots = calloc(cfg->ops_max, sizeof(*sim->slots));
    sim->order = calloc(cfg->ops_max, sizeof(*sim->order));
    sim->queue = calloc((size_t)cfg->ops_max * (QUEUED_MAX + 1), sizeof(*sim->queue));
    sim->files = calloc((size_t)cfg->files_max + 1, sizeof(*sim->files));
    if (!sim->slots || !sim->order || !sim->queue || !sim->files) {
        sim_fini(be);
        return -ENOMEM;
    }
    for (uint32_t at = 0; at < sim->files_max; at++)
        sim->files[at].fd = -1;
    return 0;
}

void sluice_sim_set_faults(struct sluice_backend *be, const struct sluice_sim_faults *faults)
{
    sim_of(be)->faults = *faults;
}

void sluice_sim_advance(struct sluice_backend *be, uint64_t ns)
{
    sim_of(be)->now_ns += ns;
}

void sluice_sim_wake(struct sluice_backend *be, int fd, uint32_t events)
{
    struct sim *sim = sim_of(be);
    bool heard = false;
    for (uint32_t at = 0; at < be->ops_max; at++) {
        struct sim_slot *slot = &sim->slots[at];
        if (!slot->op || slot->ended || slot->end || slot->op->kind != SLUICE_OP_POLL ||
            slot->op->fd != fd)
            continue;
        slot->woken |= events;
        heard = true;
    }
    if (!heard)
        sim_bells_keep(&sim->bells, fd, events);
}

const struct sluice_backend_ops sluice_backend_sim = {
    .name = "sim",
    .state_bytes = sizeof(struct sim),
    .init = sim_init,
    .fini = sim_fini,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .poll = sim_poll,
    .now_ns = sim_now_ns,
    .file_add = sim_file_add,
    .file_remove = sim_file_remove,
    .region_open = sim_region_open,
    .region_close = sim_region_close,
    .region_lend = sim_region_lend,
    .pool_put = sluice_pool_put,
    .sockets = &sluice_sim_sockets,
};
