/*
 * Addresses as people write them.
 */
#include "url.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool copy(char *to, size_t to_bytes, const char *from, size_t n)
{
    if (n == 0 || n >= to_bytes)
        return false;
    memcpy(to, from, n);
    to[n] = 0;
    return true;
}

static bool port_ok(const char *text, int min)
{
    size_t n = strspn(text, "0123456789");
    return n > 0 && n <= 5 && text[n] == 0 && atoi(text) >= min && atoi(text) <= 65535;
}

/* RFC 3986 3.2.2: an IPv6 address stands in brackets, which stand nowhere else. */
static const char *take_host(struct sluice_url *out, const char *at)
{
    const char *end;
    if (*at == '[') {
        at++;
        end = at + strcspn(at, "[]");
        if (*end != ']' || !copy(out->host, sizeof(out->host), at, (size_t)(end - at)))
            return NULL;
        return end + 1;
    }
    end = at + strcspn(at, ":/[]");
    return copy(out->host, sizeof(out->host), at, (size_t)(end - at)) ? end : NULL;
}

static int parse(struct sluice_url *out, const char *text, int port_min)
{
    const char *mark = strstr(text, "://");
    if (!mark || !copy(out->scheme, sizeof(out->scheme), text, (size_t)(mark - text)))
        return -EINVAL;
    const char *at = take_host(out, mark + 3);
    if (!at || *at != ':')
        return -EINVAL;
    const char *end = at + 1 + strcspn(at + 1, "/");
    if (!copy(out->port, sizeof(out->port), at + 1, (size_t)(end - at - 1)) ||
        !port_ok(out->port, port_min))
        return -EINVAL;
    return end[0] == 0 || end[1] == 0 ? 0 : -EINVAL; /* no path: this is a byte stream */
}

int sluice_url_parse(struct sluice_url *out, const char *text)
{
    return parse(out, text, 1);
}

int sluice_url_parse_local(struct sluice_url *out, const char *text)
{
    return parse(out, text, 0);
}

const char *sluice_url_override(const char *override, const char *host, const char *port)
{
    size_t h = strlen(host), p = strlen(port);
    if (strncmp(override, host, h) != 0 || override[h] != ':')
        return NULL;
    override += h + 1;
    if (strncmp(override, port, p) != 0 || override[p] != ':')
        return NULL;
    return override + p + 1;
}
