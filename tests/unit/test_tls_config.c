/*
 * What a configuration is refused for, the list of providers, and the heap once a session is open.
 */
#include "tests/tls/pair.h"
#include "tests/tls/traits.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/bio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void expect_refused(const struct sluice_tls_config *cfg, const char *word)
{
    struct sluice_tls_context *ctx = (void *)&ctx;
    struct sluice_tls_error err;
    cr_expect_eq(tls_provider()->context_create(&ctx, cfg, &err), -EINVAL, "%s", word);
    cr_expect_null(ctx);
    cr_expect_eq(err.reason, SLUICE_REASON_TLS_CONFIG, "%s", word);
    cr_expect(strstr(err.text, word), "no \"%s\": %s", word, err.text);
}

#define REFUSED(base, field, value, word)      \
    do {                                       \
        struct sluice_tls_config cfg = base(); \
        cfg.field = value;                     \
        expect_refused(&cfg, word);            \
    } while (0)

Test(tls_config, files_that_are_missing_or_wrong)
{
    REFUSED(client_config, ca, certs("missing.pem"), "No such file");
    REFUSED(client_config, ca, certs("garbage.pem"), "ca ");
    REFUSED(client_config, ca, "", "ca ");
    REFUSED(client_config, crl, certs("missing.pem"), "No such file");
    REFUSED(client_config, crl, certs("garbage.pem"), "crl ");
    REFUSED(client_config, cert, certs("missing.pem"), "No such file");
    REFUSED(client_config, key, certs("good.key"), "cert");
    REFUSED(server_config, cert, certs("garbage.pem"), "cert ");
    REFUSED(server_config, cert, NULL, "cert");
    REFUSED(server_config, key, certs("rsa.key"), "key ");
    REFUSED(server_config, key, certs("encrypted.key"), "key ");
    REFUSED(server_config, key, certs("garbage.pem"), "key ");
    REFUSED(server_config, client_cert, SLUICE_TLS_CERT_ASK, "ca");
}

static void expect_unsupported(const struct sluice_tls_config *cfg, const char *what)
{
    struct sluice_tls_context *ctx = (void *)&ctx;
    struct sluice_tls_error err;
    cr_expect_eq(tls_provider()->context_create(&ctx, cfg, &err), -ENOTSUP);
    cr_expect_null(ctx);
    cr_expect_eq(err.reason, SLUICE_REASON_UNSUPPORTED);
    cr_expect(strstr(err.text, what) && strstr(err.text, "--tls-provider"), "%s", err.text);
}

Test(tls_config, a_key_log_that_cannot_be)
{
    struct sluice_tls_config cfg = client_config();
    cfg.keylog = "/nowhere/keys";
    if (traits()->tells_secrets)
        expect_refused(&cfg, "keylog");
    else
        expect_unsupported(&cfg, "keylog");
}

Test(tls_config, resumption_where_there_is_none)
{
    struct sluice_tls_config cfg = client_config();
    cfg.resume = true;
    if (traits()->resumes)
        tls_provider()->context_destroy(must_context(&cfg));
    else
        expect_unsupported(&cfg, "resume");
}

Test(tls_config, our_own_certificate_must_be_strong_as_well)
{
    struct sluice_tls_config cfg = server_config();
    cfg.cert = certs("rsa-1024.pem");
    cfg.key = certs("rsa-1024.key");
    expect_refused(&cfg, "too small");
}

Test(tls_config, ciphers)
{
    static const char *const bad[] = {"",
                                      "NO-SUCH-CIPHER",
                                      "ECDHE-ECDSA-AES128-GCM-SHA256:NO-SUCH-CIPHER",
                                      "TLS_X",
                                      ":",
                                      "ECDHE-ECDSA-AES128-GCM-SHA256:"};
    for (size_t i = 0; i < COUNT(bad); i++)
        REFUSED(client_config, ciphers, bad[i], "ciphers");
    struct sluice_tls_config cfg = client_config();
    cfg.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    cfg.min = SLUICE_TLS_MIN_1_3;
    expect_refused(&cfg, "ciphers");
    /* The level is not theirs to lower: a weak certificate of ours is still refused. */
    cfg = server_config();
    cfg.ciphers = "ALL:@SECLEVEL=0";
    cfg.cert = certs("rsa-1024.pem");
    cfg.key = certs("rsa-1024.key");
    expect_refused(&cfg, traits()->cipher_patterns ? "too small" : "no patterns");
}

Test(tls_config, pins_and_names)
{
    static const char hex[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    static const char *const bad[] = {
        "",
        "00",
        "0011223344556677889aabbccddeeff00112233445566778899aabbccddeeffg",
        ",",
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeefg",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!"};
    char many[700] = "", name[300];
    for (size_t i = 0; i < COUNT(bad); i++)
        REFUSED(client_config, pin_sha256, bad[i], "pin-sha256");
    for (int i = 0; i < 9; i++)
        strcat(strcat(many, i ? "," : ""), hex);
    REFUSED(client_config, pin_sha256, many, "pin-sha256");
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    REFUSED(client_config, verify_name, name, "255");
    REFUSED(client_config, sni, name, "255");
    REFUSED(client_config, alpn, "", "alpn");
    REFUSED(client_config, alpn, "a,,b", "alpn");
    REFUSED(client_config, alpn, name, "alpn");
}

Test(tls_config, a_folder_of_authorities)
{
    struct sluice_tls_config cfg = client_config();
    cfg.ca = certs(""); /* not hashed: it is taken, and trusts nobody */
    struct sluice_tls_context *ctx = must_context(&cfg);
    tls_provider()->context_destroy(ctx);
}

/* ---- providers ---- */

Test(tls_config, providers_by_name)
{
    size_t count = 0;
    while (sluice_tls_providers[count])
        count++;
    cr_assert_geq(count, 1u);
    cr_expect_str_eq(sluice_tls_providers[count - 1]->name, "none");
    for (size_t i = 0; i < count; i++) {
        cr_expect_eq(sluice_tls_find(sluice_tls_providers[i]->name), sluice_tls_providers[i]);
        cr_expect(strlen(sluice_tls_providers[i]->version()) > 0);
    }
    cr_expect_eq(sluice_tls_find(NULL), sluice_tls_providers[0]);
    cr_expect_eq(sluice_tls_find("auto"), sluice_tls_providers[0]);
    cr_expect_null(sluice_tls_find("nosuch"));
}

Test(tls_config, none_refuses_with_its_reason)
{
    const struct sluice_tls_provider *none = sluice_tls_find("none");
    struct sluice_tls_context *ctx = (void *)&ctx;
    struct sluice_tls_error err;
    struct sluice_tls_config cfg = client_config();
    cr_expect_eq(none->context_create(&ctx, &cfg, &err), -ENOTSUP);
    cr_expect_null(ctx);
    cr_expect_eq(err.reason, SLUICE_REASON_UNSUPPORTED);
    none->context_destroy(NULL);
}

Test(tls_config, destroying_nothing_is_fine)
{
    tls_provider()->session_destroy(NULL);
    tls_provider()->context_destroy(NULL);
}

Test(tls_config, what_others_left_in_the_error_queue_hurts_nobody)
{
    struct pair p;
    char byte;
    pair_open_default(&p);
    cr_assert_null(BIO_new_file(certs("missing.pem"), "r"));
    cr_expect_eq(end_read(&p.client, &byte, 1), -EAGAIN);
    end_write(&p.server, &p.client, "abc", 3);
    p.client.step = 1;
    cr_assert_null(BIO_new_file(certs("missing.pem"), "r"));
    cr_expect_eq(end_read(&p.client, &byte, 1), 1, "%s", p.client.s->error.text);
    pair_close(&p);
}
