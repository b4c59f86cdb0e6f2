/*
 * The connections of one loop as a whole: memory, and the end of the turn.
 */
#include "conns.h"
#include "base/bits.h"
#include "base/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_BYTES_DEFAULT   (64u << 10)
#define CLOSE_TIMEOUT_DEFAULT (5 * SLUICE_NS_PER_S)

/* ---- what is due ---- */

void sluice_conns_due(struct sluice_conn *c, enum conn_due what)
{
    struct sluice_conns *conns = c->conns;
    if (c->life.state >= SLUICE_CONN_CLOSING)
        return; /* nothing is any more */
    if (!c->due) {
        c->due_next = NULL;
        *conns->due_end = c;
        conns->due_end = &c->due_next;
    }
    c->due |= (uint8_t)what;
}

static bool run_due(struct sluice_conns *conns)
{
    struct sluice_conn *c = conns->due, *next;
    conns->due = NULL;
    conns->due_end = &conns->due;
    bool did = c != NULL;
    for (; c; c = next) {
        next = c->due_next;
        unsigned due = c->due;
        c->due = 0;
        if (due & DUE_RECEIVE)
            sluice_conn_receive(c);
        if (due & DUE_SEND)
            sluice_conn_flush(c);
    }
    return did;
}

/* ---- the end of the turn ---- */

static void reclaim(struct sluice_conns *conns)
{
    while (conns->closed) {
        struct sluice_conn *c = conns->closed;
        conns->closed = c->next;
        c->magic = 0;
        c->next = conns->free;
        conns->free = c;
        conns->used--;
    }
}

static struct sluice_conns *of_source(struct sluice_source *src)
{
    return SLUICE_CONTAINER_OF(src, struct sluice_conns, source);
}

static bool is_pending(struct sluice_source *src)
{
    const struct sluice_conns *conns = of_source(src);
    return conns->due || conns->closed || conns->hurried || sluice_leases_may_feed(conns);
}

static bool work(struct sluice_source *src)
{
    struct sluice_conns *conns = of_source(src);
    if (!is_pending(src))
        return false;
    sluice_leases_feed(conns);
    run_due(conns);
    if (conns->closed) {
        reclaim(conns);
        sluice_listener_retry(conns);
    }
    return true;
}

static void nothing(struct sluice_source *src)
{
    (void)src;
}

/* ---- memory ---- */

struct sluice_conn *sluice_conns_take(struct sluice_conns *conns)
{
    struct sluice_conn *c = conns->free;
    if (!c)
        return NULL;
    conns->free = c->next;
    conns->used++;
    return c;
}

void sluice_conns_put_back(struct sluice_conn *c)
{
    c->next = c->conns->closed;
    c->conns->closed = c;
}

static void free_memory(struct sluice_conns *conns)
{
    free(conns->all);
    sluice_leases_fini(conns);
    sluice_conns_tls_fini(conns);
    free(conns->queues);
    free(conns->queue_free);
    free(conns);
}

static int allocate(struct sluice_conns *conns)
{
    conns->all = calloc(conns->max, sizeof(*conns->all));
    conns->queues = malloc((size_t)conns->max * conns->queue_bytes);
    conns->queue_free = calloc(conns->max, sizeof(*conns->queue_free));
    if (!conns->all || !conns->queues || !conns->queue_free || sluice_leases_init(conns))
        return -ENOMEM;
    for (uint32_t i = conns->max; i-- > 0;) {
        conns->all[i].next = conns->free;
        conns->free = &conns->all[i];
        conns->queue_free[conns->queue_free_count++] = i;
    }
    return 0;
}

int sluice_conns_create(struct sluice_conns **out, struct sluice_loop *loop,
                        const struct sluice_loop_config *cfg)
{
    *out = NULL;
    if (cfg->conns_max == 0)
        return 0;
    struct sluice_conns *conns = calloc(1, sizeof(*conns));
    if (!conns)
        return -ENOMEM;
    conns->loop = loop;
    conns->max = cfg->conns_max;
    conns->due_end = &conns->due;
    conns->queue_bytes =
        sluice_round_up_power(cfg->send_queue_bytes ? cfg->send_queue_bytes : QUEUE_BYTES_DEFAULT);
    conns->close_timeout_ns = cfg->close_timeout_ns ? cfg->close_timeout_ns : CLOSE_TIMEOUT_DEFAULT;
    int err = allocate(conns);
    if (err) {
        free_memory(conns);
        return err;
    }
    conns->source = (struct sluice_source){
        .work = work, .settle = nothing, .park = nothing, .pending = is_pending, .unpark = nothing};
    sluice_loop_add_source(loop, &conns->source);
    *out = conns;
    return 0;
}

static bool is_over(const void *what)
{
    const struct sluice_conns *conns = what;
    return conns->used == 0 && conns->listening == 0;
}

void sluice_conns_destroy(struct sluice_conns *conns)
{
    if (!conns)
        return;
    for (uint32_t i = 0; i < CONNS_LISTENERS; i++)
        if (conns->listeners[i].magic)
            sluice_listener_close(&conns->listeners[i]);
    for (uint32_t i = 0; i < conns->max; i++)
        if (conns->all[i].magic)
            sluice_conn_abort(&conns->all[i]);
    bool over = sluice_loop_turn_until(conns->loop, is_over, conns);
    SLUICE_CHECK(over); /* by the thread that ran the loop */
    for (int kind = 0; kind < LEASE_KINDS; kind++)
        SLUICE_CHECK(conns->leases[kind].leased == 0); /* retained, and not released */
    sluice_loop_remove_source(conns->loop, &conns->source);
    free_memory(conns);
}

/* ---- in words ---- */

int sluice_conns_refuse(char *why, size_t why_bytes, int err, const char *fmt, ...)
{
    if (!why || why_bytes == 0)
        return err;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, why_bytes, fmt, ap);
    va_end(ap);
    return err;
}
