/*
 * An address as somebody wrote it. What is taken has a scheme, a host and a port in its range,
 * written out again it is the same; and an override of it is found.
 */
#include "tests/fuzz/fuzz.h"
#include "runtime/url.h"

#include <errno.h>
#include <stdbool.h>

static void check_parts(const struct sluice_url *url, long port_min)
{
    size_t digits = strspn(url->port, "0123456789");
    long port = strtol(url->port, NULL, 10);
    MUST(url->scheme[0] && strlen(url->scheme) < sizeof(url->scheme));
    MUST(url->host[0] && strlen(url->host) < sizeof(url->host));
    MUST(digits > 0 && url->port[digits] == 0 && port >= port_min && port <= 65535);
}

static void check_again(const struct sluice_url *url)
{
    char text[512];
    struct sluice_url again;
    bool bracket = strpbrk(url->host, ":/");
    snprintf(text, sizeof(text), bracket ? "%s://[%s]:%s" : "%s://%s:%s", url->scheme, url->host,
             url->port);
    MUST(sluice_url_parse(&again, text) == 0);
    MUST(strcmp(again.scheme, url->scheme) == 0 && strcmp(again.host, url->host) == 0 &&
         strcmp(again.port, url->port) == 0);
}

static void check_override(const struct sluice_url *url)
{
    char text[512];
    snprintf(text, sizeof(text), "%s:%s:127.0.0.1", url->host, url->port);
    const char *address = sluice_url_override(text, url->host, url->port);
    MUST(address && strcmp(address, "127.0.0.1") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct sluice_url url;
    char *text = fuzz_text(data, bytes);
    int rc = sluice_url_parse(&url, text);
    MUST(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        check_parts(&url, 1);
        check_again(&url);
        check_override(&url);
        sluice_url_override(text, url.host, url.port);
    }
    if (sluice_url_parse_local(&url, text) == 0)
        check_parts(&url, 0);
    else
        MUST(rc != 0);
    free(text);
    return 0;
}
