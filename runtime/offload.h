/*
 * Kernel TLS: whether this connection can have it, the moment when the kernel takes over, and what
 * is left to us then: records without data, and new keys.
 */
#ifndef SLUICE_OFFLOAD_H
#define SLUICE_OFFLOAD_H

#include "life.h"
#include "secure.h"

/* Whether the kernel has it at all: 0, -ENOENT no module, -ENOSYS not in this build, or another
 * negative errno. */
int sluice_offload_probe(void);

/* A connection is open: from now on the handshake is read record by record, if the kernel has what
 * it takes; why not stands in s->user_space. 0, or -ENOTSUP: it was required (s->error). */
int sluice_offload_prepare(struct sluice_secure *s, struct sluice_life *c);

/* The handshake is done and its output left: hand both directions over, receiving first. 0,
 * -ENOTSUP (all as before: see s->user_space), or -EPROTO: over, see s->error. */
int sluice_offload_start(struct sluice_secure *s, struct sluice_life *c);

/* RECV said -EIO: a record without data is next. 0, or -EPROTO: see the session's error. Its close
 * stands in the session. */
int sluice_offload_control(struct sluice_secure *s, struct sluice_life *c);

/* RECV said another error. True: it was the kernel's verdict on a record; see the session's error.
 */
bool sluice_offload_verdict(struct sluice_secure *s, int os_error);

/* The kernel took so many bytes; between: of whole messages, nothing is half sent. New keys are due
 * when these have made as many records as they may. */
void sluice_offload_sent(struct sluice_secure *s, size_t bytes, bool between);

/* What is to be said with no SEND in flight: an answer to KeyUpdate, an alert, close_notify. 0: all
 * is said; -EAGAIN: no room in the socket; -EPROTO. */
int sluice_offload_say(struct sluice_secure *s, struct sluice_life *c);

#endif
