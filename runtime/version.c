/*
 * What this build is made of, for --version.
 */
#include "built.h"
#include "sluice.h"

/* meson.build: X(openssl) X(wolfssl) */
#ifndef BUILT_TLS
#define BUILT_TLS
#endif
#define X(name) #name " "

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *sluice_version(void)
{
    return "sluice " SLUICE_VERSION "\n"
           "built with liburing " BUILT_LIBURING ", OpenSSL " BUILT_OPENSSL ", libev " BUILT_LIBEV
           "\n"
           "backends: uring, ev; models: single; TLS providers: " BUILT_TLS
           "none; channel layout " TEXT(SLUICE_LAYOUT_VERSION);
}
