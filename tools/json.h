/*
 * JSON on stdout: objects, arrays, integers, texts, booleans, null. Every value that is text is
 * escaped; what is not UTF-8 becomes U+FFFD. No parsing.
 */
#ifndef SLUICE_TOOLS_JSON_H
#define SLUICE_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool one_line; /* the outermost value is a line of its own */
    unsigned depth;
    bool filled; /* the innermost container has something in it */
};

/** Values: key NULL inside an array (and for the outermost object). */
void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */
void json_number(struct json *j, const char *key, uint64_t value);
void json_text(struct json *j, const char *key, const char *value);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);

#endif
