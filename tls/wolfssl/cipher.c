/*
 * Versions and cipher suites: names as OpenSSL has them, which is what people write, and as wolfSSL
 * has them. There are no patterns: a name that is not here is refused.
 */
#include "tls/wolfssl/wolfssl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* TLS 1.2 only with forward secrecy and an AEAD; 1.3 has nothing else. By preference. */
static const struct {
    const char *name, *theirs; /* theirs NULL: the same */
} suites[] = {
    {"TLS_AES_256_GCM_SHA384", "TLS13-AES256-GCM-SHA384"},
    {"TLS_CHACHA20_POLY1305_SHA256", "TLS13-CHACHA20-POLY1305-SHA256"},
    {"TLS_AES_128_GCM_SHA256", "TLS13-AES128-GCM-SHA256"},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", NULL},
    {"ECDHE-RSA-AES256-GCM-SHA384", NULL},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", NULL},
    {"ECDHE-RSA-CHACHA20-POLY1305", NULL},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", NULL},
    {"ECDHE-RSA-AES128-GCM-SHA256", NULL},
};

#define SUITES (sizeof(suites) / sizeof(suites[0]))

static const char *theirs(size_t i)
{
    return suites[i].theirs ? suites[i].theirs : suites[i].name;
}

static void append(struct wolfssl_suites *out, size_t i)
{
    size_t have = strlen(out->list);
    snprintf(out->list + have, sizeof(out->list) - have, "%s%s", have ? ":" : "", theirs(i));
    if (suites[i].theirs)
        out->has_1_3 = true;
    else
        out->has_1_2 = true;
}

/* One name; a second time it changes nothing. */
static bool add(struct wolfssl_suites *out, const char *name, size_t bytes, bool *added)
{
    for (size_t i = 0; i < SUITES; i++) {
        if (strlen(suites[i].name) != bytes || memcmp(suites[i].name, name, bytes) != 0)
            continue;
        if (!added[i])
            append(out, i);
        added[i] = true;
        return true;
    }
    return false;
}

static int parse(struct wolfssl_suites *out, const char *text, struct sluice_tls_error *err)
{
    bool added[SUITES] = {false};
    for (;;) {
        size_t bytes = strcspn(text, ":");
        if (!add(out, text, bytes, added)) {
            sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG,
                                 "ciphers %s: wolfssl takes whole names of AEAD suites with ECDHE, "
                                 "no patterns",
                                 text);
            return -EINVAL;
        }
        if (!text[bytes])
            return 0;
        text += bytes + 1;
    }
}

/* Nothing but what was asked for: without a cipher of a version that version is not offered. */
int wolfssl_parse_ciphers(struct wolfssl_suites *out, const struct sluice_tls_config *cfg,
                          struct sluice_tls_error *err)
{
    int rc = 0;
    *out = (struct wolfssl_suites){.has_1_2 = false};
    if (cfg->ciphers)
        rc = parse(out, cfg->ciphers, err);
    else
        for (size_t i = 0; i < SUITES; i++)
            append(out, i);
    if (rc)
        return rc;
    if (cfg->min == SLUICE_TLS_MIN_1_3)
        out->has_1_2 = false;
    if (out->has_1_2 || out->has_1_3)
        return 0;
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG,
                         "ciphers: none of them is for TLS 1.3 (TLS_*)");
    return -EINVAL;
}

const char *wolfssl_cipher_name(WOLFSSL *ssl)
{
    const char *name = wolfSSL_get_cipher_name(ssl);
    for (size_t i = 0; name && i < SUITES; i++)
        if (strcmp(theirs(i), name) == 0)
            return suites[i].name;
    return name ? name : "unknown";
}
