/*
 * The peer: a process that echoes, plain or TLS, until it is killed. No call of its fails.
 */
#include "torture.h"
#include "base/check.h"

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static SSL_CTX *make_context(const char *certs)
{
    char cert[512], key[512];
    snprintf(cert, sizeof(cert), "%s/good.pem", certs);
    snprintf(key, sizeof(key), "%s/good.key", certs);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SLUICE_CHECK(ctx && SSL_CTX_use_certificate_chain_file(ctx, cert) == 1);
    SLUICE_CHECK(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1);
    return ctx;
}

static void echo_plain(int fd)
{
    static char bytes[65536];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0 && send(fd, bytes, (size_t)n, 0) == n)
        ;
}

static void echo_tls(int fd, SSL_CTX *ctx)
{
    static char bytes[16384];
    int n;
    SSL *ssl = SSL_new(ctx);
    SLUICE_CHECK(ssl && SSL_set_fd(ssl, fd));
    if (SSL_accept(ssl) == 1) {
        while ((n = SSL_read(ssl, bytes, sizeof(bytes))) > 0 && SSL_write(ssl, bytes, n) == n)
            ;
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
}

static void serve(int listener, SSL_CTX *ctx)
{
    const struct timeval limit = {.tv_sec = 5};
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        SLUICE_CHECK(fd >= 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (ctx)
            echo_tls(fd, ctx);
        else
            echo_plain(fd);
        close(fd);
    }
}

int peer_start(uint16_t *port, bool tls, const char *certs)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SLUICE_CHECK(bind(listener, (struct sockaddr *)&addr, bytes) == 0);
    SLUICE_CHECK(listen(listener, 64) == 0);
    SLUICE_CHECK(getsockname(listener, (struct sockaddr *)&addr, &bytes) == 0);
    *port = ntohs(addr.sin_port);
    int pid = fork();
    SLUICE_CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        serve(listener, tls ? make_context(certs) : NULL);
    }
    close(listener);
    return pid;
}
