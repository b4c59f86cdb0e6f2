/*
 * Addresses as people write them, and the overrides of --resolve. Which schemes a transport takes
 * is runtime/transport.c's, looking names up is runtime/resolve.c's.
 */
#include "url.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void expect(const char *text, const char *scheme, const char *host, const char *port)
{
    struct sluice_url url;
    memset(&url, 0x55, sizeof(url));
    cr_assert_eq(sluice_url_parse(&url, text), 0, "%s", text);
    cr_expect_str_eq(url.scheme, scheme, "%s", text);
    cr_expect_str_eq(url.host, host, "%s", text);
    cr_expect_str_eq(url.port, port, "%s", text);
}

static void expect_refused(const char *text)
{
    struct sluice_url url;
    cr_expect_eq(sluice_url_parse(&url, text), -EINVAL, "%s", text);
}

Test(url, host_and_port)
{
    expect("tcp://localhost:80", "tcp", "localhost", "80");
    expect("tcp://127.0.0.1:1", "tcp", "127.0.0.1", "1");
    expect("tcp://stream.example.com:65535", "tcp", "stream.example.com", "65535");
    expect("tcp://h:9443/", "tcp", "h", "9443"); /* as browsers write it */
}

Test(url, ipv6_stands_in_brackets)
{
    expect("tcp://[::1]:80", "tcp", "::1", "80");
    expect("tcp://[fe80::1%eth0]:443", "tcp", "fe80::1%eth0", "443");
    expect_refused("tcp://::1:80");
    expect_refused("tcp://[::1:80");
    expect_refused("tcp://[::1]80");
    expect_refused("tcp://[::1]");
    expect_refused("tcp://[]:80");
    expect_refused("tcp://[[1]:80"); /* tests/fuzz/url.c */
    expect_refused("tcp://a[b:80");
    expect_refused("tcp://a]:80");
}

/* The transport says which it takes; here it is only read. */
Test(url, the_scheme_is_as_written)
{
    expect("ws://h:1", "ws", "h", "1");
    expect("wss://h:1/", "wss", "h", "1");
    expect("TCP://h:1", "TCP", "h", "1");
}

Test(url, parts_that_are_missing)
{
    static const char *const all[] = {"",           "tcp",      "tcp:",     "tcp://",   "tcp://h",
                                      "tcp://h/",   "tcp://h:", "tcp://:1", "tcp://:",  "://h:1",
                                      "h:1",        "tcp:h:1",  "tcp:/h:1", "tcp//h:1", "tcp://h:/",
                                      "tcp:///h:1", "tcp://[",  "tcp://h1"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        expect_refused(all[i]);
}

Test(url, ports_that_are_none)
{
    static const char *const all[] = {"tcp://h:0",
                                      "tcp://h:00000",
                                      "tcp://h:65536",
                                      "tcp://h:99999",
                                      "tcp://h:100000",
                                      "tcp://h:-1",
                                      "tcp://h:+1",
                                      "tcp://h: 1",
                                      "tcp://h:1 ",
                                      "tcp://h:http",
                                      "tcp://h:1a",
                                      "tcp://h:0x50",
                                      "tcp://h:1:2",
                                      "tcp://h:1.5",
                                      "tcp://h:1?a",
                                      "tcp://h:1#a",
                                      "tcp://h:18446744073709551617",
                                      "tcp://h:4294967297"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        expect_refused(all[i]);
}

/* A byte stream has none. */
Test(url, paths_are_refused)
{
    expect_refused("tcp://h:1/path");
    expect_refused("tcp://h:1//");
    expect_refused("ws://h:1/stream");
}

static const char *long_url(size_t scheme, size_t host, bool brackets)
{
    static char text[1024];
    char *at = text;
    at = (char *)memset(at, 's', scheme) + scheme;
    at += sprintf(at, "://%s", brackets ? "[" : "");
    at = (char *)memset(at, 'h', host) + host;
    sprintf(at, "%s:1", brackets ? "]" : "");
    return text;
}

Test(url, what_is_too_long_is_refused_and_not_cut)
{
    struct sluice_url url;
    cr_expect_eq(sluice_url_parse(&url, long_url(15, 1, false)), 0);
    cr_expect_eq(strlen(url.scheme), 15u);
    expect_refused(long_url(16, 1, false));
    for (int brackets = 0; brackets < 2; brackets++) {
        cr_expect_eq(sluice_url_parse(&url, long_url(3, URL_HOST_MAX - 1, brackets)), 0);
        cr_expect_eq(strlen(url.host), URL_HOST_MAX - 1u);
        cr_expect_str_eq(url.port, "1");
        expect_refused(long_url(3, URL_HOST_MAX, brackets));
        expect_refused(long_url(3, 900, brackets));
    }
}

Test(url, an_override_gives_its_address)
{
    cr_expect_str_eq(sluice_url_override("h:443:127.0.0.1", "h", "443"), "127.0.0.1");
    cr_expect_str_eq(sluice_url_override("a.example.com:1:::1", "a.example.com", "1"), "::1");
    cr_expect_str_eq(sluice_url_override("::1:80:10.0.0.1", "::1", "80"), "10.0.0.1");
}

Test(url, an_override_of_something_else_gives_none)
{
    cr_expect_null(sluice_url_override("h:443:127.0.0.1", "h", "44"));
    cr_expect_null(sluice_url_override("h:443:127.0.0.1", "h", "4433"));
    cr_expect_null(sluice_url_override("host:443:127.0.0.1", "h", "443"));
    cr_expect_null(sluice_url_override("h:443:127.0.0.1", "host", "443"));
    cr_expect_null(sluice_url_override("h:443", "h", "443"));
    cr_expect_null(sluice_url_override("h", "h", "443"));
    cr_expect_null(sluice_url_override("", "h", "443"));
}
