/*
 * From wolfSSL's error numbers and alerts to a reason and one line of text. What is wrong with a
 * certificate is verify.c's.
 */
#include "tls/wolfssl/wolfssl.h"

#include <errno.h>

int wolfssl_config_error(struct sluice_tls_error *err, const char *what, const char *value,
                         int code)
{
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s %s: %s", what, value,
                         code < 0 ? wolfSSL_ERR_reason_error_string((unsigned long)code)
                                  : "wolfSSL does not take it");
    wolfSSL_ERR_clear_error();
    return -EINVAL;
}

/* RFC 8446 6: only close_notify and user_canceled end nothing, whatever their level; before that,
 * warnings do not. */
int wolfssl_alert_in(struct wolfssl_session *w)
{
    WOLFSSL_ALERT_HISTORY history;
    if (wolfSSL_get_alert_history(w->ssl, &history) != WOLFSSL_SUCCESS)
        return -1;
    int alert = history.last_rx.code;
    if (alert < 0 || alert == close_notify || alert == 90)
        return -1;
    return history.last_rx.level == alert_fatal || w->is_1_3 ? alert : -1;
}

static int alert_out(struct wolfssl_session *w)
{
    WOLFSSL_ALERT_HISTORY history;
    if (wolfSSL_get_alert_history(w->ssl, &history) != WOLFSSL_SUCCESS ||
        history.last_tx.level != alert_fatal)
        return -1;
    return history.last_tx.code;
}

int wolfssl_fail(struct wolfssl_session *w, int code)
{
    bool open = w->base.state == SLUICE_TLS_OPEN;
    int alert = wolfssl_alert_in(w);
    const char *words =
        w->bad_record ? w->bad_record : wolfSSL_ERR_reason_error_string((unsigned long)code);
    wolfSSL_ERR_clear_error();
    if (alert >= 0)
        return sluice_tls_fail_by_alert(&w->base, alert);
    w->base.error.alert = alert = alert_out(w);
    return sluice_tls_fail(
        &w->base, open ? SLUICE_REASON_TLS_PROTOCOL : SLUICE_REASON_TLS_HANDSHAKE,
        "%s: %s (%d)%s%s", open ? "bad record" : "handshake failed", words, code,
        alert >= 0 ? ", answered with alert " : "", alert >= 0 ? sluice_tls_alert_name(alert) : "");
}
