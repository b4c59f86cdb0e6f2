/*
 * Whom a client wants to meet: the name or address in the certificate, the name that it asks for
 * (SNI), the pinned keys. Whether the peer is the one, each provider finds out.
 */
#include "tls/provider.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int bad(struct sluice_tls_error *err, const char *text)
{
    sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "%s", text);
    return -EINVAL;
}

/* ---- pinned keys ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(const char *text, uint8_t *out)
{
    for (size_t i = 0; i < TLS_PIN_BYTES; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* 32 bytes: 43 characters, the last one with two bits to spare, and one of padding. RFC 4648 4 */
static bool parse_base64(const char *text, uint8_t *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    for (unsigned i = 0, have = 0, n = 0; i < 43; i++) {
        const char *digit = memchr(alphabet, text[i], sizeof(alphabet) - 1);
        if (!digit)
            return false;
        bits = bits << 6 | (uint32_t)(digit - alphabet);
        have += 6;
        if (have >= 8)
            out[n++] = (uint8_t)(bits >> (have -= 8));
    }
    return text[43] == '=';
}

static bool parse_pin(const char *text, size_t bytes, uint8_t *out)
{
    if (bytes == 2ull * TLS_PIN_BYTES)
        return parse_hex(text, out);
    return bytes == 44 && parse_base64(text, out);
}

static int parse_pins(struct sluice_tls_target *t, const char *text, struct sluice_tls_error *err)
{
    for (;;) {
        size_t bytes = strcspn(text, ",");
        if (strncmp(text, "sha256//", 8) == 0) { /* as curl writes them */
            text += 8;
            bytes -= 8;
        }
        if (t->pin_count == TLS_PINS_MAX || !parse_pin(text, bytes, t->pins[t->pin_count])) {
            sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG,
                                 "pin-sha256: up to %u of 64 hex digits or 44 characters of base64",
                                 TLS_PINS_MAX);
            return -EINVAL;
        }
        t->pin_count++;
        if (!text[bytes])
            return 0;
        text += bytes + 1;
    }
}

bool sluice_tls_target_has_pin(const struct sluice_tls_target *t, const uint8_t *digest)
{
    for (unsigned i = 0; i < t->pin_count; i++)
        if (memcmp(digest, t->pins[i], TLS_PIN_BYTES) == 0)
            return true;
    return false;
}

/* ---- names ---- */

bool sluice_tls_is_address(const char *name)
{
    struct in6_addr any;
    return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

/* As certificates have it: no final dot, an address without its zone. A leading dot would match
 * every name below (X509_check_host(3)), an empty name any. */
static bool normalise(char *out, const char *name)
{
    size_t bytes = strlen(name);
    if (bytes > 0 && name[bytes - 1] == '.')
        bytes--;
    if (strchr(name, ':'))
        bytes = strcspn(name, "%");
    if (bytes == 0 || bytes >= TLS_NAME_BYTES || name[0] == '.')
        return false;
    memcpy(out, name, bytes);
    out[bytes] = 0;
    return true;
}

static bool copy_name(char *out, const char *name)
{
    size_t bytes = strlen(name);
    if (bytes >= TLS_NAME_BYTES)
        return false;
    memcpy(out, name, bytes + 1);
    return true;
}

int sluice_tls_target_init(struct sluice_tls_target *t, const struct sluice_tls_config *cfg,
                           struct sluice_tls_error *err)
{
    t->has_verify_name = cfg->verify_name != NULL;
    t->has_sni = cfg->sni != NULL;
    t->no_verify = cfg->no_verify;
    if ((cfg->verify_name && !copy_name(t->verify_name, cfg->verify_name)) ||
        (cfg->sni && !copy_name(t->sni, cfg->sni)))
        return bad(err, "verify-name, sni: at most 255 characters");
    return cfg->pin_sha256 ? parse_pins(t, cfg->pin_sha256, err) : 0;
}

void sluice_tls_describe_refusal(char *out, size_t out_bytes, const char *subject,
                                 const char *words, int code, int depth, const char *wanted)
{
    snprintf(out, out_bytes, "certificate \"%s\": %s (%d, depth %d)%s%.100s", subject, words, code,
             depth, wanted ? ", wanted " : "", wanted ? wanted : "");
}

static void choose_sni(const struct sluice_tls_target *t, const char *host, const char *verify_name,
                       char *sni)
{
    sni[0] = 0;
    if (t->has_sni)
        memcpy(sni, t->sni, TLS_NAME_BYTES);
    else if (!host || !normalise(sni, host) || sluice_tls_is_address(sni))
        memcpy(sni, verify_name, TLS_NAME_BYTES);
    if (sluice_tls_is_address(sni)) /* RFC 6066 3: no literal addresses */
        sni[0] = 0;
}

int sluice_tls_target_names(const struct sluice_tls_target *t, const char *host, char *verify_name,
                            char *sni, struct sluice_tls_error *err)
{
    const char *name = t->has_verify_name ? t->verify_name : host;
    verify_name[0] = 0;
    if ((name || !t->no_verify) && (!name || !normalise(verify_name, name))) {
        sluice_tls_error_set(err, SLUICE_REASON_TLS_CONFIG, "verify-name: \"%s\" is no name",
                             name ? name : "");
        return -EINVAL;
    }
    choose_sni(t, host, verify_name, sni);
    return 0;
}
