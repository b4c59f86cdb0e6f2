/*
 * The doorman of a channel: POLL ops on its descriptors. None of this is on the path of data: a
 * busy loop looks at the rings themselves.
 */
#include "doorman.h"
#include "base/check.h"
#include "base/log.h"

#include <poll.h>

static void ended(struct sluice_door *door)
{
    SLUICE_CHECK(door->doorman->watching > 0);
    door->watching = false;
    door->doorman->watching--;
    door->doorman->ch->links_changed = true; /* look at it again in the next turn */
}

/* Not while another thread holds the inbox: a client that comes ends silent ones. */
static void accept_all(struct sluice_doorman *d)
{
    d->accept_due = d->ch->inbox.away;
    d->ch->inbox.wanted |= d->accept_due;
    while (!d->accept_due && sluice_channel_accept(d->ch) == 0)
        ;
}

static void on_listener(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_door *door = SLUICE_CONTAINER_OF(op, struct sluice_door, op);
    (void)result;
    if (!more)
        ended(door);
    if (!door->doorman->stopping)
        accept_all(door->doorman);
}

/* A hang-up is said once only, maybe together with a ring before it. */
static void on_link(struct sluice_op *op, int32_t result, bool more)
{
    struct sluice_door *door = SLUICE_CONTAINER_OF(op, struct sluice_door, op);
    struct sluice_doorman *d = door->doorman;
    struct sluice_link *link = &d->ch->links[door - d->links];
    if (!more)
        ended(door);
    if (d->stopping || (more && !sluice_link_rings(link)))
        return;
    if (!link->held)
        sluice_link_input(d->ch, link);
    if (result > 0 && result & POLLHUP && sluice_link_rings(link) && !link->held)
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

/* A client that the backend cannot watch would never be heard. */
static bool refuse_high(struct sluice_doorman *d, struct sluice_link *link)
{
    const struct sluice_backend *be = d->loop->be;
    if (link->fd < be->fd_limit)
        return false;
    sluice_log(SLUICE_LOG_WARN, "%s: a client got descriptor %d, and %s takes those below %d only",
               d->ch->header->name, link->fd, be->name, be->fd_limit);
    sluice_link_close(d->ch, link);
    return true;
}

static void unwatch(struct sluice_doorman *d, struct sluice_door *door)
{
    if (door->watching)
        d->loop->be->ops->cancel(d->loop->be, &door->op);
}

static void tend(struct sluice_doorman *d, struct sluice_door *door, struct sluice_link *link)
{
    bool ending = link->state == LINK_ENDING;
    if (ending || link->held)
        unwatch(d, door);
    else if (!refuse_high(d, link))
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
        accept_all(d);
    watch(d, &d->listener, d->ch->listen_fd, SLUICE_OP_MULTI);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        if (d->ch->links[i].state != LINK_FREE)
            tend(d, &d->links[i], &d->ch->links[i]);
}

void sluice_doorman_stop(struct sluice_doorman *d)
{
    d->stopping = true;
    unwatch(d, &d->listener);
    for (uint32_t i = 0; i < SLUICE_LINKS_MAX; i++)
        unwatch(d, &d->links[i]);
}
