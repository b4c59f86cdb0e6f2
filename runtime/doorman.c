/*
 * The doorman of a channel: POLL ops on its descriptors. None of this is on the path of data: a
 * busy loop looks at the rings themselves.
 */
#include "doorman.h"
#include "base/check.h"

#include <poll.h>

#define ACCEPTS_A_TURN 16u
#define UNREAD_MAX     32u /* rings: a socket has room for more, and a client rings once a sleep */
#define SILENCE_NS     (LINK_HANDSHAKE_NS + SLUICE_NS_PER_MS)

static void ended(struct sluice_door *door)
{
    SLUICE_CHECK(door->doorman->watching > 0);
    door->watching = false;
    door->doorman->watching--;
    door->doorman->ch->links_changed = true; /* look at it again in the next turn */
}

/* Not while another thread holds the inbox: a client that comes ends silent ones. Some at a time:
 * who knocks without end holds up no byte. */
static void accept_some(struct sluice_doorman *d)
{
    uint32_t left = d->ch->inbox.away ? 0 : ACCEPTS_A_TURN;
    d->ch->inbox.wanted |= d->ch->inbox.away;
    while (left > 0 && sluice_channel_accept(d->ch) == 0)
        left--;
    d->accept_due = left == 0;
    d->ch->links_changed |= d->accept_due && !d->ch->inbox.away;
}

static void on_listener(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_door *door = SLUICE_CONTAINER_OF(op, struct sluice_door, op);
    (void)result;
    if (!more)
        ended(door);
    if (!door->doorman->stopping)
        accept_some(door->doorman);
}

/* A hang-up is said once only, whatever was rung before it. */
static void on_link(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_door *door = SLUICE_CONTAINER_OF(op, struct sluice_door, op);
    struct sluice_doorman *d = door->doorman;
    struct sluice_link *link = &d->ch->links[door - d->links];
    bool rings = sluice_link_rings(link);
    if (!more)
        ended(door);
    if (d->stopping || link->held || (more && !rings))
        return;
    bool rung = rings && more && d->loop->be->edge && ++door->unread < UNREAD_MAX;
    door->unread = rung ? door->unread : 0;
    if (rings && result > 0 && result & POLLHUP)
        sluice_link_hung_up(d->ch, link);
    else if (rung)
        d->ch->bell_heard = true;
    else
        sluice_link_input(d->ch, link);
}

static void init_door(struct sluice_doorman *d, struct sluice_door *door,
                      void (*done)(struct sluice_op *, int32_t, bool))
{
    door->doorman = d;
    door->watching = false;
    sluice_op_init(&door->op, SLUICE_OP_POLL, done);
    door->op.poll.events = POLLIN;
}

void sluice_doorman_init(struct sluice_doorman *d, struct sluice_loop *loop,
                         struct sluice_channel *ch)
{
    *d = (struct sluice_doorman){.loop = loop, .ch = ch};
    init_door(d, &d->listener, on_listener);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        init_door(d, &d->links[i], on_link);
    ch->links_changed = true;
}

static void watch(struct sluice_doorman *d, struct sluice_door *door, int fd, uint16_t flags)
{
    if (door->watching || fd < 0)
        return;
    door->op.fd = fd;
    door->op.flags = flags;
    if (d->loop->be->ops->submit(d->loop->be, &door->op)) {
        d->ch->links_changed = true; /* no room for an op: the next turn */
        return;
    }
    door->watching = true;
    d->watching++;
}

static void unwatch(struct sluice_doorman *d, struct sluice_door *door)
{
    if (door->watching)
        d->loop->be->ops->cancel(d->loop->be, &door->op);
}

static void on_silence(struct sluice_timer *timer)
{
    struct sluice_doorman *d = SLUICE_CONTAINER_OF(timer, struct sluice_doorman, silence);
    sluice_link_end_silent(d->ch);
    d->ch->links_changed = true; /* others may have come since */
}

static void tend(struct sluice_doorman *d, struct sluice_door *door, struct sluice_link *link)
{
    bool ending = link->state == LINK_ENDING;
    if (ending || link->held)
        unwatch(d, door);
    else
        watch(d, door, link->fd, sluice_link_rings(link) ? SLUICE_OP_MULTI : 0);
    if (ending && !link->held && !door->watching)
        sluice_link_input(d->ch, link);
}

void sluice_doorman_work(struct sluice_doorman *d)
{
    if (!d->ch->links_changed || d->stopping)
        return;
    d->ch->links_changed = false;
    if (d->accept_due)
        accept_some(d);
    watch(d, &d->listener, d->ch->listen_fd, SLUICE_OP_MULTI);
    bool attaches = false;
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++) {
        if (d->ch->links[i].state != LINK_FREE)
            tend(d, &d->links[i], &d->ch->links[i]);
        attaches |= sluice_link_attaches(&d->ch->links[i]);
    }
    if (!attaches)
        sluice_timer_stop(&d->silence);
    else if (!d->silence.runs)
        sluice_loop_start_timer(d->loop, &d->silence, SILENCE_NS, on_silence);
}

void sluice_doorman_stop(struct sluice_doorman *d)
{
    d->stopping = true;
    sluice_timer_stop(&d->silence);
    unwatch(d, &d->listener);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        unwatch(d, &d->links[i]);
}
