/*
 * The BIO between OpenSSL and the caller's memory: it reads from the window of the call that is
 * under way and writes to the output ring.
 */
#include "tls/openssl/openssl.h"

#include <openssl/bio.h>
#include <pthread.h>

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static int bio_read(BIO *bio, char *to, int bytes)
{
    struct openssl_session *o = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (bytes <= 0)
        return 0;
    if (!o->in || o->in->bytes == 0) {
        o->starved = true;
        BIO_set_retry_read(bio);
        return -1;
    }
    o->took = true;
    o->keys.records_before = o->keys.records;
    return (int)sluice_tls_take(o->in, to, (size_t)bytes);
}

static int bio_write(BIO *bio, const char *data, int bytes)
{
    struct openssl_session *o = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (bytes <= 0)
        return 0;
    if (o->base.closed & SLUICE_TLS_CLOSED_BY_US)
        return bytes; /* RFC 8446 6.1: nothing follows close_notify, an answer to KeyUpdate neither
                       */
    size_t taken = sluice_tls_emit(&o->base, data, (size_t)bytes);
    if (o->base.wants_keys && o->base.state == SLUICE_TLS_HANDSHAKE)
        openssl_watch_output(&o->keys, (const uint8_t *)data, taken);
    if (taken == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    return (int)taken;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

static void make_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice");
    if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
        BIO_meth_set_ctrl(m, bio_ctrl))
        method = m;
    else
        BIO_meth_free(m);
}

BIO *openssl_bio_create(struct openssl_session *o)
{
    pthread_once(&method_once, make_method);
    BIO *bio = method ? BIO_new(method) : NULL;
    if (!bio)
        return NULL;
    BIO_set_data(bio, o);
    BIO_set_init(bio, 1);
    return bio;
}
