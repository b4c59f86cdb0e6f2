/*
 * The models: which thread runs which path. Single: one loop has all. Two threads: receiving is on
 * a thread of its own. Three: receiving and sending are, and TLS stays with the loop that owns the
 * transport, which alone touches the session.
 */
#ifndef SLUICE_MODEL_H
#define SLUICE_MODEL_H

#include "sluice.h"
#include "thread.h"

/* What a connection turned out to be. */
struct sluice_model_facts {
    bool tls;       /* in any form */
    bool in_kernel; /* the kernel encrypts and decrypts */
    bool in_line;   /* the upstream runs on the transport's loop */
};

struct sluice_crew {
    enum sluice_model wanted, runs;
    struct sluice_thread rx, tx;
    char reason[128]; /* why this one runs, or why none does */
};

void sluice_crew_init(struct sluice_crew *crew, struct sluice_loop *home, enum sluice_model wanted);

/* Before a connection: threads without a core of their own (core + 1; 0: none) get those that the
 * caller's thread has now. 0, or -ENOTSUP and the reason. */
int sluice_crew_place(struct sluice_crew *crew, uint32_t receive_core, uint32_t send_core);

/* What is known to fail before anything is tried: 0, or -ENOTSUP and the reason. */
int sluice_crew_check(struct sluice_crew *crew, bool tls, enum sluice_ktls ktls, bool in_line);

/* The connection is there: decide, and start what threads it takes. 0, -ENOTSUP or another negative
 * errno, and the reason. */
int sluice_crew_choose(struct sluice_crew *crew, const struct sluice_model_facts *facts);

void sluice_crew_stop(struct sluice_crew *crew);

/* What auto takes, were there cores enough. */
enum sluice_model sluice_model_auto(const struct sluice_model_facts *facts, bool is_uring);

const char *sluice_model_name(enum sluice_model model);

#endif
