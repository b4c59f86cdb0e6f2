/*
 * Protocols by ALPN (RFC 7301): the list of a configuration as it stands on the wire, and a
 * server's choice.
 */
#include "tls/provider.h"

#include <errno.h>
#include <string.h>

int sluice_tls_alpn_init(struct sluice_tls_alpn *a, const char *text, struct sluice_tls_error *err)
{
    a->bytes = 0;
    if (!text)
        return 0;
    for (;;) {
        size_t bytes = strcspn(text, ",");
        if (bytes == 0 || bytes > 255 || a->bytes + 1 + bytes > sizeof(a->wire)) {
            sluice_tls_error_set(
                err, SLUICE_REASON_TLS_CONFIG,
                "alpn: names of 1 to 255 characters, 255 in all, with commas between");
            return -EINVAL;
        }
        a->wire[a->bytes++] = (uint8_t)bytes;
        memcpy(a->wire + a->bytes, text, bytes);
        a->bytes += (unsigned)bytes;
        if (!text[bytes])
            return 0;
        text += bytes + 1;
    }
}

static bool offers(const uint8_t *offered, size_t bytes, const uint8_t *name)
{
    for (size_t at = 0; at < bytes; at += 1u + offered[at])
        if (offered[at] == name[0] && at + 1u + name[0] <= bytes &&
            memcmp(offered + at, name, 1u + name[0]) == 0)
            return true;
    return false;
}

const uint8_t *sluice_tls_alpn_choose(const struct sluice_tls_alpn *a, const uint8_t *offered,
                                      size_t bytes)
{
    for (size_t at = 0; at < a->bytes; at += 1u + a->wire[at])
        if (offers(offered, bytes, a->wire + at))
            return a->wire + at;
    return NULL;
}
