/*
 * A WebSocket price client in line: receive, decide and send are one call on one thread. Prints
 * what comes, and answers a "px" below LIMIT: ws_prices ws[s]://HOST:PORT/PATH LIMIT ORDER
 */
#include <sluice/sluice.h>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

struct client {
    struct sluice_client *rings;
    wslay_event_context_ptr ws;
    uint64_t at, end; /* bytes of the inbox that are there to decode */
    bool is_open, is_over;
    char host[256], path[512], key[25];
    struct wslay_event_msg order;
    long limit;
};

/* wslay reads where the kernel wrote, */
static ssize_t give(wslay_event_context_ptr ws, uint8_t *to, size_t room, int flags, void *user)
{
    struct client *c = user;
    size_t n = c->end - c->at < room ? (size_t)(c->end - c->at) : room;
    (void)flags;
    memcpy(to, sluice_inbox_at(c->rings, c->at), n);
    c->at += n;
    return n ? (ssize_t)n : (wslay_event_set_error(ws, WSLAY_ERR_WOULDBLOCK), -1);
}

/* and writes where the kernel reads: a frame's header, then its payload. */
static ssize_t take(wslay_event_context_ptr ws, const uint8_t *from, size_t n, int flags,
                    void *user)
{
    struct client *c = user;
    void *room;
    (void)flags;
    if (sluice_outbox_claim(c->rings, n, &room)) /* full: the next on_inbox() tries again */
        return wslay_event_set_error(ws, WSLAY_ERR_WOULDBLOCK), -1;
    memcpy(room, from, n);
    sluice_outbox_commit(c->rings, 0, SLUICE_MESSAGE_DATA);
    return (ssize_t)n;
}

static int mask(wslay_event_context_ptr ws, uint8_t *to, size_t n, void *user)
{
    (void)ws, (void)user;
    return RAND_bytes(to, (int)n) == 1 ? 0 : -1;
}

/* The decision, which on_inbox() sends. PING and CLOSE are answered by wslay. */
static void on_message(wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *msg,
                       void *user)
{
    struct client *c = user;
    char text[1024];
    if (msg->opcode != WSLAY_TEXT_FRAME)
        return;
    snprintf(text, sizeof(text), "%.*s", (int)msg->msg_length, (const char *)msg->msg);
    const char *price = strstr(text, "\"px\":");
    if (price && strtol(price + 5, NULL, 10) < c->limit)
        wslay_event_queue_msg(ws, &c->order);
    puts(text);
}

static void on_open(struct sluice_transport *t, void *user)
{
    struct client *c = user;
    char text[1100];
    (void)t;
    int n = snprintf(text, sizeof(text), /* RFC 6455, 4.1 */
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     c->path, c->host, c->key);
    take(c->ws, (const uint8_t *)text, (size_t)n, 0, c);
}

/* Until it is whole it stays in the inbox, in one piece. */
static void take_answer(struct client *c)
{
    unsigned char digest[20], accept[29];
    char text[4096];
    int n = snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", c->key);
    EVP_Digest(text, (size_t)n, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock(accept, digest, sizeof(digest));
    n = (int)(c->end - c->at);
    snprintf(text, sizeof(text), "%.*s", n, (const char *)sluice_inbox_at(c->rings, c->at));
    const char *behind = strstr(text, "\r\n\r\n");
    c->is_open = behind && strncmp(text, "HTTP/1.1 101", 12) == 0 && strstr(text, (char *)accept);
    c->is_over |= behind && !c->is_open; /* refused */
    c->at += c->is_open ? (uint64_t)(behind + 4 - text) : 0;
}

static void on_inbox(struct sluice_transport *t, void *user)
{
    struct client *c = user;
    const struct sluice_meta *entry;
    bool was_over = c->is_over;
    for (; sluice_inbox_peek(c->rings, &entry, 1) == 1;
         sluice_inbox_release_to(c->rings, 1, c->at)) {
        c->end = entry->msg_inbox_offset + entry->decrypted_len;
        c->is_over |= entry->event == SLUICE_EVENT_EOF;
        if (!c->is_open)
            take_answer(c);
        if (c->is_open)
            wslay_event_recv(c->ws);
    }
    c->is_over |= c->is_open && (wslay_event_send(c->ws) || wslay_event_get_close_sent(c->ws));
    if (c->is_over && !was_over)
        sluice_transport_close(t); /* in order: what is in the outbox leaves */
}

int main(int argc, char **argv)
{
    static const struct wslay_event_callbacks callbacks = {give, take, mask,
                                                           .on_msg_recv_callback = on_message};
    static const struct sluice_transport_events events = {.on_open = on_open, .on_inbox = on_inbox};
    const struct sluice_loop_config loop_config = {.backend = getenv("BACKEND")};
    const struct sluice_channel_config channel_config = {.name = NULL};
    const struct sluice_transport_config config = {.model = SLUICE_MODEL_SINGLE};
    static struct client c;
    struct sluice_loop *loop;
    struct sluice_channel *channel;
    struct sluice_transport *transport;
    unsigned char nonce[16];
    char scheme[4], url[300], why[200] = "no memory";
    if (argc != 4 || sscanf(argv[1], "%3[ws]://%255[^/]%511s", scheme, c.host, c.path) != 3)
        return fprintf(stderr, "usage: ws_prices ws[s]://HOST:PORT/PATH LIMIT ORDER\n"), 2;
    c.limit = strtol(argv[2], NULL, 10);
    c.order = (struct wslay_event_msg){WSLAY_TEXT_FRAME, (uint8_t *)argv[3], strlen(argv[3])};
    RAND_bytes(nonce, sizeof(nonce));
    EVP_EncodeBlock((unsigned char *)c.key, nonce, sizeof(nonce));
    snprintf(url, sizeof(url), "%s://%s", scheme[2] ? "tls" : "tcp", c.host);
    if (sluice_loop_create(&loop, &loop_config, why, sizeof(why)) ||
        sluice_channel_create(&channel, &channel_config) ||
        sluice_transport_create(&transport, loop, channel, &config, &events, &c) ||
        wslay_event_context_client_init(&c.ws, &callbacks, &c))
        return fprintf(stderr, "ws_prices: %s\n", why), 1;
    c.rings = sluice_transport_upstream(transport);
    if (sluice_transport_connect(transport, url) || sluice_loop_run(loop) ||
        !wslay_event_get_close_received(c.ws))
        return fprintf(stderr, "%s: it ended badly %s\n", url, sluice_transport_why(transport)), 1;
    return 0; /* all of it goes with the process */
}
