/*
 * The opening handshake of a WebSocket (RFC 6455, 4.1): its URL, the request's text and the check
 * of the answer. Bytes in, bytes out; the channel is ws.c's.
 */
#ifndef SLUICE_TOOLS_WS_UPGRADE_H
#define SLUICE_TOOLS_WS_UPGRADE_H

#include "options.h"

#include <stddef.h>

#define UPGRADE_KEY_CHARS    24u
#define UPGRADE_RESPONSE_MAX (16u << 10)
#define UPGRADE_REQUEST_MAX  (16u << 10)

struct upgrade {
    char key[UPGRADE_KEY_CHARS + 1];   /* Sec-WebSocket-Key */
    const struct option_list *headers; /* of the request, borrowed */
};

/**
 * What to open for "ws://host:port/path" (port 80 if none is given): tcp://host:port. The path goes
 * to o->path unless --path was given. Other targets stay as they are. Checks path and headers, too.
 *
 * @param tcp     room for the URL.
 * @param target  receives what to open: tcp or the argument.
 * @return 0, or an exit code after one line on stderr.
 */
int upgrade_target(struct options *o, char *tcp, size_t tcp_bytes, const char **target);

/** The request for path on host, with the headers given. Bytes, or negative: it is too long. */
int upgrade_request(struct upgrade *u, char *out, size_t out_bytes, const char *host,
                    const char *path, const struct option_list *headers);

/**
 * @param response  what the peer has sent so far.
 * @param why       receives a line when it is refused.
 * @return bytes of a good answer (what follows are frames), 0: not whole yet, -1: refused.
 */
int upgrade_check(const struct upgrade *u, const char *response, size_t bytes, char *why,
                  size_t why_bytes);

/**
 * The server's side: what to answer to a request, without subprotocols and extensions.
 *
 * @param out  receives the answer, a text; 256 bytes are enough.
 * @return bytes of the request (what follows are frames), 0: not whole yet, -1: it is none.
 */
int upgrade_answer(const char *request, size_t bytes, char *out, size_t out_bytes);

#endif
