/*
 * The upstream of the differential test: a client of the channel on a thread of its own.
 */
#ifndef MODELS_UPSTREAM_H
#define MODELS_UPSTREAM_H

#include "models.h"
#include "channel.h"

#define EVENTS_MAX 8

struct upstream {
    struct sluice_client *client;
    const struct script *script;
    pthread_t thread;
    uint64_t seed;
    uint64_t taken_bytes;
    uint32_t messages, pongs;
    bool finished; /* said its end */
    bool over;     /* DISCONNECTED came */
    uint8_t events[EVENTS_MAX];
    uint32_t event_count;
    struct finding finding;
};

void upstream_start(struct upstream *u, const struct script *script, struct sluice_client *client);
void upstream_join(struct upstream *u);

/* ---- steps, for scripts */
void upstream_take(struct upstream *u, uint64_t bytes); /* until so many are here, all in all */
void upstream_take_slowly(struct upstream *u, uint64_t bytes);
void upstream_take_to_eof(struct upstream *u);
void upstream_take_to_end(struct upstream *u); /* an EOF is answered with our own */
void upstream_send(struct upstream *u, uint32_t bytes);
void upstream_pong(struct upstream *u);
void upstream_finish(struct upstream *u); /* a WS_CLOSE of no bytes */
void upstream_lie(struct upstream *u);    /* its heads are nonsense from now on */
void upstream_sleep(uint32_t ms);

#endif
