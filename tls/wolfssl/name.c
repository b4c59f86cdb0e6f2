/*
 * Names in certificates: whether one is the name or address wanted (RFC 9525), and how a person
 * reads whose it is. Only subject alternative names count, never the common name.
 */
#include "tls/wolfssl/wolfssl.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* "*.": one whole label, on the left, with two more behind it at least. */
static bool matches_wildcard(const char *pattern, size_t bytes, const char *name)
{
    const char *rest = strchr(name, '.');
    if (bytes < 3 || pattern[0] != '*' || pattern[1] != '.' || !rest || rest == name)
        return false;
    pattern++;
    bytes--;
    return memchr(pattern + 1, '.', bytes - 1) && !memchr(pattern, '*', bytes) &&
           strlen(rest) == bytes && strncasecmp(pattern, rest, bytes) == 0;
}

static bool matches(const DNS_entry *entry, const char *name)
{
    size_t bytes = (size_t)entry->len;
    if (memchr(entry->name, 0, bytes))
        return false;
    if (strlen(name) == bytes && strncasecmp(entry->name, name, bytes) == 0)
        return !memchr(entry->name, '*', bytes);
    return matches_wildcard(entry->name, bytes, name);
}

bool wolfssl_has_name(const DecodedCert *cert, const char *name)
{
    uint8_t address[16];
    int bytes = inet_pton(AF_INET, name, address) == 1    ? 4
                : inet_pton(AF_INET6, name, address) == 1 ? 16
                                                          : 0;
    for (const DNS_entry *entry = cert->altNames; entry; entry = entry->next) {
        if (bytes && entry->type == ASN_IP_TYPE && entry->len == bytes &&
            memcmp(entry->name, address, (size_t)bytes) == 0)
            return true;
        if (!bytes && entry->type == ASN_DNS_TYPE && matches(entry, name))
            return true;
    }
    return false;
}

/* Certificates of today often have no subject, only names. */
void wolfssl_subject(const DecodedCert *cert, char *out, size_t out_bytes)
{
    const char *subject = cert->subject;
    const DNS_entry *name = cert->altNames;
    while (name && name->type != ASN_DNS_TYPE)
        name = name->next;
    if (!subject[0] && name)
        snprintf(out, out_bytes, "DNS:%.*s", name->len, name->name);
    else
        snprintf(out, out_bytes, "%s", subject + (subject[0] == '/'));
    for (char *c = out; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}
