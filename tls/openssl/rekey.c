/*
 * New keys for a TLS 1.3 session. The one file with API that LibreSSL lacks: there, it says so.
 */
#include "tls/openssl/openssl.h"

#include <errno.h>
#include <openssl/err.h>

int openssl_rekey(struct sluice_tls_session *s, bool ask)
{
#ifdef LIBRESSL_VERSION_NUMBER
    (void)s, (void)ask;
    return -ENOTSUP;
#else
    struct openssl_session *o = (struct openssl_session *)s;
    if (SSL_key_update(o->ssl, ask ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED)) {
        s->records_out = 0;
        return 0;
    }
    ERR_clear_error();
    return -ENOTSUP;
#endif
}
