/*
 * The table of traits, one row per provider.
 */
#include "tests/tls/traits.h"
#include "tests/tls/pair.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct tls_traits table[] = {
    {
        .name = "openssl",
        .unexpected_alert = 10, /* unexpected_message */
        .no_version_alert = 70, /* protocol_version */
        .tells_secrets = true,
        .resumes = true,
        .cipher_patterns = true,
    },
    {
        .name = "wolfssl", /* 5.5.4 as Debian builds it */
        .unexpected_alert = -1,
        .no_version_alert = -1,
        .rekey_always_asks = true,
        .wants_names_below_constraints = true,
        .no_self_issued_steps = true,
        .short_messages = true,
        .writes_inside_messages = true,
    },
};

const struct tls_traits *traits(void)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].name, tls_provider()->name) == 0)
            return &table[i];
    cr_assert_fail("no traits of this provider");
    return NULL;
}
