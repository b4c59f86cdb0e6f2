/*
 * No heap memory of ours per message, plain or TLS, on every backend: the linker puts
 * __wrap_malloc() and its like where our own objects ask for memory (see tests/meson.build).
 */
#include "tests/support/tls_ends.h"

static const struct sluice_loop_config small = {.conns_max = 8, .idle = SLUICE_IDLE_BUSY};

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);

static unsigned ours;

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

static size_t echoed;

static void count(struct sluice_conn *c, struct sluice_buf *buf, void *user)
{
    (void)c, (void)user;
    echoed += buf->bytes;
}

static const struct sluice_conn_events counting = {.on_data = count};

static void exchange(struct conns_world *w, int messages)
{
    static const uint8_t message[1000];
    for (int i = 0; i < messages; i++) {
        size_t want = echoed + sizeof(message);
        cr_assert_eq(sluice_conn_write(w->client.conn, message, sizeof(message)), 0);
        TURN_UNTIL(w, echoed == want);
    }
}

static void expect_none(struct conns_world *w)
{
    world_pair(w);
    sluice_conn_set_events(w->server.conn, &heard_echoing);
    sluice_conn_set_events(w->client.conn, &counting);
    unsigned before = ours;
    cr_expect_gt(before, 0, "they are counted");
    exchange(w, 500);
    cr_expect_eq(ours, before);
}

EACH_BACKEND(conn_heap, none_for_a_message)
{
    struct conns_world w;
    world_open(&w, on->name, &small);
    expect_none(&w);
    world_close(&w);
}

EACH_BACKEND(conn_heap, none_for_a_record)
{
    struct conns_world w;
    tls_world_open(&w, on->name, &small);
    expect_none(&w);
    tls_world_close(&w);
}
