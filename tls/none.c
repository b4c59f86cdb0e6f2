/*
 * The provider of a build without TLS: it refuses, so that its callers need not know.
 */
#include "tls/provider.h"

#include <errno.h>

static const char *version(void)
{
    return "none";
}

static int context_create(struct sluice_tls_context **out, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err)
{
    (void)cfg;
    *out = NULL;
    *err = (struct sluice_tls_error){.alert = -1};
    sluice_tls_error_set(err, SLUICE_REASON_UNSUPPORTED, "no TLS: the provider is \"none\"");
    return -ENOTSUP;
}

static void context_destroy(struct sluice_tls_context *ctx)
{
    (void)ctx;
}

/* Without a context there is no session, and nobody to call the rest. */
const struct sluice_tls_provider sluice_tls_none = {
    .name = "none",
    .version = version,
    .context_create = context_create,
    .context_destroy = context_destroy,
};
