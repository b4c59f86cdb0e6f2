/*
 * What the running kernel can do, asked directly: kTLS both ways between two loopback sockets with
 * fixed keys, per version and cipher; a wrong key; a rekey; io_uring. Nothing of sluice is in it.
 * On a kernel without kTLS its points are skipped; in a guest (TESTS_GUEST) they fail.
 */
#include "tests/support/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#define BYTES            (256 * 1024)
#define HANDSHAKE_RECORD 22

/* Two ends of a loopback connection. */
struct ends {
    int a, b;
};

union key {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes128;
    struct tls12_crypto_info_aes_gcm_256 aes256;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

struct cipher {
    const char *name;
    uint16_t type;
    socklen_t size; /* of its part of union key */
};

static const struct cipher ciphers[] = {
    {"AES-128-GCM", TLS_CIPHER_AES_GCM_128, sizeof(struct tls12_crypto_info_aes_gcm_128)},
    {"AES-256-GCM", TLS_CIPHER_AES_GCM_256, sizeof(struct tls12_crypto_info_aes_gcm_256)},
    {"ChaCha20-Poly1305", TLS_CIPHER_CHACHA20_POLY1305,
     sizeof(struct tls12_crypto_info_chacha20_poly1305)},
};

static uint8_t sent[BYTES], got[BYTES];

static const char *guest(void)
{
    const char *name = getenv("TESTS_GUEST");
    return name ? name : "";
}

/* A key, nonce and salt of one letter, sequence 0. */
static union key make_key(const struct cipher *c, uint16_t version, char letter)
{
    union key key;
    memset(&key, letter, sizeof(key));
    key.info.version = version;
    key.info.cipher_type = c->type;
    uint8_t *sequence = (uint8_t *)&key + c->size - TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE;
    memset(sequence, 0, TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE); /* last in each, 8 bytes in all */
    return key;
}

/* Install a key: 0, or -errno. */
static int set_key(int fd, int direction, const struct cipher *c, uint16_t version, char letter)
{
    union key key = make_key(c, version, letter);
    return setsockopt(fd, SOL_TLS, direction, &key, c->size) < 0 ? -errno : 0;
}

static bool open_ends(struct ends *e)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    e->a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    e->b = -1;
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&at, &length) == 0 &&
        connect(e->a, (struct sockaddr *)&at, sizeof(at)) == 0)
        e->b = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    const struct timeval limit = {.tv_sec = 10};
    return e->b >= 0 && setsockopt(e->a, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
           setsockopt(e->b, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0;
}

static void close_ends(const struct ends *e)
{
    close(e->a);
    close(e->b);
}

/* 0, or -errno. */
static int set_ulp(int fd)
{
    return setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls")) < 0 ? -errno : 0;
}

/* A connection with keys from a to b; false with a note where that fails. */
static bool open_tls(struct ends *e, const struct cipher *c, uint16_t version, char tx, char rx)
{
    int error = open_ends(e) ? 0 : -errno;
    error = error ? error : set_ulp(e->a);
    error = error ? error : set_ulp(e->b);
    error = error ? error : set_key(e->b, TLS_RX, c, version, rx);
    error = error ? error : set_key(e->a, TLS_TX, c, version, tx);
    if (error)
        tap_note("%s", strerror(-error));
    return error == 0;
}

/* All bytes from a to b, a little at a time: no thread is needed. */
static bool bytes_cross(const struct ends *e)
{
    memset(got, 0, sizeof(got));
    for (size_t at = 0; at < BYTES;) {
        size_t part = 20000 < BYTES - at ? 20000 : BYTES - at; /* more than a record */
        if (send(e->a, sent + at, part, MSG_NOSIGNAL) != (ssize_t)part ||
            recv(e->b, got + at, part, MSG_WAITALL) != (ssize_t)part) {
            tap_note("at %zu: %s", at, strerror(errno));
            return false;
        }
        at += part;
    }
    return memcmp(sent, got, BYTES) == 0;
}

static void check_both_ways(const struct cipher *c, uint16_t version, const char *name)
{
    struct ends e;
    bool there = open_tls(&e, c, version, 'k', 'k') && bytes_cross(&e);
    struct ends back = {.a = e.b, .b = e.a};
    bool again = there && set_key(e.b, TLS_TX, c, version, 'l') == 0 &&
                 set_key(e.a, TLS_RX, c, version, 'l') == 0 && bytes_cross(&back);
    tap_ok(again, "kTLS, TLS %s, %s: keys are taken and bytes cross both ways", name, c->name);
    close_ends(&e);
}

static void check_wrong_key(void)
{
    struct ends e;
    bool open = open_tls(&e, &ciphers[0], TLS_1_3_VERSION, 'k', 'x');
    bool out = open && send(e.a, sent, 10, MSG_NOSIGNAL) == 10;
    ssize_t n = out ? recv(e.b, got, 10, 0) : 0;
    tap_ok(n < 0 && errno == EBADMSG, "kTLS: a record of another key is EBADMSG");
    close_ends(&e);
}

/* A KeyUpdate that asks for none in return. */
static bool send_key_update(int fd)
{
    uint8_t message[] = {24, 0, 0, 1, 0};
    union {
        char room[CMSG_SPACE(1)];
        struct cmsghdr aligned;
    } control = {0};
    struct iovec iov = {.iov_base = message, .iov_len = sizeof(message)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_TLS;
    cmsg->cmsg_type = TLS_SET_RECORD_TYPE;
    cmsg->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(cmsg) = HANDSHAKE_RECORD;
    return sendmsg(fd, &msg, MSG_NOSIGNAL) == sizeof(message);
}

static bool take_key_update(int fd)
{
    char control[CMSG_SPACE(1)];
    struct iovec iov = {.iov_base = got, .iov_len = sizeof(got)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &msg, 0);
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    return n == 5 && cmsg && *CMSG_DATA(cmsg) == HANDSHAKE_RECORD && got[0] == 24;
}

static void check_rekey(void)
{
    const char *name = "kTLS, TLS 1.3: a second key after a KeyUpdate";
    const struct cipher *c = &ciphers[0];
    struct ends e;
    bool open = open_tls(&e, c, TLS_1_3_VERSION, 'k', 'k') && bytes_cross(&e) &&
                send_key_update(e.a) && take_key_update(e.b);
    int error = open ? set_key(e.b, TLS_RX, c, TLS_1_3_VERSION, 'n') : -EPROTO;
    if (error == -EBUSY && strncmp(guest(), "uml", 3) == 0) {
        tap_skip(name, "EBUSY: this kernel is older than 6.14");
    } else {
        error = error ? error : set_key(e.a, TLS_TX, c, TLS_1_3_VERSION, 'n');
        tap_ok(error == 0 && bytes_cross(&e), "%s", name);
        if (error)
            tap_note("%s", strerror(-error));
    }
    close_ends(&e);
}

static void check_ktls(void)
{
    struct ends e;
    int error = open_ends(&e) ? set_ulp(e.a) : -errno;
    close_ends(&e);
    if (error && !*guest()) {
        tap_skip("kTLS", "this kernel has none; the guests of tests/vm do");
        return;
    }
    for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
        check_both_ways(&ciphers[i], TLS_1_2_VERSION, "1.2");
        check_both_ways(&ciphers[i], TLS_1_3_VERSION, "1.3");
    }
    check_wrong_key();
    check_rekey();
}

static bool takes_flags(unsigned flags)
{
    struct io_uring ring;
    if (io_uring_queue_init(4, &ring, flags) < 0)
        return false;
    io_uring_queue_exit(&ring);
    return true;
}

static void check_io_uring(void)
{
    struct io_uring ring;
    struct io_uring_params params = {0};
    struct io_uring_cqe *cqe;
    int error = io_uring_queue_init_params(8, &ring, &params);
    if (!tap_ok(error == 0, "io_uring: a ring"))
        return;
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    tap_ok(io_uring_submit_and_wait(&ring, 1) == 1 && io_uring_wait_cqe(&ring, &cqe) == 0 &&
               cqe->res == 0,
           "io_uring: a completion");
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    tap_note("features 0x%x, last opcode %d, single issuer with deferred task work: %s",
             params.features, probe ? probe->last_op : -1,
             takes_flags(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) ? "yes" : "no");
    io_uring_free_probe(probe);
    io_uring_queue_exit(&ring);
}

int main(void)
{
    struct utsname name;
    tap_begin();
    if (uname(&name) == 0)
        tap_note("kernel %s", name.release);
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 7 + i / 251);
    check_ktls();
    check_io_uring();
    return tap_end();
}
