/*
 * A connection in words, for the state block: peer, backend, model, TLS, and the reason of each.
 */
#ifndef SLUICE_DESCRIBE_H
#define SLUICE_DESCRIBE_H

#include "life.h"
#include "model.h"
#include "secure.h"
#include "rings/engine.h"

/* It is about to connect, or nothing is yet. */
void sluice_describe_attempt(struct sluice_channel *ch, const struct sluice_life *c,
                             const struct sluice_crew *crew);

/* It is open, and what it is was agreed. */
void sluice_describe_open(struct sluice_channel *ch, const struct sluice_life *c,
                          const struct sluice_crew *crew, const struct sluice_secure *s);

void sluice_describe_tls(struct sluice_channel *ch, const char *what, const char *why);

#endif
