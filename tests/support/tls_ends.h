/*
 * The two ends of ends.h with TLS between them, by the provider that TLS_PROVIDER names; the
 * records of each end its own or the kernel's.
 */
#ifndef SLUICE_TESTS_TLS_ENDS_H
#define SLUICE_TESTS_TLS_ENDS_H

#include "tests/support/ends.h"
#include "tests/tls/pair.h"

#define SUITE_OF_1_2 "ECDHE-ECDSA-AES128-GCM-SHA256"

static inline struct sluice_tls *must_tls(const struct sluice_tls_config *cfg)
{
    struct sluice_tls *tls;
    char why[256] = "";
    cr_assert_eq(sluice_tls_create(&tls, cfg, getenv("TLS_PROVIDER"), why, sizeof(why)), 0, "%s",
                 why);
    return tls;
}

/* One way to have TLS. */
struct on_tls {
    char backend[16];
    char version[8]; /* "TLSv1.2" */
    enum sluice_ktls client, server;
};

static inline bool in_kernel(enum sluice_ktls ktls)
{
    return ktls == SLUICE_KTLS_REQUIRE;
}

static inline void tls_world_open_as(struct conns_world *w, const struct on_tls *on,
                                     const struct sluice_loop_config *cfg)
{
    struct sluice_tls_config client = client_config(), server = server_config();
    client.verify_name = PAIR_HOST;
    server.tickets = true;
    if (strcmp(on->version, "TLSv1.2") == 0)
        client.ciphers = SUITE_OF_1_2;
    *w = (struct conns_world){.loop = world_loop(on->backend, cfg),
                              .client_tls = must_tls(&client),
                              .server_tls = must_tls(&server),
                              .client_ktls = on->client,
                              .server_ktls = on->server};
    world_listen(w);
}

static inline void tls_world_open(struct conns_world *w, const char *backend,
                                  const struct sluice_loop_config *cfg)
{
    struct on_tls on = {.version = "TLSv1.3"};
    snprintf(on.backend, sizeof(on.backend), "%s", backend);
    tls_world_open_as(w, &on, cfg);
}

static inline void tls_world_close(struct conns_world *w)
{
    world_close(w);
    sluice_tls_destroy(w->client_tls);
    sluice_tls_destroy(w->server_tls);
}

/* ---- each test in each way ---- */

/* Where the kernel cannot it is left to the library to find that out; where it can, either end
 * meets one in user space, too. */
static const struct tls_way {
    enum sluice_ktls client, server;
} ways_without[] = {{SLUICE_KTLS_AUTO, SLUICE_KTLS_AUTO}},
  ways_with[] = {{SLUICE_KTLS_REQUIRE, SLUICE_KTLS_REQUIRE},
                 {SLUICE_KTLS_REQUIRE, SLUICE_KTLS_OFF},
                 {SLUICE_KTLS_OFF, SLUICE_KTLS_REQUIRE}};

static inline bool kernel_can(const char *backend)
{
    return strcmp(backend, "sim") != 0 && !sluice_offload_lacks(tls_provider());
}

static inline size_t each_way(struct on_tls *out)
{
    static const char *const backends[] = {"uring", "ev:epoll", "sim"};
    static const char *const versions[] = {"TLSv1.2", "TLSv1.3"};
    size_t count = 0;
    for (size_t b = 0; b < 3; b++)
        for (size_t v = 0; v < 2; v++) {
            bool can = kernel_can(backends[b]);
            for (size_t i = 0; i < (can ? 3 : 1); i++) {
                const struct tls_way *way = can ? &ways_with[i] : &ways_without[i];
                struct on_tls *on = &out[count++];
                *on = (struct on_tls){.client = way->client, .server = way->server};
                snprintf(on->backend, sizeof(on->backend), "%s", backends[b]);
                snprintf(on->version, sizeof(on->version), "%s", versions[v]);
            }
        }
    return count;
}

#define EACH_TLS(suite, test)                                  \
    ParameterizedTestParameters(suite, test)                   \
    {                                                          \
        static struct on_tls all[3 * 2 * 3];                   \
        size_t count = each_way(all);                          \
        return cr_make_param_array(struct on_tls, all, count); \
    }                                                          \
    ParameterizedTest(struct on_tls *on, suite, test)

#endif
