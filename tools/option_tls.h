/*
 * What the options want of TLS, as the library takes it.
 */
#ifndef SLUICE_TOOLS_OPTION_TLS_H
#define SLUICE_TOOLS_OPTION_TLS_H

#include "options.h"

/**
 * A client's configuration; texts are borrowed from the options. Warns when nobody is verified.
 *
 * @param url  what is connected to: tls:// warns.
 * @return 0, or an exit code after one line on stderr.
 */
int option_tls(struct sluice_tls_config *out, const struct options *o, const char *url);

#endif
