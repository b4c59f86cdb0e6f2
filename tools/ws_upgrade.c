/*
 * The opening handshake of a WebSocket.
 */
#include "ws_upgrade.h"

#include "fail.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

#define PROTOCOL_HEADER "Sec-WebSocket-Protocol"

/* ---- what was asked for ---- */

static bool has_control(const char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text))
            return true;
    return false;
}

/* Nothing here may end a line of the request, or its first word. */
static int check_options(const struct options *o)
{
    if (o->path && (has_control(o->path) || strpbrk(o->path, " #")))
        return fail(SLUICE_REASON_USAGE, "path '%s': a space, a # or a control character", o->path);
    for (uint32_t i = 0; i < o->headers.count; i++) {
        const char *line = o->headers.items[i];
        size_t name_chars = strcspn(line, ": ");
        if (has_control(line) || name_chars == 0 || line[name_chars] != ':')
            return fail(SLUICE_REASON_USAGE, "--header '%s': not of the form NAME: VALUE", line);
    }
    return 0;
}

int upgrade_target(struct options *o, char *tcp, size_t tcp_bytes, const char **target)
{
    const char *url = o->args[0];
    *target = url;
    bool is_wss = strncmp(url, "wss://", 6) == 0, is_ws = strncmp(url, "ws://", 5) == 0;
    if (!is_ws && !is_wss && strstr(url, "://") && strncmp(url, "tcp://", 6) != 0 &&
        strncmp(url, "tls://", 6) != 0)
        return fail(SLUICE_REASON_UNSUPPORTED, "%s: not a WebSocket's URL", url);
    if (!is_ws && !is_wss)
        return check_options(o);
    const char *host = url + (is_wss ? 6 : 5);
    size_t n = strcspn(host, "/?#");
    const char *bracket = memchr(host, ']', n);
    const char *after = bracket ? bracket : host;
    bool has_port = memchr(after, ':', n - (size_t)(after - host)) != NULL;
    const char *port = has_port ? "" : is_wss ? ":443" : ":80";
    int k = snprintf(tcp, tcp_bytes, "%s://%.*s%s", is_wss ? "tls" : "tcp", (int)n, host, port);
    if (k < 0 || (size_t)k >= tcp_bytes)
        return fail(SLUICE_REASON_USAGE, "%s: too long", url);
    if (host[n] && !o->path)
        o->path = host + n;
    *target = tcp;
    return check_options(o);
}

/* ---- the request ---- */

int upgrade_request(struct upgrade *u, char *out, size_t out_bytes, const char *host,
                    const char *path, const struct option_list *headers)
{
    uint8_t nonce[16];
    u->headers = headers;
    if (RAND_bytes(nonce, sizeof(nonce)) != 1)
        return -1;
    EVP_EncodeBlock((unsigned char *)u->key, nonce, sizeof(nonce));
    int n =
        snprintf(out, out_bytes,
                 "GET %s%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
                 path[0] == '/' ? "" : "/", path, host, u->key);
    for (uint32_t i = 0; i < headers->count && n > 0 && (size_t)n < out_bytes; i++)
        n += snprintf(out + n, out_bytes - (size_t)n, "%s\r\n", headers->items[i]);
    if (n > 0 && (size_t)n < out_bytes)
        n += snprintf(out + n, out_bytes - (size_t)n, "\r\n");
    return n > 0 && (size_t)n < out_bytes ? n : -1;
}

/* ---- the answer ---- */

static void accept_of(const char *key, char out[29])
{
    char text[UPGRADE_KEY_CHARS + sizeof(GUID)];
    unsigned char digest[EVP_MAX_MD_SIZE];
    snprintf(text, sizeof(text), "%.*s" GUID, (int)UPGRADE_KEY_CHARS, key);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)out, digest, 20);
}

/* The value of a header in the lines behind the status line, trimmed; several of that name are
 * joined by commas (RFC 9110, 5.3). False if it is not there. */
static bool header(const char *lines, const char *name, char *out, size_t out_bytes)
{
    size_t name_chars = strlen(name), used = 0;
    bool found = false;
    for (const char *line = lines; *line && *line != '\r'; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, name, name_chars) != 0 || line[name_chars] != ':')
            continue;
        const char *value = line + name_chars + 1;
        value += strspn(value, " \t");
        size_t n = strcspn(value, "\r");
        while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
            n--;
        int k = snprintf(out + used, out_bytes - used, "%s%.*s", found ? "," : "", (int)n, value);
        used += (size_t)k < out_bytes - used ? (size_t)k : out_bytes - used - 1;
        found = true;
    }
    return found;
}

/* "keep-alive, Upgrade" has the token "upgrade". */
static bool has_token(const char *value, const char *token)
{
    size_t n = strlen(token);
    for (const char *at = value; *at; at += strcspn(at, ",")) {
        at += strspn(at, ", \t");
        size_t chars = strcspn(at, ", \t");
        if (chars == n && strncasecmp(at, token, n) == 0)
            return true;
    }
    return false;
}

/* The detail is the peer's: it must not steer a terminal. */
static int refuse(char *why, size_t why_bytes, const char *what, const char *detail)
{
    snprintf(why, why_bytes, "upgrade refused: %s%.100s", what, detail);
    for (char *at = why; *at; at++)
        if (iscntrl((unsigned char)*at))
            *at = '?';
    return -1;
}

/* RFC 6455, 4.1: a subprotocol must be one of those in the request. */
static bool asked_for(const struct upgrade *u, const char *protocol)
{
    size_t name_chars = strlen(PROTOCOL_HEADER);
    for (uint32_t i = 0; i < u->headers->count; i++) {
        const char *item = u->headers->items[i];
        if (strncasecmp(item, PROTOCOL_HEADER, name_chars) == 0 && item[name_chars] == ':' &&
            has_token(item + name_chars + 1, protocol))
            return true;
    }
    return false;
}

static int check_headers(const struct upgrade *u, const char *lines, char *why, size_t why_bytes)
{
    char value[256], accept[29];
    if (!header(lines, "Upgrade", value, sizeof(value)) || strcasecmp(value, "websocket") != 0)
        return refuse(why, why_bytes, "no header Upgrade: websocket", "");
    if (!header(lines, "Connection", value, sizeof(value)) || !has_token(value, "upgrade"))
        return refuse(why, why_bytes, "no header Connection: Upgrade", "");
    accept_of(u->key, accept);
    if (!header(lines, "Sec-WebSocket-Accept", value, sizeof(value)) || strcmp(value, accept) != 0)
        return refuse(why, why_bytes, "Sec-WebSocket-Accept is wrong", "");
    if (header(lines, "Sec-WebSocket-Extensions", value, sizeof(value)))
        return refuse(why, why_bytes, "an extension that was not asked for: ", value);
    if (header(lines, PROTOCOL_HEADER, value, sizeof(value)) && !asked_for(u, value))
        return refuse(why, why_bytes, "a subprotocol that was not asked for: ", value);
    return 0;
}

int upgrade_check(const struct upgrade *u, const char *response, size_t bytes, char *why,
                  size_t why_bytes)
{
    static char text[UPGRADE_RESPONSE_MAX + 1];
    size_t n = bytes < UPGRADE_RESPONSE_MAX ? bytes : UPGRADE_RESPONSE_MAX;
    memcpy(text, response, n);
    text[n] = 0;
    char *end = strstr(text, "\r\n\r\n");
    if (strncmp(text, "HTTP/1.1 ", n < 9 ? n : 9) != 0)
        return refuse(why, why_bytes, "the answer is not HTTP/1.1", "");
    if (!end)
        return bytes < UPGRADE_RESPONSE_MAX
                   ? 0
                   : refuse(why, why_bytes, "the answer's headers do not end", "");
    char *lines = strstr(text, "\r\n");
    *lines = 0;
    if (strncmp(text, "HTTP/1.1 101", 12) != 0 || (text[12] && text[12] != ' '))
        return refuse(why, why_bytes, "the peer answered ", text);
    end[2] = 0; /* behind the last header's line */
    if (check_headers(u, end > lines ? lines + 2 : "", why, why_bytes))
        return -1;
    return (int)(end - text) + 4;
}

/* ---- a server's side ---- */

int upgrade_answer(const char *request, size_t bytes, char *out, size_t out_bytes)
{
    static char text[UPGRADE_REQUEST_MAX + 1];
    char value[256], accept[29];
    if (bytes > UPGRADE_REQUEST_MAX)
        return -1;
    memcpy(text, request, bytes);
    text[bytes] = 0;
    char *end = strstr(text, "\r\n\r\n"), *lines = strstr(text, "\r\n");
    if (strncmp(text, "GET ", bytes < 4 ? bytes : 4) != 0)
        return -1;
    if (!end)
        return bytes < UPGRADE_REQUEST_MAX ? 0 : -1;
    end[2] = 0;
    bool upgrade = end > lines && header(lines + 2, "Upgrade", value, sizeof(value)) &&
                   has_token(value, "websocket");
    if (!upgrade || !header(lines + 2, "Sec-WebSocket-Key", value, sizeof(value)) ||
        strlen(value) != UPGRADE_KEY_CHARS)
        return -1;
    accept_of(value, accept);
    snprintf(out, out_bytes,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    return (int)(end - text) + 4;
}
