/*
 * JSON on stdout: objects, arrays, integers, texts, booleans, null. Every value that is text is
 * escaped; what is not UTF-8 becomes U+FFFD. No parsing.
 */
#include "json.h"

#include <inttypes.h>

/* Bytes of the UTF-8 sequence at text, 0 if it is none (RFC 3629 4). */
static unsigned utf8_length(const unsigned char *text)
{
    unsigned char first = text[0], low = 0x80, high = 0xbf;
    unsigned length = first < 0x80   ? 1
                      : first < 0xc2 ? 0
                      : first < 0xe0 ? 2
                      : first < 0xf0 ? 3
                      : first < 0xf5 ? 4
                                     : 0;
    if (first == 0xe0)
        low = 0xa0;
    if (first == 0xed)
        high = 0x9f;
    if (first == 0xf0)
        low = 0x90;
    if (first == 0xf4)
        high = 0x8f;
    for (unsigned i = 1; i < length; i++) {
        if (text[i] < low || text[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

static void write_text(FILE *out, const char *value)
{
    const unsigned char *at = (const unsigned char *)value;
    fputc('"', out);
    while (*at) {
        unsigned length = utf8_length(at);
        if (length == 0)
            fputs("\\ufffd", out);
        else if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            fprintf(out, "\\u%04x", *at);
        else
            fwrite(at, 1, length, out);
        at += length ? length : 1;
    }
    fputc('"', out);
}

static void new_line(struct json *j)
{
    if (j->one_line)
        return;
    fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
}

static void begin(struct json *j, const char *key)
{
    if (j->filled)
        fputc(',', j->out);
    if (j->depth > 0)
        new_line(j);
    if (key) {
        write_text(j->out, key);
        fputs(": ", j->out);
    }
    j->filled = true;
}

void json_open(struct json *j, const char *key, char bracket)
{
    begin(j, key);
    fputc(bracket, j->out);
    j->depth++;
    j->filled = false;
}

void json_close(struct json *j, char bracket)
{
    j->depth--;
    if (j->filled)
        new_line(j);
    fputc(bracket, j->out);
    j->filled = true;
    if (j->depth > 0)
        return;
    fputc('\n', j->out);
    j->filled = false;
}

void json_number(struct json *j, const char *key, uint64_t value)
{
    begin(j, key);
    fprintf(j->out, "%" PRIu64, value);
}

void json_text(struct json *j, const char *key, const char *value)
{
    begin(j, key);
    write_text(j->out, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->out);
}

void json_null(struct json *j, const char *key)
{
    begin(j, key);
    fputs("null", j->out);
}
