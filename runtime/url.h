/*
 * Addresses as people write them: "tcp://host:port", and "HOST:PORT:ADDRESS" overrides.
 */
#ifndef SLUICE_URL_H
#define SLUICE_URL_H

#define URL_HOST_MAX 256

struct sluice_url {
    char scheme[16];
    char host[URL_HOST_MAX]; /* without brackets */
    char port[8];            /* decimal, 1 to 65535; of an own address from 0 */
};

/* 0 or -EINVAL. */
int sluice_url_parse(struct sluice_url *out, const char *text);

/* The same of an address to listen at: port 0 is one that is free. */
int sluice_url_parse_local(struct sluice_url *out, const char *text);

/* The address that an override "HOST:PORT:ADDRESS" gives for this host and port, or NULL. */
const char *sluice_url_override(const char *override, const char *host, const char *port);

#endif
