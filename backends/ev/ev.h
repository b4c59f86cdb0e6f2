/*
 * State of the libev backend, shared by ev.c (ops in, completions out), attempt.c (what one op
 * tries) and event.c (libev's event mechanisms). Nothing outside this folder includes it.
 */
#ifndef SLUICE_EV_H
#define SLUICE_EV_H

#include "backends/backend.h"

#include <ev.h>

/* An op in flight: queued for its next attempt, or parked on its watcher. */
struct libev_slot {
    ev_io watcher;        /* first: libev gives it back */
    struct sluice_op *op; /* NULL: free */
    struct libev_slot *next;
    uint64_t region_pos; /* RECV into a region: where its next byte goes */
    size_t sent_bytes;   /* SEND */
    int32_t sent_result; /* SEND that submit() brought to an end: poll() tells it */
    uint64_t told_turn;  /* of its newest completion that was not the last */
    bool queued;
    bool cancelled;
    bool sent;       /* sent_result is there */
    bool connecting; /* connect(2) was called */
    bool unwatched;  /* the event mechanism refused the descriptor */
    short ready;     /* POLL: what the mechanism said since the last attempt */
};

struct libev {
    struct sluice_backend base; /* first */
    struct ev_loop *loop;
    int fd; /* of its epoll, once it was asked for; -1: not yet */
    ev_timer timer;
    uint64_t turn;            /* counts calls of poll() */
    bool looked;              /* the last one asked what is ready */
    bool asked;               /* for a descriptor, since the last sleep */
    bool timed_out;           /* the last look, for want of anything ready */
    struct libev_slot *slots; /* ops_max */
    struct libev_slot *free;
    struct libev_slot *queue, **queue_end; /* worth an attempt, in that order */
};

/* What an attempt came to. */
enum libev_outcome {
    LIBEV_PARK,      /* nothing yet: when the descriptor is ready */
    LIBEV_TELL,      /* a completion, and the op goes on when the descriptor is ready */
    LIBEV_TELL_MORE, /* a completion, and another one may be there already */
    LIBEV_END,       /* the last completion */
};

/** buffer: of the pool, where the result stands in one. */
enum libev_outcome libev_attempt(struct sluice_pool *pool, struct libev_slot *slot, int32_t *result,
                                 uint16_t *buffer);
/** EV_READ or EV_WRITE: what a parked op waits for. */
int libev_interest(const struct sluice_op *op);

/** 0, -EINVAL no such name, -ENOSYS not in this libev or refused by the kernel, or a limit. */
int libev_open_loop(struct libev *ev, const char *event);
/** Readable when libev's loop has something to do; or -ENOTSUP, only epoll has such, -ENOMEM. */
int libev_descriptor(struct libev *ev);
int libev_features(struct sluice_backend_feature *out, int max);

#endif
