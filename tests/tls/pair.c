/*
 * Two TLS sessions and the wire between them, in memory.
 */
#include "tests/tls/pair.h"
#include "rings/memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct sluice_tls_provider *tls_provider(void)
{
    const struct sluice_tls_provider *tls = sluice_tls_find(getenv("TLS_PROVIDER"));
    cr_assert(tls);
    return tls;
}

const char *certs(const char *name)
{
    static char paths[160][512];
    const char *folder = getenv("TESTS_CERTS");
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder ? folder : ".", name);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (!paths[i][0])
            memcpy(paths[i], path, sizeof(path));
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    cr_assert_fail("too many names");
    return NULL;
}

struct sluice_tls_config client_config(void)
{
    return (struct sluice_tls_config){.role = SLUICE_TLS_CLIENT, .ca = certs("root.crt")};
}

struct sluice_tls_config server_config(void)
{
    return (struct sluice_tls_config){
        .role = SLUICE_TLS_SERVER, .cert = certs("good.pem"), .key = certs("good.key")};
}

struct sluice_tls_context *must_context(const struct sluice_tls_config *cfg)
{
    struct sluice_tls_context *ctx;
    struct sluice_tls_error err;
    cr_assert_eq(tls_provider()->context_create(&ctx, cfg, &err), 0, "%s", err.text);
    return ctx;
}

void end_open_with(struct end *e, struct sluice_tls_context *ctx, const char *host)
{
    struct sluice_tls_error err;
    int fd = sluice_memory_create("tls-test", PAIR_RING_BYTES);
    cr_assert_geq(fd, 0);
    *e = (struct end){.tls = tls_provider(), .step = SIZE_MAX};
    e->ring = sluice_memory_map_twice(fd, 0, PAIR_RING_BYTES, true);
    close(fd);
    e->wire = malloc(PAIR_WIRE_BYTES);
    cr_assert(e->ring && e->wire);
    cr_assert_eq(e->tls->session_create(&e->s, ctx, host, e->ring, PAIR_RING_BYTES, &err), 0, "%s",
                 err.text);
}

void end_open(struct end *e, const struct sluice_tls_config *cfg, const char *host)
{
    struct sluice_tls_context *ctx = must_context(cfg);
    end_open_with(e, ctx, host);
    tls_provider()->context_destroy(ctx); /* the session holds it */
}

void end_close(struct end *e)
{
    if (e->tls)
        e->tls->session_destroy(e->s);
    sluice_memory_unmap(e->ring, 2ull * PAIR_RING_BYTES);
    free(e->wire);
    *e = (struct end){.s = NULL};
}

void end_arrived(struct end *e, const void *data, size_t bytes)
{
    if (e->head == e->tail)
        e->head = e->tail = 0;
    cr_assert_leq(bytes, PAIR_WIRE_BYTES - e->tail);
    memcpy(e->wire + e->tail, data, bytes);
    e->tail += bytes;
}

size_t end_flush(struct end *from, struct end *to)
{
    const uint8_t *data;
    size_t bytes = sluice_tls_output(from->s, &data);
    if (to && bytes)
        end_arrived(to, data, bytes);
    sluice_tls_sent(from->s, bytes);
    return bytes;
}

static struct sluice_tls_input window(const struct end *e)
{
    size_t bytes = e->tail - e->head;
    return (struct sluice_tls_input){.data = e->wire + e->head,
                                     .bytes = bytes < e->step ? bytes : e->step};
}

static size_t took(struct end *e, const struct sluice_tls_input *in)
{
    size_t bytes = (size_t)(in->data - (e->wire + e->head));
    e->head += bytes;
    return bytes;
}

int end_handshake(struct end *e)
{
    struct sluice_tls_input in = window(e);
    int rc = e->tls->handshake(e->s, &in);
    took(e, &in);
    return rc;
}

ssize_t end_read(struct end *e, void *to, size_t bytes)
{
    size_t got = 0;
    while (got < bytes) {
        struct sluice_tls_input in = window(e);
        ssize_t n = e->tls->read(e->s, &in, (uint8_t *)to + got, bytes - got);
        size_t taken = took(e, &in);
        if (n > 0)
            got += (size_t)n;
        else if (n != -EAGAIN || (taken == 0 && in.bytes == 0) || e->head == e->tail)
            return got ? (ssize_t)got : n;
    }
    return (ssize_t)got;
}

void end_write(struct end *e, struct end *to, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        ssize_t n = e->tls->write(e->s, at, bytes);
        cr_assert_gt(n, 0, "%zd %s", n, e->s->error.text);
        at += n;
        bytes -= (size_t)n;
        end_flush(e, to);
    }
}

void pair_open(struct pair *p, const struct sluice_tls_config *client,
               const struct sluice_tls_config *server)
{
    end_open(&p->client, client, PAIR_HOST);
    end_open(&p->server, server, NULL);
}

void pair_close(struct pair *p)
{
    end_close(&p->client);
    end_close(&p->server);
}

static bool is_open(const struct end *e)
{
    return e->s->state == SLUICE_TLS_OPEN;
}

static bool handshake_step(struct end *e, struct end *peer)
{
    size_t before = e->head;
    if (e->s->state != SLUICE_TLS_HANDSHAKE)
        return end_flush(e, peer) > 0;
    end_handshake(e);
    return end_flush(e, peer) > 0 || e->head != before || is_open(e);
}

bool pair_handshake(struct pair *p)
{
    bool moved = true;
    while (moved && !(is_open(&p->client) && is_open(&p->server))) {
        moved = handshake_step(&p->client, &p->server);
        moved |= handshake_step(&p->server, &p->client);
    }
    end_flush(&p->client, &p->server);
    end_flush(&p->server, &p->client);
    return is_open(&p->client) && is_open(&p->server);
}

void pair_open_default(struct pair *p)
{
    struct sluice_tls_config client = client_config(), server = server_config();
    pair_open(p, &client, &server);
    cr_assert(pair_handshake(p), "%s / %s", p->client.s->error.text, p->server.s->error.text);
}

static bool passes(struct end *from, struct end *to, const char *text)
{
    char got[64] = "";
    ssize_t bytes = (ssize_t)strlen(text);
    end_write(from, to, text, (size_t)bytes);
    return end_read(to, got, sizeof(got)) == bytes && strcmp(got, text) == 0;
}

bool pair_echoes(struct pair *p)
{
    return passes(&p->client, &p->server, "there") && passes(&p->server, &p->client, "and back");
}

unsigned count_records(const uint8_t *data, size_t bytes)
{
    unsigned n = 0;
    for (; bytes >= 5; n++) {
        size_t record = 5u + (size_t)(data[3] << 8 | data[4]);
        cr_assert_leq(record, bytes);
        data += record;
        bytes -= record;
    }
    return n;
}

void fill(uint8_t *data, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
}
