/*
 * The two ends of ends.h with TLS between them, by the provider that TLS_PROVIDER names.
 */
#ifndef SLUICE_TESTS_TLS_ENDS_H
#define SLUICE_TESTS_TLS_ENDS_H

#include "tests/support/ends.h"
#include "tests/tls/pair.h"

static inline struct sluice_tls *must_tls(const struct sluice_tls_config *cfg)
{
    struct sluice_tls *tls;
    char why[256] = "";
    cr_assert_eq(sluice_tls_create(&tls, cfg, getenv("TLS_PROVIDER"), why, sizeof(why)), 0, "%s",
                 why);
    return tls;
}

static inline void tls_world_open(struct conns_world *w, const char *backend,
                                  const struct sluice_loop_config *cfg)
{
    struct sluice_tls_config client = client_config(), server = server_config();
    client.verify_name = PAIR_HOST;
    *w = (struct conns_world){.loop = world_loop(backend, cfg),
                              .client_tls = must_tls(&client),
                              .server_tls = must_tls(&server)};
    world_listen(w);
}

static inline void tls_world_close(struct conns_world *w)
{
    world_close(w);
    sluice_tls_destroy(w->client_tls);
    sluice_tls_destroy(w->server_tls);
}

#endif
