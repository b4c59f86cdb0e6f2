/*
 * The TLS of one transport: what it owns, from the first tls:// to the end.
 */
#include "secure.h"

#include "rings/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(struct sluice_secure *s, enum sluice_reason reason, int err, const char *what,
                const char *name)
{
    s->error = (struct sluice_tls_error){.reason = reason, .alert = -1};
    snprintf(s->error.text, sizeof(s->error.text), "%s%s", what, name);
    return err;
}

static uint8_t *make_ring(uint64_t bytes)
{
    int fd = sluice_memory_create("sluice-tls", bytes);
    if (fd < 0) {
        errno = -fd;
        return NULL;
    }
    uint8_t *ring = sluice_memory_map_twice(fd, 0, bytes, MAP_TO_WRITE);
    int err = errno;
    close(fd);
    errno = err;
    return ring;
}

int sluice_secure_open(struct sluice_secure *s, const char *provider,
                       const struct sluice_tls_config *cfg, enum sluice_ktls ktls)
{
    const struct sluice_tls_config verified = {0};
    s->ktls = ktls;
    s->provider = sluice_tls_find(provider);
    if (!s->provider)
        return fail(s, SLUICE_REASON_UNSUPPORTED, -ENOTSUP,
                    "no such TLS provider in this build: ", provider);
    int err = s->provider->context_create(&s->ctx, cfg ? cfg : &verified, &s->error);
    if (err)
        return err;
    s->raw = make_ring(SECURE_RAW_BYTES);
    s->out = s->raw ? make_ring(SECURE_OUT_BYTES) : NULL;
    return s->out ? 0 : fail(s, SLUICE_REASON_LIMIT, -errno, "no memory for the rings of TLS", "");
}

void sluice_secure_fini(struct sluice_secure *s)
{
    sluice_secure_end(s);
    if (s->ctx)
        s->provider->context_destroy(s->ctx);
    sluice_memory_unmap(s->raw, 2ull * SECURE_RAW_BYTES);
    sluice_memory_unmap(s->out, 2ull * SECURE_OUT_BYTES);
    memset(s, 0, sizeof(*s));
}

int sluice_secure_begin(struct sluice_secure *s, const char *host, struct sluice_life *c)
{
    sluice_secure_move(&s->raw_head, sluice_secure_at(&s->raw_tail));
    int err =
        s->provider->session_create(&s->session, s->ctx, host, s->out, SECURE_OUT_BYTES, &s->error);
    if (!err &&
        sluice_offload_prepare(&s->offload, c, s->session, s->ktls, s->ktls_off) == -EPROTO) {
        s->error = s->session->error;
        err = -ENOTSUP;
    }
    return err;
}

void sluice_secure_end(struct sluice_secure *s)
{
    if (s->session)
        s->provider->session_destroy(s->session);
    s->session = NULL;
    s->offload = (struct sluice_offload){.alert_due = -1};
}

struct sluice_tls_input sluice_secure_window(const struct sluice_secure *s)
{
    uint64_t head = sluice_secure_at(&s->raw_head);
    return (struct sluice_tls_input){.data = s->raw + (head & (SECURE_RAW_BYTES - 1)),
                                     .bytes = (size_t)(sluice_secure_at(&s->raw_tail) - head)};
}

size_t sluice_secure_lacks(const struct sluice_secure *s)
{
    struct sluice_tls_input in = sluice_secure_window(s);
    if (in.bytes < SLUICE_TLS_HEADER_BYTES)
        return SLUICE_TLS_HEADER_BYTES - in.bytes;
    size_t whole = SLUICE_TLS_HEADER_BYTES + ((size_t)in.data[3] << 8 | in.data[4]);
    /* Longer than allowed: the session shall say so. */
    return whole > SLUICE_TLS_WIRE_MAX || whole < in.bytes ? 0 : whole - in.bytes;
}

void sluice_secure_describe(const struct sluice_secure *s, char *version, size_t version_bytes,
                            char *text, size_t text_bytes)
{
    struct sluice_tls_info info;
    s->provider->info(s->session, &info);
    snprintf(version, version_bytes, "%s", info.version);
    snprintf(text, text_bytes, "%s, %s; verified: %s%s%s; %s", s->provider->name, info.cipher,
             info.verified, info.alpn[0] ? "; alpn " : "", info.alpn, s->offload.where);
}
