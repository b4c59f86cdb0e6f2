/*
 * Sessions that are resumed (RFC 8446 2.2, RFC 5077): a client's context keeps the newest ticket
 * and offers it to the host that gave it. What that host showed was verified when the ticket was
 * given, by the same configuration.
 */
#include "tls/openssl/openssl.h"

#include <pthread.h>
#include <string.h>

/* Of all tickets, each held for a pointer's time: sessions of a context are on several threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The lock is held. */
static bool is_of_host(const struct openssl_session *o)
{
    const struct openssl_ticket *ticket = &o->ctx->ticket;
    return ticket->session && o->host[0] && strcmp(ticket->host, o->host) == 0;
}

/* Not by OpenSSL's own cache: it knows no hosts, and offers a ticket once only, while a connection
 * that was closed at once brought no other. */
void openssl_ticket_keep(struct openssl_session *o)
{
    struct openssl_ticket *ticket = &o->ctx->ticket;
    SSL_SESSION *now = o->host[0] ? SSL_get1_session(o->ssl) : NULL;
    if (!now || !SSL_SESSION_is_resumable(now)) {
        SSL_SESSION_free(now);
        return;
    }
    pthread_mutex_lock(&lock);
    SSL_SESSION_free(ticket->session);
    ticket->session = now;
    memcpy(ticket->host, o->host, sizeof(ticket->host));
    pthread_mutex_unlock(&lock);
}

void openssl_ticket_offer(struct openssl_session *o, const char *host)
{
    struct openssl_ticket *ticket = &o->ctx->ticket;
    size_t host_bytes = host ? strlen(host) + 1 : 0;
    if (!o->ctx->resume || !host || host_bytes > sizeof(o->host))
        return;
    memcpy(o->host, host, host_bytes);
    pthread_mutex_lock(&lock);
    if (is_of_host(o))
        SSL_set_session(o->ssl, ticket->session); /* a full one where it is not good any more */
    pthread_mutex_unlock(&lock);
}

bool openssl_ticket_waits(const struct openssl_session *o)
{
    pthread_mutex_lock(&lock);
    bool waits = is_of_host(o) && SSL_SESSION_is_resumable(o->ctx->ticket.session);
    pthread_mutex_unlock(&lock);
    return waits;
}
