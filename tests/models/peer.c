/*
 * The peer: see peer.h.
 */
#include "peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE    (64u << 10)
#define LOST_S   20
#define NAP_EACH (64u << 10) /* bytes of a slow reader between naps */

static bool bad(struct peer *p, bool wrong, const char *text)
{
    return found(&p->finding, wrong, text, p->taken_bytes) || p->finding.text;
}

void peer_nap(struct peer *p, uint32_t up_to_us)
{
    const struct timespec time = {.tv_nsec = (long)random_below(&p->seed, up_to_us) * 1000};
    nanosleep(&time, NULL);
}

/* ---- bytes ---- */

static void send_all(struct peer *p, const uint8_t *bytes, size_t count)
{
    while (count > 0 && !p->finding.text) {
        ssize_t n =
            p->ssl ? SSL_write(p->ssl, bytes, (int)count) : send(p->fd, bytes, count, MSG_NOSIGNAL);
        if (bad(p, n <= 0, "the engine takes no more"))
            return;
        bytes += n;
        count -= (size_t)n;
        p->sent_bytes += (uint64_t)n;
    }
}

void peer_send(struct peer *p, uint64_t bytes)
{
    static uint8_t piece[PIECE];
    for (uint64_t end = p->sent_bytes + bytes; p->sent_bytes < end && !p->finding.text;) {
        uint64_t n = end - p->sent_bytes < PIECE ? end - p->sent_bytes : PIECE;
        stream_fill(piece, p->sent_bytes, n);
        send_all(p, piece, n);
    }
}

void peer_dribble(struct peer *p, uint64_t bytes)
{
    while (bytes-- > 0 && !p->finding.text)
        peer_send(p, 1);
}

static void message_taken(struct peer *p)
{
    const struct message_header *h = &p->header;
    uint32_t *count = h->is_pong ? &p->pongs : &p->messages;
    bad(p, h->number != *count, "a message out of order");
    ++*count;
    p->message_bytes = 0;
}

/* Headers and bytes, however they are cut. */
static void take_bytes(struct peer *p, const uint8_t *bytes, size_t count)
{
    while (count > 0 && !p->finding.text) {
        struct message_header *h = &p->header;
        size_t at = p->message_bytes, n;
        if (at < sizeof(*h)) {
            n = sizeof(*h) - at < count ? sizeof(*h) - at : count;
            memcpy((uint8_t *)h + at, bytes, n);
        } else {
            n = h->bytes - at < count ? h->bytes - at : count;
            bad(p, !stream_matches(bytes, h->number + at - sizeof(*h), n), "a wrong byte");
        }
        bytes += n;
        count -= n;
        p->message_bytes += (uint32_t)n;
        p->taken_bytes += n;
        if (p->message_bytes == sizeof(*h) && at < sizeof(*h))
            bad(p, h->check != MESSAGE_CHECK(h), "no header where one is due");
        if (p->message_bytes >= sizeof(*h) && p->message_bytes == h->bytes)
            message_taken(p);
    }
}

/* 0: the engine's end. */
static size_t take_some(struct peer *p)
{
    static uint8_t piece[PIECE];
    ssize_t n =
        p->ssl ? SSL_read(p->ssl, piece, sizeof(piece)) : recv(p->fd, piece, sizeof(piece), 0);
    if (p->ssl && n <= 0)
        n = SSL_get_error(p->ssl, (int)n) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
    p->ended |= n == 0;
    if (bad(p, n < 0, "nothing comes from the engine"))
        return 0;
    take_bytes(p, piece, (size_t)n);
    return (size_t)n;
}

void peer_take(struct peer *p, uint32_t messages)
{
    while (p->messages < messages && !p->finding.text)
        bad(p, take_some(p) == 0, "the engine ended early");
}

void peer_take_pongs(struct peer *p, uint32_t pongs)
{
    while (p->pongs < pongs && !p->finding.text)
        bad(p, take_some(p) == 0, "the engine ended early");
}

void peer_take_slowly(struct peer *p, uint32_t messages)
{
    uint64_t napped = 0;
    while (p->messages < messages && !p->finding.text) {
        bad(p, take_some(p) == 0, "the engine ended early");
        if (p->taken_bytes - napped < NAP_EACH)
            continue;
        napped = p->taken_bytes;
        peer_nap(p, 3000);
    }
}

void peer_take_to_end(struct peer *p)
{
    while (!p->ended && !p->finding.text)
        take_some(p);
    bad(p, p->message_bytes != 0, "half a message at the end");
}

/* ---- ends ---- */

void peer_half_close(struct peer *p)
{
    if (p->ssl)
        SSL_shutdown(p->ssl);
    shutdown(p->fd, SHUT_WR);
}

void peer_reset(struct peer *p)
{
    const struct linger at_once = {.l_onoff = 1};
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(p->fd);
    p->fd = -1;
}

/* ---- its thread ---- */

static void accept_one(struct peer *p)
{
    const int one = 1;
    const struct timeval limit = {.tv_sec = LOST_S};
    p->fd = accept(p->listener, NULL, NULL);
    if (bad(p, p->fd < 0, "nobody connects"))
        return;
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (!p->tls)
        return;
    p->ssl = SSL_new(p->tls);
    SLUICE_CHECK(p->ssl && SSL_set_fd(p->ssl, p->fd));
    bad(p, SSL_accept(p->ssl) != 1, "no TLS handshake");
}

static void *serve(void *arg)
{
    struct peer *p = arg;
    accept_one(p);
    if (!p->finding.text)
        p->script->peer(p);
    SSL_free(p->ssl);
    ERR_clear_error();
    if (p->fd >= 0)
        close(p->fd);
    return NULL;
}

void peer_start(struct peer *p, const struct script *script, SSL_CTX *tls)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    const struct timeval limit = {.tv_sec = LOST_S};
    *p = (struct peer){.script = script, .tls = tls, .fd = -1, .seed = 11};
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SLUICE_CHECK(p->listener >= 0);
    setsockopt(p->listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    must(bind(p->listener, (struct sockaddr *)&addr, sizeof(addr)));
    must(listen(p->listener, 1));
    must(getsockname(p->listener, (struct sockaddr *)&addr, &bytes));
    p->port = ntohs(addr.sin_port);
    start_thread(&p->thread, serve, p);
}

void peer_join(struct peer *p)
{
    join_thread(p->thread);
    close(p->listener);
}
