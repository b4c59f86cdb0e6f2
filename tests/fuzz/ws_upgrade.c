/*
 * What the other side of a WebSocket's opening handshake says. The first byte of an input says what
 * it is: a server's answer, a client's request, or an answer that is right but for what follows in
 * it.
 */
#include "tests/fuzz/fuzz.h"
#include "tools/ws_upgrade.h"

#include <ctype.h>

#define KEY    "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455, 1.3 */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define GOOD                                                                        \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade" \
    "\r\nSec-WebSocket-Accept: " ACCEPT "\r\n"

static const struct option_list headers = {
    .items = {"Sec-WebSocket-Protocol: chat, superchat", "X-Other: 1"}, .count = 2};

/* Refused with a line that a terminal can be shown, or taken up to its empty line. */
static int check(const uint8_t *data, size_t bytes)
{
    struct upgrade u = {.key = KEY, .headers = &headers};
    char why[160] = "";
    int n = upgrade_check(&u, (const char *)data, bytes, why, sizeof(why));
    MUST(n >= -1 && n <= (int)bytes && n <= (int)UPGRADE_RESPONSE_MAX);
    MUST(n <= 0 || memcmp(data + n - 4, "\r\n\r\n", 4) == 0);
    MUST(n <= 0 || memmem(data, (size_t)n, ACCEPT, strlen(ACCEPT)));
    MUST((n < 0) == (why[0] != 0));
    for (const char *at = why; *at; at++)
        MUST(!iscntrl((unsigned char)*at));
    return n;
}

/* More bytes change no verdict. */
static void check_growing(const uint8_t *data, size_t bytes)
{
    int whole = check(data, bytes);
    size_t step = 1 + bytes / 50;
    for (size_t i = 0; i < bytes; i += step) {
        int n = check(data, i);
        MUST(n == 0 || n == whole);
    }
}

static void check_good(const uint8_t *data, size_t bytes)
{
    size_t good_bytes = strlen(GOOD);
    uint8_t *answer = malloc(good_bytes + bytes + 4);
    MUST(answer);
    memcpy(answer, GOOD, good_bytes);
    memcpy(answer + good_bytes, data, bytes);
    memcpy(answer + good_bytes + bytes, "\r\n\r\n", 4);
    check_growing(answer, good_bytes + bytes + 4);
    free(answer);
}

static void check_request(const uint8_t *data, size_t bytes)
{
    char out[256] = "";
    int n = upgrade_answer((const char *)data, bytes, out, sizeof(out));
    MUST(n >= -1 && n <= (int)bytes && n <= (int)UPGRADE_REQUEST_MAX);
    MUST(n <= 0 || strstr(out, "\r\n\r\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    switch (data[0] % 3) {
    case 0:
        check_growing(data + 1, bytes - 1);
        break;
    case 1:
        check_request(data + 1, bytes - 1);
        break;
    default:
        check_good(data + 1, bytes - 1);
    }
    return 0;
}
