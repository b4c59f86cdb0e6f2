/*
 * TSan knows memory by its address, and the two sides of a channel map the same memory at different
 * ones: it would see neither their races nor what orders them. For the thread tests a client and
 * the engine of one process are given the same mappings: the engine's of what the engine writes,
 * the client's of what the client writes. The permissions are test_seals.c's.
 */
#ifndef SLUICE_TESTS_ONE_VIEW_H
#define SLUICE_TESTS_ONE_VIEW_H

#include "rings/client.h"
#include "rings/engine.h"

/* What was there before, to be unmapped. */
struct one_view {
    struct sluice_client client;
    struct sluice_writer writer;
};

static inline void one_view_of_box(struct sluice_outbox *box, struct producer *p)
{
    p->heads = box->heads;
    box->tails = p->tails;
    box->slots = p->slots;
    box->base = p->base;
}

/* After attaching, before any thread runs. */
static inline void one_view_open(struct one_view *v, struct sluice_channel *ch,
                                 struct sluice_client *c)
{
    v->client = *c;
    c->header = ch->header;
    c->shared = ch->shared;
    c->meta = ch->inbox.meta;
    c->inbox = ch->inbox.base;
    if (c->role == SLUICE_OBSERVER)
        return;
    struct sluice_writer *w = &ch->writers[c->index];
    v->writer = *w;
    w->shared = c->mine;
    one_view_of_box(&w->outbox, &c->outbox);
    one_view_of_box(&w->pongs, &c->pongs);
}

/* When the threads are joined, before detaching. */
static inline void one_view_close(struct one_view *v, struct sluice_channel *ch,
                                  struct sluice_client *c)
{
    c->header = v->client.header;
    c->shared = v->client.shared;
    c->meta = v->client.meta;
    c->inbox = v->client.inbox;
    if (c->role == SLUICE_OBSERVER)
        return;
    struct sluice_writer *w = &ch->writers[c->index];
    w->shared = v->writer.shared;
    w->outbox.base = v->writer.outbox.base;
    w->outbox.slots = v->writer.outbox.slots;
    w->outbox.tails = v->writer.outbox.tails;
    w->pongs.base = v->writer.pongs.base;
    w->pongs.slots = v->writer.pongs.slots;
    w->pongs.tails = v->writer.pongs.tails;
}

#endif
