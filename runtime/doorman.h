/*
 * The doorman of a channel: watches its listening socket, its clients' sockets and the doorbells on
 * which they ring, and lets rings/link.c do the rest.
 */
#ifndef SLUICE_DOORMAN_H
#define SLUICE_DOORMAN_H

#include "loop.h"
#include "rings/engine.h"

struct sluice_doorman;

struct sluice_door {
    struct sluice_op op; /* POLL */
    struct sluice_doorman *doorman;
    uint32_t unread; /* rings */
    bool watching;
};

struct sluice_doorman {
    struct sluice_loop *loop;
    struct sluice_channel *ch;
    struct sluice_door listener, links[SLUICE_LINKS_MAX];
    struct sluice_timer silence; /* runs while anybody is half-way in */
    uint32_t watching;
    bool stopping;
    bool accept_due; /* somebody knocked and was not let in yet */
};

void sluice_doorman_init(struct sluice_doorman *d, struct sluice_loop *loop,
                         struct sluice_channel *ch);

/* Watch what is not watched yet. Cheap when nothing changed. */
void sluice_doorman_work(struct sluice_doorman *d);

/* Watch nothing any more; over when d->watching is 0. */
void sluice_doorman_stop(struct sluice_doorman *d);

#endif
