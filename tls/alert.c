/*
 * Alerts: their names, and what one of the peer's makes of a session.
 */
#include "tls/provider.h"

/* RFC 8446 6, RFC 5246 7.2, RFC 7301 3.2 */
static const struct {
    int number;
    const char *name;
    bool is_refusal; /* it will not work next time either */
} alerts[] = {
    {0, "close_notify", false},
    {10, "unexpected_message", false},
    {20, "bad_record_mac", false},
    {21, "decryption_failed", false},
    {22, "record_overflow", false},
    {30, "decompression_failure", false},
    {40, "handshake_failure", true},
    {41, "no_certificate", true},
    {42, "bad_certificate", true},
    {43, "unsupported_certificate", true},
    {44, "certificate_revoked", true},
    {45, "certificate_expired", true},
    {46, "certificate_unknown", true},
    {47, "illegal_parameter", false},
    {48, "unknown_ca", true},
    {49, "access_denied", true},
    {50, "decode_error", false},
    {51, "decrypt_error", false},
    {70, "protocol_version", true},
    {71, "insufficient_security", true},
    {80, "internal_error", false},
    {86, "inappropriate_fallback", false},
    {90, "user_canceled", false},
    {100, "no_renegotiation", false},
    {109, "missing_extension", false},
    {110, "unsupported_extension", false},
    {112, "unrecognized_name", true},
    {113, "bad_certificate_status_response", false},
    {115, "unknown_psk_identity", false},
    {116, "certificate_required", true},
    {120, "no_application_protocol", true},
};

const char *sluice_tls_alert_name(int alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++)
        if (alerts[i].number == alert)
            return alerts[i].name;
    return "unknown";
}

/* In TLS 1.3 a client hears what a server thinks of its certificate only after the handshake. */
static bool is_refusal(int alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++)
        if (alerts[i].number == alert)
            return alerts[i].is_refusal;
    return false;
}

int sluice_tls_fail_by_alert(struct sluice_tls_session *s, int alert)
{
    s->error.alert = alert;
    return sluice_tls_fail(
        s, is_refusal(alert) ? SLUICE_REASON_TLS_HANDSHAKE : SLUICE_REASON_TLS_ALERT,
        "the peer sent alert %d (%s)", alert, sluice_tls_alert_name(alert));
}
