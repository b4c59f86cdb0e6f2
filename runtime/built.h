/*
 * The library versions this build found. meson.build defines them; a compiler that looks at a file
 * alone (lint) does not.
 */
#ifndef SLUICE_BUILT_H
#define SLUICE_BUILT_H

#ifndef BUILT_LIBURING
#define BUILT_LIBURING "?"
#define BUILT_OPENSSL  "?"
#define BUILT_LIBEV    "?"
#endif

#endif
