/*
 * The opening handshake of a WebSocket.
 */
#include "ws_upgrade.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

int upgrade_request(struct upgrade *u, char *out, size_t out_bytes, const char *host,
                    const char *path, const struct option_list *headers)
{
    uint8_t nonce[16];
    if (RAND_bytes(nonce, sizeof(nonce)) != 1)
        return -1;
    EVP_EncodeBlock((unsigned char *)u->key, nonce, sizeof(nonce));
    int n = snprintf(out, out_bytes,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
                     path, host, u->key);
    for (uint32_t i = 0; i < headers->count && n > 0 && (size_t)n < out_bytes; i++)
        n += snprintf(out + n, out_bytes - (size_t)n, "%s\r\n", headers->items[i]);
    if (n > 0 && (size_t)n < out_bytes)
        n += snprintf(out + n, out_bytes - (size_t)n, "\r\n");
    return n > 0 && (size_t)n < out_bytes ? n : -1;
}

static void expected_accept(const struct upgrade *u, char out[29])
{
    char text[UPGRADE_KEY_CHARS + sizeof(GUID)];
    unsigned char digest[EVP_MAX_MD_SIZE];
    snprintf(text, sizeof(text), "%s" GUID, u->key);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)out, digest, 20);
}

/* The value of a header in the lines behind the status line, trimmed; false if it is not there. */
static bool header(const char *lines, const char *name, char *out, size_t out_bytes)
{
    size_t name_chars = strlen(name);
    for (const char *line = lines; *line && *line != '\r'; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, name, name_chars) != 0 || line[name_chars] != ':')
            continue;
        const char *value = line + name_chars + 1;
        value += strspn(value, " \t");
        size_t n = strcspn(value, "\r");
        while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
            n--;
        snprintf(out, out_bytes, "%.*s", (int)n, value);
        return true;
    }
    return false;
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

static int refuse(char *why, size_t why_bytes, const char *what, const char *detail)
{
    snprintf(why, why_bytes, "upgrade refused: %s%.100s", what, detail);
    return -1;
}

static int check_headers(const struct upgrade *u, const char *lines, char *why, size_t why_bytes)
{
    char value[128], accept[29];
    if (!header(lines, "Upgrade", value, sizeof(value)) || strcasecmp(value, "websocket") != 0)
        return refuse(why, why_bytes, "no header Upgrade: websocket", "");
    if (!header(lines, "Connection", value, sizeof(value)) || !has_token(value, "upgrade"))
        return refuse(why, why_bytes, "no header Connection: Upgrade", "");
    expected_accept(u, accept);
    if (!header(lines, "Sec-WebSocket-Accept", value, sizeof(value)) || strcmp(value, accept) != 0)
        return refuse(why, why_bytes, "Sec-WebSocket-Accept is wrong", "");
    if (header(lines, "Sec-WebSocket-Extensions", value, sizeof(value)))
        return refuse(why, why_bytes, "an extension that was not asked for: ", value);
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
    if (strncmp(text, "HTTP/1.1 101", 12) != 0)
        return refuse(why, why_bytes, "the peer answered ", text);
    end[2] = 0; /* behind the last header's line */
    if (check_headers(u, end > lines ? lines + 2 : "", why, why_bytes))
        return -1;
    return (int)(end - text) + 4;
}
