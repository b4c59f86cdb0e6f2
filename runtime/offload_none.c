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

int sluice_offload_prepare(struct sluice_secure *s, struct sluice_life *c)
{
    (void)c;
    s->by_record = s->in_kernel = false;
    s->answer_due = s->notify_due = s->refusal_due = false;
    s->alert_due = -1;
    snprintf(s->user_space, sizeof(s->user_space), "this build has no kernel TLS");
    if (s->ktls != SLUICE_KTLS_REQUIRE)
        return 0;
    s->error = (struct sluice_tls_error){.reason = SLUICE_REASON_KTLS, .alert = -1};
    snprintf(s->error.text, sizeof(s->error.text), "no kernel TLS: %s", s->user_space);
    return -ENOTSUP;
}

int sluice_offload_start(struct sluice_secure *s, struct sluice_life *c)
{
    (void)s, (void)c;
    return -ENOTSUP;
}

int sluice_offload_control(struct sluice_secure *s, struct sluice_life *c)
{
    (void)s, (void)c;
    return -EPROTO;
}

bool sluice_offload_verdict(struct sluice_secure *s, int os_error)
{
    (void)s, (void)os_error;
    return false;
}

void sluice_offload_sent(struct sluice_secure *s, size_t bytes, bool between)
{
    (void)s, (void)bytes, (void)between;
}

int sluice_offload_say(struct sluice_secure *s, struct sluice_life *c)
{
    (void)s, (void)c;
    return 0;
}
