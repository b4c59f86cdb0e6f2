/*
 * What the options want of TLS, as the library takes it.
 */
#include "option_tls.h"

#include "fail.h"

#include <stdlib.h>
#include <string.h>

int option_tls(struct sluice_tls_config *out, const struct options *o, const char *url)
{
    const char *keylog = o->keylog ? getenv("SSLKEYLOGFILE") : NULL;
    if (o->keylog && !keylog)
        return fail_remedy(SLUICE_REASON_USAGE, "name a file in SSLKEYLOGFILE", "--keylog");
    *out = (struct sluice_tls_config){.min = strcmp(o->tls_min, "1.3") == 0 ? SLUICE_TLS_MIN_1_3
                                                                            : SLUICE_TLS_MIN_1_2,
                                      .ca = o->ca,
                                      .crl = o->crl,
                                      .cert = o->cert,
                                      .key = o->key,
                                      .ciphers = o->ciphers,
                                      .alpn = o->alpn,
                                      .keylog = keylog,
                                      .verify_name = o->verify_name,
                                      .sni = o->sni,
                                      .pin_sha256 = o->pin_sha256,
                                      .no_verify = o->tls_no_verify,
                                      .resume = o->resume};
    if (o->tls_no_verify && strncmp(url, "tls://", 6) == 0)
        sluice_log(SLUICE_LOG_WARN, "%s: --tls-no-verify: nobody checks who the peer is", url);
    return 0;
}
