/*
 * A connection in words: see describe.h.
 */
#include "describe.h"
#include "dial.h"

#include <stdio.h>
#include <string.h>

void sluice_describe_tls(struct sluice_channel *ch, const char *what, const char *why)
{
    struct state_text *text = &ch->text;
    snprintf(text->tls, sizeof(text->tls), "%s", what);
    snprintf(text->tls_reason, sizeof(text->tls_reason), "%s", why);
    sluice_channel_publish_text(ch);
}

/* "tcp://host:port", and the address behind it when the host is a name. */
static void describe_peer(struct state_text *text, const struct sluice_life *c)
{
    const struct sluice_url *url = &c->dial->url;
    char addr[80];
    sluice_dial_peer(c->dial, addr, sizeof(addr));
    bool is_name = strstr(addr, url->host) == NULL;
    snprintf(text->peer, sizeof(text->peer), "%.3s://%.60s:%.5s%s%.50s%s", url->scheme, url->host,
             url->port, is_name ? " (" : "", is_name ? addr : "", is_name ? ")" : "");
}

static void describe_model(struct state_text *text, enum sluice_model model, const char *reason)
{
    snprintf(text->model, sizeof(text->model), "%s", sluice_model_name(model));
    snprintf(text->model_reason, sizeof(text->model_reason), "%s", reason);
}

void sluice_describe_attempt(struct sluice_channel *ch, const struct sluice_life *c,
                             const struct sluice_crew *crew)
{
    struct state_text *text = &ch->text;
    snprintf(text->backend, sizeof(text->backend), "%s", sluice_loop_backend(c->loop));
    snprintf(text->backend_reason, sizeof(text->backend_reason), "%s",
             sluice_loop_backend_reason(c->loop));
    describe_model(text, crew->wanted, "decided when the connection is open");
    sluice_describe_tls(ch, "none", c->is_tls ? "not agreed yet" : "tcp:// asks for none");
}

void sluice_describe_open(struct sluice_channel *ch, const struct sluice_life *c,
                          const struct sluice_crew *crew, const struct sluice_secure *s)
{
    struct state_text *text = &ch->text;
    if (c->is_tls)
        sluice_secure_describe(s, text->tls, sizeof(text->tls), text->tls_reason,
                               sizeof(text->tls_reason));
    describe_model(text, crew->runs, crew->reason);
    describe_peer(text, c);
    sluice_channel_publish_text(ch);
}
