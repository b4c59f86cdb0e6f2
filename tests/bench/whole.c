/*
 * The whole engine in one call: see whole.h.
 */
#include "whole.h"
#include "tcp.h"

#include <stdio.h>
#include <string.h>

struct sluice_loop *engine_loop;

uint64_t engine_take(struct sluice_client *c)
{
    const struct sluice_meta *entries;
    uint64_t bytes = 0;
    int64_t count = sluice_inbox_peek(c, &entries, 64);
    BENCH_CHECK(count >= 0);
    for (int64_t i = 0; i < count; i++)
        bytes += entries[i].decrypted_len;
    BENCH_CHECK(sluice_inbox_release(c, (uint32_t)count) == 0);
    return bytes;
}

void engine_run(const struct engine_config *cfg, struct engine_end *end)
{
    char why[160], url[64];
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    const struct sluice_loop_config loop_cfg = {.backend = cfg->backend, .idle = cfg->idle};
    const struct sluice_channel_config channel_cfg = {.name = cfg->name,
                                                      .inbox_bytes = cfg->inbox_bytes,
                                                      .metadata_entries = cfg->metadata_entries};
    const struct sluice_transport_config transport_cfg = {
        .receive = cfg->receive, .tls = cfg->tls, .ktls = cfg->ktls, .model = cfg->model};
    struct sluice_client *client = NULL;
    pthread_t upstream;

    if (sluice_loop_create(&engine_loop, &loop_cfg, why, sizeof(why)))
        bench_fail("%s", why);
    BENCH_CHECK(sluice_channel_create(&channel, &channel_cfg) == 0);
    BENCH_CHECK(sluice_transport_create(&transport, engine_loop, channel, &transport_cfg,
                                        &cfg->events, cfg->user) == 0);
    if (cfg->attach)
        BENCH_CHECK(sluice_transport_upstream(transport) != NULL);
    if (cfg->upstream) {
        BENCH_CHECK(sluice_attach_local(&client, channel, SLUICE_UPSTREAM) == 0);
        BENCH_CHECK(pthread_create(&upstream, NULL, cfg->upstream, client) == 0);
    }
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u", cfg->tls ? "tls" : "tcp", cfg->port);
    BENCH_CHECK(sluice_transport_connect(transport, url) == 0);
    BENCH_CHECK(sluice_loop_run(engine_loop) == 0);
    if (cfg->upstream)
        bench_join(upstream);
    sluice_detach(client);

    sluice_channel_state(channel, &end->state);
    uint64_t last = end->state.close_count - 1;
    if (end->state.close_count > 0)
        end->record = end->state.closes[last % SLUICE_CLOSE_RECORDS];
    sluice_transport_destroy(transport);
    sluice_channel_destroy(channel);
    sluice_loop_destroy(engine_loop);
    engine_loop = NULL;
}
