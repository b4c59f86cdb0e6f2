/*
 * Relays without sluice: see relay.h. Everybody sleeps; whoever has something writes to the other's
 * eventfd.
 */
#include "relay.h"
#include "tcp.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_BYTES 4096u

/* Bytes on their way to another thread, and the bell that it sleeps on. */
struct hand_off {
    _Atomic uint64_t head, tail;
    uint8_t bytes[RING_BYTES];
};

struct relay {
    int fd;
    SSL *ssl; /* three threads */
    int sender_bell, middle_bell, upstream_bell;
    struct hand_off out, received, sealed, opened;
    _Atomic bool over;
};

static void ring(int bell)
{
    BENCH_CHECK(eventfd_write(bell, 1) == 0);
}

static void sleep_on(int bell)
{
    eventfd_t count;
    BENCH_CHECK(eventfd_read(bell, &count) == 0);
}

static void put(struct hand_off *h, const void *bytes, size_t count)
{
    uint64_t tail = atomic_load_explicit(&h->tail, memory_order_relaxed);
    BENCH_CHECK(tail - atomic_load_explicit(&h->head, memory_order_acquire) + count <= RING_BYTES);
    for (size_t i = 0; i < count; i++)
        h->bytes[(tail + i) % RING_BYTES] = ((const uint8_t *)bytes)[i];
    atomic_store_explicit(&h->tail, tail + count, memory_order_release);
}

static size_t take(struct hand_off *h, uint8_t *bytes)
{
    uint64_t head = atomic_load_explicit(&h->head, memory_order_relaxed);
    size_t count = (size_t)(atomic_load_explicit(&h->tail, memory_order_acquire) - head);
    for (size_t i = 0; i < count; i++)
        bytes[i] = h->bytes[(head + i) % RING_BYTES];
    atomic_store_explicit(&h->head, head + count, memory_order_release);
    return count;
}

/* ---- threads ---- */

static void *receiver(void *arg)
{
    struct relay *r = arg;
    struct hand_off *to = r->ssl ? &r->received : &r->opened;
    uint8_t bytes[RING_BYTES];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    BENCH_CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, r->fd, &event) == 0);
    for (;;) {
        BENCH_CHECK(epoll_wait(epoll, &event, 1, -1) == 1);
        ssize_t n = recv(r->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n <= 0)
            break;
        put(to, bytes, (size_t)n);
        ring(r->ssl ? r->middle_bell : r->upstream_bell);
    }
    close(epoll);
    return NULL;
}

static void *sender(void *arg)
{
    struct relay *r = arg;
    struct hand_off *from = r->ssl ? &r->sealed : &r->out;
    uint8_t bytes[RING_BYTES];
    for (;;) {
        sleep_on(r->sender_bell);
        if (atomic_load(&r->over))
            return NULL;
        size_t count = take(from, bytes);
        if (count)
            tcp_send_all(r->fd, bytes, count);
    }
}

static void *middle(void *arg)
{
    struct relay *r = arg;
    uint8_t bytes[RING_BYTES];
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    BENCH_CHECK(in && out);
    SSL_set_bio(r->ssl, in, out);
    for (;;) {
        sleep_on(r->middle_bell);
        if (atomic_load(&r->over))
            return NULL;
        size_t count = take(&r->received, bytes);
        if (count)
            BENCH_CHECK(BIO_write(in, bytes, (int)count) == (int)count);
        int n = count ? SSL_read(r->ssl, bytes, sizeof(bytes)) : 0;
        if (n > 0) {
            put(&r->opened, bytes, (size_t)n);
            ring(r->upstream_bell);
        }
        count = take(&r->out, bytes);
        if (!count)
            continue;
        BENCH_CHECK(SSL_write(r->ssl, bytes, (int)count) == (int)count);
        n = BIO_read(out, bytes, sizeof(bytes));
        BENCH_CHECK(n > 0);
        put(&r->sealed, bytes, (size_t)n);
        ring(r->sender_bell);
    }
}

/* ---- trips ---- */

static void trip(struct relay *r, int i)
{
    uint8_t out[RELAY_BYTES], in[RING_BYTES];
    memset(out, i, sizeof(out));
    put(&r->out, out, sizeof(out));
    ring(r->ssl ? r->middle_bell : r->sender_bell);
    for (size_t got = 0; got < RELAY_BYTES;) {
        sleep_on(r->upstream_bell);
        got += take(&r->opened, in);
    }
}

static void run(struct relay *r, int trips, double *ns)
{
    pthread_t threads[3];
    int count = r->ssl ? 3 : 2;
    void *(*const bodies[])(void *) = {receiver, sender, middle};
    r->sender_bell = eventfd(0, EFD_CLOEXEC);
    r->middle_bell = eventfd(0, EFD_CLOEXEC);
    r->upstream_bell = eventfd(0, EFD_CLOEXEC);
    for (int i = 0; i < count; i++)
        BENCH_CHECK(pthread_create(&threads[i], NULL, bodies[i], r) == 0);
    for (int i = 0; i < trips; i++) {
        uint64_t start = sluice_cycles();
        trip(r, i);
        ns[i] = bench_ns(sluice_cycles() - start);
    }
    atomic_store(&r->over, true);
    shutdown(r->fd, SHUT_RDWR);
    ring(r->sender_bell);
    ring(r->middle_bell);
    for (int i = 0; i < count; i++)
        bench_join(threads[i]);
    close(r->sender_bell);
    close(r->middle_bell);
    close(r->upstream_bell);
    close(r->fd);
}

void relay_two(int fd, int trips, double *ns)
{
    static struct relay r;
    memset(&r, 0, sizeof(r));
    r.fd = fd;
    run(&r, trips, ns);
}

void relay_three(SSL *ssl, int trips, double *ns)
{
    static struct relay r;
    memset(&r, 0, sizeof(r));
    r.fd = SSL_get_fd(ssl);
    r.ssl = ssl;
    run(&r, trips, ns);
    SSL_free(ssl);
}
