/*
 * Kernel TLS of one connection, a transport's or one of the embedded runtime: whether it can be
 * had, the moment when the kernel takes over, and what is left to us then: records without data,
 * and new keys.
 */
#ifndef SLUICE_OFFLOAD_H
#define SLUICE_OFFLOAD_H

#include "life.h"
#include "tls/tls.h"

/* Whose records they are. Zeroes: ours. */
struct sluice_offload {
    struct sluice_tls_session *session;
    bool by_record; /* nothing is received beyond the record that is due */
    bool in_kernel; /* it encrypts and decrypts: the session only knows */
    bool required;
    bool answer_due, refusal_due,
        notify_due;  /* to be said by offload.c: KeyUpdate (asked for, or because our keys have
                        served long enough), no_renegotiation, close_notify */
    int alert_due;   /* -1: none */
    char where[112]; /* "kernel, both ways", or "user space" and why */
};

/* Whether the kernel has it at all: 0, -ENOENT no module, -ENOSYS not in this build, or another
 * negative errno. */
int sluice_offload_probe(void);

/* Why no connection can have it with this provider. NULL: it is to be tried. */
const char *sluice_offload_lacks(const struct sluice_tls_provider *provider);

/* A connection is there, and its session is new: from now on the handshake is read record by
 * record, if the kernel has what it takes. refusal: NULL, or why it is not asked. 0; -ENOENT: the
 * kernel has no such module; -EPROTO: it was required (the session's error). */
int sluice_offload_prepare(struct sluice_offload *o, struct sluice_life *c,
                           struct sluice_tls_session *session, enum sluice_ktls wanted,
                           const char *refusal);

/* The handshake is done and its output left: hand both directions over, receiving first. 0,
 * -ENOTSUP (all as before: see o->where), or -EPROTO: over, see the session's error. */
int sluice_offload_start(struct sluice_offload *o, struct sluice_life *c);

/* RECV said -EIO: a record without data is next. 0, or -EPROTO: see the session's error. Its close
 * stands in the session. */
int sluice_offload_control(struct sluice_offload *o, struct sluice_life *c);

/* RECV said another error. True: it was the kernel's verdict on a record; see the session's error.
 */
bool sluice_offload_verdict(struct sluice_offload *o, int os_error);

/* The kernel took so many bytes; between: of whole messages, nothing is half sent. New keys are due
 * when these have made as many records as they may. */
void sluice_offload_sent(struct sluice_offload *o, size_t bytes, bool between);

/* What is to be said with no SEND in flight: an answer to KeyUpdate; with nothing left to be sent
 * (last) also an alert, close_notify. 0: all is said; -EAGAIN: no room in the socket; -EPROTO. */
int sluice_offload_say(struct sluice_offload *o, struct sluice_life *c, bool last);

#endif
