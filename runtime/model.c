/*
 * The choice of a model, and the threads that it takes.
 */
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NEEDS_USER_SPACE "three-thread is for TLS in user space"

const char *sluice_model_name(enum sluice_model model)
{
    static const char *const names[] = {[SLUICE_MODEL_SINGLE] = "single",
                                        [SLUICE_MODEL_AUTO] = "auto",
                                        [SLUICE_MODEL_TWO_THREAD] = "two-thread",
                                        [SLUICE_MODEL_THREE_THREAD] = "three-thread"};
    return names[model];
}

static uint32_t threads_of(enum sluice_model model)
{
    return model == SLUICE_MODEL_THREE_THREAD ? 3 : model == SLUICE_MODEL_TWO_THREAD ? 2 : 1;
}

void sluice_crew_init(struct sluice_crew *crew, struct sluice_loop *home, enum sluice_model wanted)
{
    crew->wanted = wanted;
    crew->runs = SLUICE_MODEL_SINGLE;
    crew->rx.home = crew->tx.home = home;
}

static void place(struct sluice_thread *t, uint32_t core)
{
    memset(&t->cores, 0, sizeof(t->cores));
    if (core)
        t->cores.bits[(core - 1) / 64] |= 1ull << (core - 1) % 64;
    else
        sluice_system_cores(&t->cores);
}

static int refuse(struct sluice_crew *crew, const char *what, const char *remedy)
{
    snprintf(crew->reason, sizeof(crew->reason), "--model %s: %s: take %s",
             sluice_model_name(crew->wanted), what, remedy);
    return -ENOTSUP;
}

static int refuse_two_with_tls(struct sluice_crew *crew)
{
    return refuse(crew, "TLS in user space does not part receiving from sending",
                  "three-thread or single");
}

int sluice_crew_place(struct sluice_crew *crew, uint32_t receive_core, uint32_t send_core)
{
    struct sluice_cores own;
    if ((receive_core || send_core) && sluice_system_cores(&own)) {
        snprintf(crew->reason, sizeof(crew->reason), "--core: threads have no cores in this build");
        return -ENOTSUP;
    }
    place(&crew->rx, receive_core);
    place(&crew->tx, send_core);
    return 0;
}

int sluice_crew_check(struct sluice_crew *crew, bool tls, enum sluice_ktls ktls, bool in_line)
{
    bool two = crew->wanted == SLUICE_MODEL_TWO_THREAD;
    bool three = crew->wanted == SLUICE_MODEL_THREE_THREAD;
    if (two && in_line)
        return refuse(crew, "an upstream in line has its inbox on the same thread", "single");
    if (two && tls && ktls == SLUICE_KTLS_OFF)
        return refuse_two_with_tls(crew);
    if (three && !tls)
        return refuse(crew, NEEDS_USER_SPACE, "two-thread or single");
    if (three && ktls == SLUICE_KTLS_REQUIRE)
        return refuse(crew, NEEDS_USER_SPACE, "--ktls off, or two-thread or single");
    return 0;
}

enum sluice_model sluice_model_auto(const struct sluice_model_facts *facts, bool is_uring)
{
    if (facts->in_line)
        return SLUICE_MODEL_SINGLE;
    if (facts->tls && !facts->in_kernel)
        return SLUICE_MODEL_THREE_THREAD;
    return is_uring ? SLUICE_MODEL_SINGLE : SLUICE_MODEL_TWO_THREAD;
}

static uint32_t count_cores(const struct sluice_crew *crew)
{
    struct sluice_cores own;
    uint32_t count = 0;
    if (sluice_system_cores(&own))
        return UINT32_MAX; /* not known */
    for (uint32_t i = 0; i < SLUICE_CORES_MAX / 64; i++)
        count += (uint32_t)__builtin_popcountll(own.bits[i] | crew->rx.cores.bits[i] |
                                                crew->tx.cores.bits[i]);
    return count;
}

static enum sluice_model decide(const struct sluice_crew *crew,
                                const struct sluice_model_facts *facts, const char **why)
{
    const struct sluice_loop *home = crew->rx.home;
    *why = "asked for";
    if (crew->wanted != SLUICE_MODEL_AUTO)
        return crew->wanted;
    enum sluice_model model = sluice_model_auto(facts, home->be->ops == &sluice_backend_uring);
    *why = facts->in_line ? "the upstream is in line" : NULL;
    if (home->idle == SLUICE_IDLE_BUSY && count_cores(crew) < threads_of(model)) {
        *why = "busy, and fewer cores than threads";
        model = SLUICE_MODEL_SINGLE;
    }
    return model;
}

static void keep_reason(struct sluice_crew *crew, const struct sluice_model_facts *facts,
                        const char *why)
{
    const char *what = !facts->tls        ? "plain TCP"
                       : facts->in_kernel ? "TLS in the kernel,"
                                          : "TLS in user space,";
    bool in_line = crew->runs == SLUICE_MODEL_SINGLE && facts->tls && !facts->in_kernel;
    const struct sluice_loop *of_threads = crew->rx.loop;
    int n = snprintf(crew->reason, sizeof(crew->reason), "%s%s on %s", what,
                     in_line ? " in line," : "", sluice_loop_backend(crew->rx.home));
    if (crew->runs != SLUICE_MODEL_SINGLE)
        n += snprintf(crew->reason + n, sizeof(crew->reason) - (size_t)n, ", %s on %s",
                      crew->runs == SLUICE_MODEL_TWO_THREAD ? "receiving" : "sockets",
                      sluice_loop_backend(of_threads));
    if (why)
        snprintf(crew->reason + n, sizeof(crew->reason) - (size_t)n, "; %s", why);
}

/* A loop that broke is no reason to do without. */
static int start(struct sluice_thread *t, const char *name, char *why, size_t why_bytes)
{
    if (t->loop && t->error)
        sluice_thread_stop(t);
    return t->loop ? 0 : sluice_thread_start(t, name, why, why_bytes);
}

int sluice_crew_choose(struct sluice_crew *crew, const struct sluice_model_facts *facts)
{
    const char *why;
    int err = 0;
    enum sluice_model model = decide(crew, facts, &why);
    if (model == SLUICE_MODEL_TWO_THREAD && facts->tls && !facts->in_kernel)
        return refuse_two_with_tls(crew);
    crew->runs = SLUICE_MODEL_SINGLE;
    if (model != SLUICE_MODEL_SINGLE)
        err = start(&crew->rx, "sluice-rx", crew->reason, sizeof(crew->reason));
    if (!err && model == SLUICE_MODEL_THREE_THREAD)
        err = start(&crew->tx, "sluice-tx", crew->reason, sizeof(crew->reason));
    if (err)
        return err;
    crew->runs = model;
    keep_reason(crew, facts, why);
    return 0;
}

void sluice_crew_stop(struct sluice_crew *crew)
{
    sluice_thread_stop(&crew->rx);
    sluice_thread_stop(&crew->tx);
}
