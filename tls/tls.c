/*
 * What is the same for every provider of TLS: the list of them, errors, the output ring, the limits
 * of control records, the end of the stream. Alerts are alert.c's.
 */
#include "tls/provider.h"
#include "base/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifndef BUILT_TLS /* meson.build says it as X(name) X(name); lint looks at this file alone */
#define BUILT_TLS
#endif

#define X(name) &sluice_tls_##name,
const struct sluice_tls_provider *const sluice_tls_providers[] = {BUILT_TLS & sluice_tls_none,
                                                                  NULL};
#undef X

uint64_t sluice_tls_records_per_key = 1u << 24; /* and what is on its way when it is reached */

const struct sluice_tls_provider *sluice_tls_find(const char *name)
{
    if (!name || strcmp(name, "auto") == 0)
        return sluice_tls_providers[0];
    for (size_t i = 0; sluice_tls_providers[i]; i++)
        if (strcmp(sluice_tls_providers[i]->name, name) == 0)
            return sluice_tls_providers[i];
    return NULL;
}

void sluice_tls_error_set_va(struct sluice_tls_error *err, enum sluice_reason reason,
                             const char *fmt, va_list args)
{
    if (err->reason != SLUICE_REASON_NONE)
        return;
    err->reason = reason;
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    for (char *c = err->text; *c; c++)
        if (*c < ' ' || *c > '~') /* part of it may come from the peer */
            *c = '?';
}

void sluice_tls_error_set(struct sluice_tls_error *err, enum sluice_reason reason, const char *fmt,
                          ...)
{
    va_list args;
    va_start(args, fmt);
    sluice_tls_error_set_va(err, reason, fmt, args);
    va_end(args);
}

int sluice_tls_no_memory(struct sluice_tls_error *err)
{
    sluice_tls_error_set(err, SLUICE_REASON_LIMIT, "TLS: out of memory");
    return -ENOMEM;
}

int sluice_tls_fail(struct sluice_tls_session *s, enum sluice_reason reason, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    sluice_tls_error_set_va(&s->error, reason, fmt, args);
    va_end(args);
    s->state = SLUICE_TLS_FAILED;
    s->pending = 0;
    return -EPROTO;
}

void sluice_tls_session_init(struct sluice_tls_session *s,
                             const struct sluice_tls_provider *provider, uint8_t *out_base,
                             size_t out_bytes)
{
    SLUICE_CHECK(out_bytes >= SLUICE_TLS_OUTPUT_MIN);
    SLUICE_CHECK((out_bytes & (out_bytes - 1)) == 0);
    *s = (struct sluice_tls_session){.magic = SLUICE_TLS_MAGIC,
                                     .provider = provider,
                                     .out_base = out_base,
                                     .out_bytes = out_bytes,
                                     .error = {.alert = -1}};
}

size_t sluice_tls_emit(struct sluice_tls_session *s, const void *data, size_t bytes)
{
    size_t room = sluice_tls_room(s);
    size_t n = bytes < room ? bytes : room;
    memcpy(s->out_base + (s->out_tail & (s->out_bytes - 1)), data, n);
    s->out_tail += n;
    return n;
}

size_t sluice_tls_take(struct sluice_tls_input *in, void *to, size_t bytes)
{
    size_t n = bytes < in->bytes ? bytes : in->bytes;
    memcpy(to, in->data, n);
    in->data += n;
    in->bytes -= n;
    return n;
}

int sluice_tls_count_control(struct sluice_tls_session *s)
{
    s->control_records++;
    if (++s->control_run <= SLUICE_TLS_CONTROL_RUN_MAX)
        return 0;
    return sluice_tls_fail(s, SLUICE_REASON_TLS_PROTOCOL,
                           "%u records in a row without data: a flood", s->control_run);
}

bool sluice_tls_count_records(struct sluice_tls_session *s, uint64_t records)
{
    s->records_out += records;
    return s->records_out >= sluice_tls_records_per_key;
}

void sluice_tls_sent(struct sluice_tls_session *s, size_t bytes)
{
    SLUICE_CHECK(bytes <= s->out_tail - s->out_head);
    s->out_head += bytes;
}

int sluice_tls_eof(struct sluice_tls_session *s)
{
    if (s->state == SLUICE_TLS_FAILED)
        return -EPROTO;
    if (s->closed & SLUICE_TLS_CLOSED_BY_PEER)
        return 0;
    return sluice_tls_fail(s, SLUICE_REASON_TLS_TRUNCATED,
                           s->state == SLUICE_TLS_HANDSHAKE
                               ? "the peer closed the connection during the handshake"
                               : "the peer closed the connection without close_notify");
}
