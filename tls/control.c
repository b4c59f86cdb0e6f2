/*
 * Records without data that the kernel decrypted: alerts, tickets, KeyUpdates. The same as a
 * provider does with them in user space, with the same limits.
 */
#include "tls/provider.h"

#include <errno.h>

#define ALERT_BYTES         2u
#define HEADER_BYTES        4u
#define WARNING             1u
#define FATAL               2u
#define CLOSE_NOTIFY        0
#define UNEXPECTED_MESSAGE  10
#define BAD_RECORD_MAC      20
#define RECORD_OVERFLOW     22
#define DECODE_ERROR        50
#define USER_CANCELED       90
#define HELLO_REQUEST       0u
#define NEW_SESSION_TICKET  4u
#define KEY_UPDATE          24u
#define KEY_UPDATE_BYTES    1u
#define HANDSHAKE_BYTES_MAX (64u << 10) /* a ticket has less: RFC 8446 4.6.1 */

static int fail(struct sluice_tls_session *s, int alert, const char *what, unsigned number)
{
    s->error.alert = alert;
    return sluice_tls_fail(s, SLUICE_REASON_TLS_PROTOCOL, "bad record: %s (%u), answered with %s",
                           what, number, sluice_tls_alert_name(alert));
}

static int on_alert(struct sluice_tls_session *s, unsigned level, int alert)
{
    if (alert == CLOSE_NOTIFY) {
        s->closed |= SLUICE_TLS_CLOSED_BY_PEER;
        return 0;
    }
    /* RFC 8446 6 has no warnings but these two */
    if (alert == USER_CANCELED || (level == WARNING && s->version != SLUICE_TLS_1_3))
        return 0;
    return sluice_tls_fail_by_alert(s, alert);
}

/* RFC 8446 5.1: one alert is one record. */
static int take_alert(struct sluice_tls_session *s, const uint8_t *data, size_t bytes)
{
    if (bytes != ALERT_BYTES || data[0] < WARNING || data[0] > FATAL)
        return fail(s, DECODE_ERROR, "an alert of a wrong length or level", (unsigned)bytes);
    return on_alert(s, data[0], data[1]);
}

/* The header of a message is there. */
static int on_header(struct sluice_tls_session *s)
{
    struct sluice_tls_partial *p = &s->partial;
    unsigned type = p->head[0];
    bool is_1_3 = s->version == SLUICE_TLS_1_3;
    p->left = (uint32_t)p->head[1] << 16 | (uint32_t)p->head[2] << 8 | p->head[3];
    if (is_1_3 ? type != NEW_SESSION_TICKET && type != KEY_UPDATE : type != HELLO_REQUEST)
        return fail(s, UNEXPECTED_MESSAGE, "a handshake message that has no place here", type);
    if (p->left > HANDSHAKE_BYTES_MAX || (type == HELLO_REQUEST && p->left != 0) ||
        (type == KEY_UPDATE && p->left != KEY_UPDATE_BYTES))
        return fail(s, DECODE_ERROR, "a handshake message of a wrong length", p->left);
    return 0;
}

static int take_handshake(struct sluice_tls_session *s, const uint8_t *data, size_t bytes)
{
    struct sluice_tls_partial *p = &s->partial;
    for (size_t i = 0; i < bytes; i++) {
        if (p->have < HEADER_BYTES) {
            p->head[p->have++] = data[i];
            if (p->have == HEADER_BYTES && on_header(s))
                return -EPROTO;
        } else {
            p->head[HEADER_BYTES] = data[i];
            p->left--;
        }
        if (p->have < HEADER_BYTES || p->left > 0)
            continue;
        p->have = 0;
        if (p->head[0] == HELLO_REQUEST)
            return SLUICE_TLS_REFUSAL_DUE;
        if (p->head[0] != KEY_UPDATE)
            continue;
        if (i + 1 != bytes) /* RFC 8446 5.1: keys change between records */
            return fail(s, UNEXPECTED_MESSAGE, "bytes behind a KeyUpdate", (unsigned)(bytes - i));
        if (p->head[HEADER_BYTES] > 1)
            return fail(s, DECODE_ERROR, "a KeyUpdate that asks for nonsense",
                        p->head[HEADER_BYTES]);
        return p->head[HEADER_BYTES] ? SLUICE_TLS_ANSWER_DUE : SLUICE_TLS_NEW_KEYS;
    }
    return 0;
}

int sluice_tls_control(struct sluice_tls_session *s, unsigned type, const uint8_t *data,
                       size_t bytes)
{
    if (s->state == SLUICE_TLS_FAILED || sluice_tls_count_control(s))
        return -EPROTO;
    if (type == SLUICE_TLS_TYPE_ALERT)
        return take_alert(s, data, bytes);
    if (type == SLUICE_TLS_TYPE_HANDSHAKE)
        return take_handshake(s, data, bytes);
    return fail(s, UNEXPECTED_MESSAGE, "a record of a type that has no place here", type);
}

int sluice_tls_bad_record(struct sluice_tls_session *s, int os_error)
{
    if (os_error == EMSGSIZE)
        return fail(s, RECORD_OVERFLOW, "longer than a record may be; the kernel says", EMSGSIZE);
    return fail(s, BAD_RECORD_MAC, "not authentic; the kernel says", (unsigned)os_error);
}
