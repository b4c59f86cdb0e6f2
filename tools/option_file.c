/*
 * Config files: "key = value" lines, the keys of the option table, # comments. A value that is to
 * begin or end with spaces, or to hold " #", stands in double quotes.
 */
#include "option_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX (1u << 20)

/* Values point into it, so it stays for the life of the process. */
static char *file_text;

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r", text[length - 1]))
        text[--length] = 0;
    return text;
}

/* Returns NULL when a quote is not closed or something stands behind it. */
static char *take_value(char *text)
{
    text = trim(text);
    if (text[0] == '"') {
        char *end = strchr(++text, '"');
        if (!end)
            return NULL;
        *end = 0;
        end = trim(end + 1);
        return end[0] == 0 || end[0] == '#' ? text : NULL;
    }
    for (char *at = text; *at; at++) {
        if (*at == '#' && (at == text || at[-1] == ' ' || at[-1] == '\t')) {
            *at = 0;
            break;
        }
    }
    return trim(text);
}

static int read_line(struct options *o, const char *path, unsigned number, char *line)
{
    char where[512];
    line = trim(line);
    if (line[0] == 0 || line[0] == '#')
        return 0;
    char *equals = strchr(line, '=');
    if (!equals)
        return option_error(o, "%s:%u: no '=' in '%s'", path, number, line);
    *equals = 0;
    const char *key = trim(line);
    const struct option_row *row = option_find(key, strlen(key));
    if (!row || row->type == OPTION_HELP)
        return option_error(o, "%s:%u: unknown key '%s'", path, number, key);
    if (row->offset == offsetof(struct options, config))
        return option_error(o, "%s:%u: a config file cannot name another", path, number);
    const char *value = take_value(equals + 1);
    if (!value)
        return option_error(o, "%s:%u: %s: the quotes do not match", path, number, key);
    if (!(row->commands & o->command))
        return 0; /* one file may serve several commands */
    snprintf(where, sizeof(where), "%s:%u: %s", path, number, key);
    return option_set(o, row, value, LAYER_FILE, where);
}

static int load(struct options *o, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return option_error(o, "config file %s (%s)", path, strerror(errno));
    int failed = 0;
    file_text = malloc(FILE_BYTES_MAX + 1);
    size_t length = file_text ? fread(file_text, 1, FILE_BYTES_MAX + 1, file) : 0;
    if (!file_text || ferror(file))
        failed = option_error(o, "config file %s (%s)", path, strerror(errno));
    else if (length > FILE_BYTES_MAX)
        failed = option_error(o, "config file %s: longer than %u bytes", path, FILE_BYTES_MAX);
    else if (memchr(file_text, 0, length))
        failed = option_error(o, "config file %s: not a text file", path);
    else
        file_text[length] = 0;
    fclose(file);
    return failed;
}

int option_file_read(struct options *o, const char *path)
{
    int failed = load(o, path);
    unsigned number = 1;
    for (char *line = file_text, *next; !failed && line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        failed = read_line(o, path, number, line);
    }
    return failed;
}
