/*
 * A build without kernel TLS: see offload.h.
 */
#include "offload.h"

#include <errno.h>
#include <stdio.h>

int sluice_offload_probe(void)
{
    return -ENOSYS;
}

static const char not_built[] = "this build has no kernel TLS";

const char *sluice_offload_lacks(const struct sluice_tls_provider *provider)
{
    (void)provider;
    return not_built;
}

int sluice_offload_prepare(struct sluice_offload *o, struct sluice_life *c,
                           struct sluice_tls_session *session, enum sluice_ktls wanted,
                           const char *refusal)
{
    (void)c, (void)refusal;
    *o = (struct sluice_offload){.session = session, .alert_due = -1};
    snprintf(o->where, sizeof(o->where), "user space (%s)", not_built);
    if (wanted != SLUICE_KTLS_REQUIRE)
        return 0;
    session->error = (struct sluice_tls_error){.reason = SLUICE_REASON_KTLS, .alert = -1};
    snprintf(session->error.text, sizeof(session->error.text), "no kernel TLS: %s", not_built);
    session->state = SLUICE_TLS_FAILED;
    return -EPROTO;
}

int sluice_offload_start(struct sluice_offload *o, struct sluice_life *c)
{
    (void)o, (void)c;
    return -ENOTSUP;
}

int sluice_offload_control(struct sluice_offload *o, struct sluice_life *c)
{
    (void)o, (void)c;
    return -EPROTO;
}

bool sluice_offload_verdict(struct sluice_offload *o, int os_error)
{
    (void)o, (void)os_error;
    return false;
}

void sluice_offload_sent(struct sluice_offload *o, size_t bytes, bool between)
{
    (void)o, (void)bytes, (void)between;
}

int sluice_offload_say(struct sluice_offload *o, struct sluice_life *c, bool last)
{
    (void)o, (void)c, (void)last;
    return 0;
}
