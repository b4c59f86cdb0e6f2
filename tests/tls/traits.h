/*
 * What a provider's library does its own way, by name: each is allowed, or refuses more than it
 * must. A test that expects something else of one provider asks here.
 */
#ifndef SLUICE_TESTS_TLS_TRAITS_H
#define SLUICE_TESTS_TLS_TRAITS_H

#include <stdbool.h>

struct tls_traits {
    const char *name;
    int unexpected_alert;   /* what a peer hears of a record that may not be; -1: nothing */
    int no_version_alert;   /* and of no version in common */
    bool tells_secrets;     /* --keylog; else it is refused */
    bool resumes;           /* a client's config.resume; else it is refused */
    bool cipher_patterns;   /* "ALL", "@SECLEVEL=0"; else they are refused */
    bool rekey_always_asks; /* a KeyUpdate always asks the peer for one */
    bool wants_names_below_constraints; /* authorities without a host's name are refused there */
    bool no_self_issued_steps;          /* authorities that gave themselves a new key are refused */
    bool short_messages; /* one of a handshake that is longer than a record or so is refused */
    bool writes_inside_messages; /* data between the parts of a message of the peer's */
};

/** Of the provider under test. */
const struct tls_traits *traits(void);

#endif
