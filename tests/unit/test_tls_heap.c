/*
 * No heap memory of ours once a session is open. The linker puts __wrap_malloc() and its like where
 * our own objects ask for memory (see tests/meson.build); the libraries' calls are counted by their
 * hooks.
 */
#include "tests/support/memcheck.h"
#include "tests/tls/heap.h"
#include "tests/tls/pair.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);

static unsigned ours, libraries, records;
static unsigned fails_in; /* so many of the libraries' allocations; 0: none does */

void *__wrap_malloc(size_t bytes)
{
    ours++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    ours++;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    ours++;
    return __real_realloc(old, bytes);
}

char *__wrap_strdup(const char *text)
{
    ours++;
    return __real_strdup(text);
}

/* Plaintext must not be found in memory that goes back to the heap. */
static const uint8_t mark[16] = "plaintext: mark";
static bool marked;
static unsigned left_behind;

void *heap_take(void *old, size_t bytes)
{
    libraries++;
    if (fails_in > 0 && --fails_in == 0)
        return NULL;
    return __real_realloc(old, bytes);
}

void heap_give(void *old)
{
    if (old && marked && memmem(old, malloc_usable_size(old), mark, sizeof(mark)))
        left_behind++;
    free(old);
}

static void everything(struct pair *p)
{
    static uint8_t data[40000], got[40000];
    for (size_t bytes = 1; bytes < sizeof(data); bytes += bytes / 2 + 1) {
        end_write(&p->server, &p->client, data, bytes);
        cr_assert_eq(end_read(&p->client, got, sizeof(got)), (ssize_t)bytes);
        records += (unsigned)(bytes + SLUICE_TLS_RECORD_MAX - 1) / SLUICE_TLS_RECORD_MAX;
        end_write(&p->client, &p->server, data, bytes);
        cr_assert_eq(end_read(&p->server, got, sizeof(got)), (ssize_t)bytes);
    }
}

Test(tls_heap, nothing_of_ours_after_open)
{
    for (int version = 0; version < 2; version++) {
        struct sluice_tls_config c = client_config(), s = server_config();
        struct pair p;
        c.min = s.min = version ? SLUICE_TLS_MIN_1_3 : SLUICE_TLS_MIN_1_2;
        c.ciphers = version ? NULL : "ECDHE-ECDSA-AES128-GCM-SHA256";
        s.tickets = true;
        ours = libraries = 0;
        pair_open(&p, &c, &s);
        cr_assert(pair_handshake(&p));
        cr_expect_gt(ours, 0u); /* it does count */
        cr_expect_gt(libraries, 0u);
        everything(&p);
        ours = libraries = records = 0;
        for (int i = 0; i < 10; i++)
            everything(&p);
        cr_log_info("%u records each way, %u allocations of the library's own", records, libraries);
        p.server.tls->rekey(p.server.s, true);
        everything(&p);
        p.client.tls->close(p.client.s);
        end_flush(&p.client, &p.server);
        p.server.wire[p.server.head] ^= 1; /* a failure as well */
        char byte;
        cr_expect_eq(end_read(&p.server, &byte, 1), -EPROTO);
        cr_expect_eq(ours, 0u);
        pair_close(&p);
    }
}

/* Without memory there is no session, or one that works. */
Test(tls_heap, each_allocation_of_a_session_fails)
{
    struct sluice_tls_config c = client_config(), s = server_config();
    struct sluice_tls_context *ctx = must_context(&c);
    bool all = false;
    for (unsigned n = 1; !all; n++) {
        struct sluice_tls_error err;
        struct pair p;
        pair_open(&p, &c, &s);
        p.client.tls->session_destroy(p.client.s);
        fails_in = n;
        int rc = p.client.tls->session_create(&p.client.s, ctx, PAIR_HOST, p.client.ring,
                                              PAIR_RING_BYTES, &err);
        all = fails_in > 0;
        fails_in = 0;
        if (rc == 0)
            cr_expect(pair_handshake(&p), "allocation %u", n);
        else
            cr_expect_lt(rc, 0, "allocation %u", n);
        pair_close(&p);
    }
    tls_provider()->context_destroy(ctx);
}

Test(tls_heap, plaintext_is_wiped_with_its_session)
{
    struct pair p;
    uint8_t data[8 * sizeof(mark)], got[sizeof(data)];
    not_under_valgrind("minds that what is freed is searched");
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = mark[i % sizeof(mark)];
    pair_open_default(&p);
    end_write(&p.server, &p.client, data, sizeof(data));
    cr_assert_eq(end_read(&p.client, got, 1), 1); /* the rest is still inside */
    end_write(&p.client, &p.server, data, sizeof(data));
    cr_assert_eq(end_read(&p.server, got, sizeof(got)), (ssize_t)sizeof(got));
    marked = true;
    pair_close(&p);
    cr_expect_eq(left_behind, 0u);
}
