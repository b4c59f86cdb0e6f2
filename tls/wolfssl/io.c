/*
 * The callbacks between wolfSSL and the caller's memory: it reads from the window of the call that
 * is under way and writes to the output ring. They see the records go by: a call may be told to
 * end behind one, and a header that can begin no record ends the session.
 */
#include "tls/wolfssl/wolfssl.h"

#include <wolfssl/wolfio.h>

enum { CHANGE_CIPHER_SPEC = 20, APPLICATION_DATA = 23 };

/* A KeyUpdate on the wire: header, message, type, tag. RFC 8446 4.6.3, 5.2 */
#define KEY_UPDATE_BYTES (5 + 4 + 1 + 1 + 16)

/* RFC 8446 5.1 and 5.2, RFC 5246 6.2.3. wolfSSL takes a record that is too long before it says so,
 * and has no words for a port that speaks something else. */
static const char *judge_header(const struct wolfssl_session *w)
{
    const uint8_t *h = w->header;
    bool open = w->base.state == SLUICE_TLS_OPEN;
    size_t bytes = (size_t)(h[3] << 8 | h[4]);
    if (h[0] < CHANGE_CIPHER_SPEC || h[0] > APPLICATION_DATA || h[1] != 3)
        return "wrong version number";
    if (bytes > SLUICE_TLS_RECORD_MAX + (open && w->is_1_3 ? 256u : 2048u))
        return "a record beyond the maximum";
    return NULL;
}

static size_t take(struct wolfssl_session *w, char *to, size_t bytes)
{
    bool header = w->header_bytes < RECORD_HEADER_BYTES;
    size_t missing = header ? RECORD_HEADER_BYTES - w->header_bytes : w->body_bytes;
    size_t n = sluice_tls_take(w->in, to, bytes < missing ? bytes : missing);
    if (header) {
        for (size_t i = 0; i < n; i++)
            w->header[w->header_bytes++] = (uint8_t)to[i];
        if (w->header_bytes < RECORD_HEADER_BYTES)
            return n;
        w->bad_record = judge_header(w);
        w->body_bytes = (size_t)(w->header[3] << 8 | w->header[4]);
    } else {
        w->body_bytes -= n;
    }
    if (w->body_bytes == 0) {
        w->header_bytes = 0;
        w->whole = true;
    }
    return n;
}

int wolfssl_receive(WOLFSSL *ssl, char *to, int bytes, void *user)
{
    struct wolfssl_session *w = user;
    (void)ssl;
    if (bytes <= 0)
        return 0;
    if (!w->in || w->in->bytes == 0 || (w->whole && w->one_record))
        return WOLFSSL_CBIO_ERR_WANT_READ;
    int n = (int)take(w, to, (size_t)bytes);
    return w->bad_record ? WOLFSSL_CBIO_ERR_GENERAL : n;
}

int wolfssl_send(WOLFSSL *ssl, char *data, int bytes, void *user)
{
    struct wolfssl_session *w = user;
    (void)ssl;
    if (bytes <= 0)
        return 0;
    /* Debian builds with WOLFSSL_POST_HANDSHAKE_AUTH, and then a client answers a request that
     * nobody allowed. While reading, nothing leaves that is longer than a KeyUpdate (or an alert).
     */
    if (w->in && w->is_1_3 && bytes > KEY_UPDATE_BYTES) {
        w->bad_record = "a request after the handshake";
        return WOLFSSL_CBIO_ERR_GENERAL;
    }
    if (w->base.closed & SLUICE_TLS_CLOSED_BY_US)
        return bytes; /* RFC 8446 6.1: nothing follows close_notify, an answer to KeyUpdate neither
                       */
    size_t taken = sluice_tls_emit(&w->base, data, (size_t)bytes);
    return taken ? (int)taken : WOLFSSL_CBIO_ERR_WANT_WRITE;
}
