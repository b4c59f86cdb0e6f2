/*
 * From OpenSSL's error queue and alerts to a reason and one line of text. What is wrong with a
 * certificate is verify.c's.
 */
#include "tls/openssl/openssl.h"

#include <errno.h>
#include <openssl/err.h>

/* The oldest entry is the cause, later ones say what broke because of it. */
static const char *words(unsigned long code)
{
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    return text ? text : "no reason given";
}

int openssl_config_error(struct sluice_tls_error *err, const char *what, const char *value)
{
    unsigned long code = ERR_peek_error();
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s %s: %s", what, value, words(code));
    ERR_clear_error();
    return -EINVAL;
}

void openssl_info_callback(const SSL *ssl, int where, int value)
{
    int alert = value & 0xff;
    if (!(where & SSL_CB_ALERT) || alert == SSL_AD_CLOSE_NOTIFY || alert == SSL_AD_USER_CANCELLED)
        return;
    if (value >> 8 != SSL3_AL_FATAL && SSL_version(ssl) != TLS1_3_VERSION)
        return; /* a warning; RFC 8446 6 has no others than those two */
    struct openssl_session *o = openssl_session_of(ssl);
    if (where & SSL_CB_READ)
        o->alert_in = alert;
    else
        o->alert_out = alert;
}

int openssl_fail(struct openssl_session *o)
{
    unsigned long code = ERR_peek_error();
    bool open = o->base.state == SLUICE_TLS_OPEN;
    ERR_clear_error();
    if (o->alert_in >= 0)
        return sluice_tls_fail_by_alert(&o->base, o->alert_in);
    o->base.error.alert = o->alert_out;
    return sluice_tls_fail(&o->base,
                           open ? SLUICE_REASON_TLS_PROTOCOL : SLUICE_REASON_TLS_HANDSHAKE,
                           "%s: %s (%08lX)%s%s", open ? "bad record" : "handshake failed",
                           words(code), code, o->alert_out >= 0 ? ", answered with alert " : "",
                           o->alert_out >= 0 ? sluice_tls_alert_name(o->alert_out) : "");
}
