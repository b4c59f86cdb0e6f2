/*
 * Hostile bytes to a TLS session. The first byte of an input says what it is:
 *   0  a client's handshake gets the rest       2  a handshake of two with bytes of it changed
 *   1  a server's handshake gets the rest       3  an open connection: the rest is what happens
 * The reader must get what the writer wrote, from the first byte on, and nothing else; a failure is
 * final; no call takes or gives more than there is.
 */
#include "tests/fuzz/fuzz.h"
#include "rings/memory.h"
#include "tls/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING_BYTES 65536u
#define WIRE_BYTES (1u << 20)

struct side {
    struct sluice_tls_session *s;
    uint8_t *ring, *wire; /* wire: what came for it, [head, tail) not taken yet */
    size_t head, tail;
    uint64_t written, read; /* bytes of the stream that it wrote, and that it got */
};

static struct side client, server;
static struct sluice_tls_context *contexts[2];
static const struct sluice_tls_provider *tls;

static struct sluice_tls_context *make_context(enum sluice_tls_role role)
{
    const char *folder = getenv("TESTS_CERTS");
    char ca[512], cert[512], key[512];
    struct sluice_tls_error err;
    struct sluice_tls_context *ctx;
    snprintf(ca, sizeof(ca), "%s/root.crt", folder ? folder : ".");
    snprintf(cert, sizeof(cert), "%s/good.pem", folder ? folder : ".");
    snprintf(key, sizeof(key), "%s/good.key", folder ? folder : ".");
    const struct sluice_tls_config cfg = {.role = role,
                                          .ca = ca,
                                          .cert = role == SLUICE_TLS_SERVER ? cert : NULL,
                                          .key = role == SLUICE_TLS_SERVER ? key : NULL,
                                          .alpn = "http/1.1",
                                          .tickets = true};
    if (tls->context_create(&ctx, &cfg, &err)) {
        fprintf(stderr, "TESTS_CERTS must name what make_certs.py made: %s\n", err.text);
        abort();
    }
    return ctx;
}

static void make_side(struct side *side)
{
    int fd = sluice_memory_create("fuzz", RING_BYTES);
    side->ring = fd < 0 ? NULL : sluice_memory_map_twice(fd, 0, RING_BYTES, true);
    side->wire = malloc(WIRE_BYTES);
    close(fd);
    MUST(side->ring && side->wire);
}

static void set_up_once(void)
{
    if (tls)
        return;
    tls = sluice_tls_find(getenv("TLS_PROVIDER"));
    MUST(tls);
    contexts[0] = make_context(SLUICE_TLS_CLIENT);
    contexts[1] = make_context(SLUICE_TLS_SERVER);
    make_side(&client);
    make_side(&server);
}

static void open_side(struct side *side, struct sluice_tls_context *ctx, const char *host)
{
    struct sluice_tls_error err;
    side->head = side->tail = 0;
    side->written = side->read = 0;
    MUST(tls->session_create(&side->s, ctx, host, side->ring, RING_BYTES, &err) == 0);
}

/* ---- the wire ---- */

static void arrive(struct side *to, const uint8_t *data, size_t bytes)
{
    if (bytes > WIRE_BYTES - to->tail)
        bytes = WIRE_BYTES - to->tail;
    memcpy(to->wire + to->tail, data, bytes);
    to->tail += bytes;
}

static void flush(struct side *from, struct side *to)
{
    const uint8_t *data;
    size_t bytes = sluice_tls_output(from->s, &data);
    MUST(bytes <= RING_BYTES);
    arrive(to, data, bytes);
    sluice_tls_sent(from->s, bytes);
}

static struct sluice_tls_input window(const struct side *side, size_t step)
{
    size_t bytes = side->tail - side->head;
    return (struct sluice_tls_input){side->wire + side->head, bytes < step ? bytes : step};
}

static void took(struct side *side, const struct sluice_tls_input *before,
                 const struct sluice_tls_input *after)
{
    MUST(after->bytes <= before->bytes);
    MUST(after->data == before->data + (before->bytes - after->bytes));
    side->head += before->bytes - after->bytes;
}

static int handshake(struct side *side, size_t step)
{
    struct sluice_tls_input before = window(side, step), in = before;
    int rc = tls->handshake(side->s, &in);
    took(side, &before, &in);
    MUST(rc == 0 || rc == -EAGAIN || rc == -ENOBUFS || rc == -EPROTO);
    MUST((rc == 0) == (side->s->state == SLUICE_TLS_OPEN));
    MUST((rc == -EPROTO) == (side->s->error.reason != SLUICE_REASON_NONE));
    return rc;
}

static uint8_t byte_at(uint64_t position)
{
    return (uint8_t)(position * 2654435761u >> 16);
}

/* One call of read(): whether it is worth another. */
static bool read_some(struct side *side, const struct side *writer, size_t step, size_t room)
{
    static uint8_t got[20000];
    struct sluice_tls_input before = window(side, step), in = before;
    bool failed = side->s->state == SLUICE_TLS_FAILED;
    memset(got, 0xEE, sizeof(got));
    ssize_t n = tls->read(side->s, &in, got, room);
    took(side, &before, &in);
    MUST(!failed || n == -EPROTO);
    MUST(n <= (ssize_t)room);
    size_t end = n > 0 ? (size_t)n : 0;
    MUST(n < 0 || side->read + end <= writer->written);
    for (size_t i = 0; i < end; i++)
        MUST(got[i] == byte_at(side->read + i));
    for (size_t i = end; i < sizeof(got); i++) /* no byte that was not authenticated */
        MUST(got[i] == 0xEE);
    side->read += end;
    return n > 0 || (n == -EAGAIN && in.bytes < before.bytes);
}

static void write_some(struct side *side, size_t bytes)
{
    static uint8_t data[SLUICE_TLS_RECORD_MAX];
    if (bytes == 0 || bytes > sizeof(data))
        bytes = 1;
    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_at(side->written + i);
    bool room = sluice_tls_has_room(side->s, bytes);
    ssize_t n = tls->write(side->s, data, bytes);
    MUST(n == (ssize_t)bytes || n < 0);
    MUST(n != -EAGAIN || !room);
    side->written += n > 0 ? (size_t)n : 0;
}

static bool shake_hands(size_t step)
{
    for (int i = 0; i < 400; i++) {
        int a = handshake(&client, step);
        flush(&client, &server);
        int b = handshake(&server, step);
        flush(&server, &client);
        if (a == -EPROTO || b == -EPROTO)
            return false;
        if (a == 0 && b == 0)
            return true;
    }
    return false;
}

/* ---- the four kinds ---- */

static void feed_handshake(struct side *side, const uint8_t *data, size_t bytes)
{
    handshake(side, SIZE_MAX);
    arrive(side, data, bytes);
    for (int i = 0; i < 1000 && side->head < side->tail; i++) {
        size_t before = side->head;
        int rc = handshake(side, 100);
        sluice_tls_sent(side->s, (size_t)(side->s->out_tail - side->s->out_head));
        if (rc == -EPROTO || (rc == -EAGAIN && side->head == before))
            break;
        MUST(rc != 0); /* who could have made that up? */
    }
    MUST(sluice_tls_eof(side->s) == -EPROTO);
}

static void change_handshake(const uint8_t *data, size_t bytes)
{
    for (int i = 0; i < 6; i++) {
        struct side *to = i & 1 ? &client : &server, *from = i & 1 ? &server : &client;
        if (from->s->state == SLUICE_TLS_HANDSHAKE)
            handshake(from, SIZE_MAX);
        size_t begin = to->tail;
        flush(from, to);
        if (bytes >= 4 && data[0] % 6 == i && to->tail > begin) {
            size_t at = begin + (size_t)(data[1] << 8 | data[2]) % (to->tail - begin);
            to->wire[at] ^= data[3];
            data += 4;
            bytes -= 4;
        }
    }
    if (client.s->state == SLUICE_TLS_OPEN && server.s->state == SLUICE_TLS_OPEN) {
        write_some(&server, 100);
        flush(&server, &client);
        while (read_some(&client, &server, SIZE_MAX, 1000))
            ;
    }
}

static void happen(const uint8_t *op)
{
    struct side *a = op[0] & 0x80 ? &client : &server, *b = op[0] & 0x80 ? &server : &client;
    size_t number = (size_t)(op[1] << 8 | op[2]), waiting = b->tail - b->head;
    switch (op[0] & 7) {
    case 0:
        write_some(a, number % (SLUICE_TLS_RECORD_MAX + 1));
        break;
    case 1:
        flush(a, b);
        break;
    case 2:
        if (waiting)
            b->wire[b->head + number % waiting] ^= (uint8_t)(op[0] >> 3 | 1);
        break;
    case 3:
        b->tail -= waiting ? number % waiting : 0;
        break;
    case 4:
        arrive(b, op, 3);
        break;
    case 5:
        if (a->s->state == SLUICE_TLS_OPEN)
            tls->rekey(a->s, number & 1);
        break;
    case 6:
        if (number % 5 == 0)
            tls->close(a->s);
        else if (number % 5 == 1)
            sluice_tls_eof(b->s);
        break;
    default:
        for (int i = 0; i < 100 && read_some(b, a, number ? number : 1, 1 + number % 17000); i++)
            ;
    }
}

static void play(const uint8_t *data, size_t bytes)
{
    MUST(shake_hands(SIZE_MAX));
    for (unsigned i = 0; i < 200 && bytes >= 3; i++, data += 3, bytes -= 3)
        happen(data);
    flush(&server, &client);
    for (int i = 0; i < 1000 && read_some(&client, &server, SIZE_MAX, 20000); i++)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    set_up_once();
    open_side(&client, contexts[0], "good.example.test");
    open_side(&server, contexts[1], NULL);
    switch (data[0] & 3) {
    case 0:
        feed_handshake(&client, data + 1, bytes - 1);
        break;
    case 1:
        feed_handshake(&server, data + 1, bytes - 1);
        break;
    case 2:
        change_handshake(data + 1, bytes - 1);
        break;
    default:
        play(data + 1, bytes - 1);
    }
    tls->session_destroy(client.s);
    tls->session_destroy(server.s);
    return 0;
}
