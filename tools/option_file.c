/*
 * Config files: "key = value" lines, the keys of the option table, # comments. A value that is to
 * begin or end with spaces, or to hold " #", stands in double quotes. [NAME] begins what is of one
 * connection of several.
 */
#include "option_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX (1u << 20)
#define FILE_LINES_MAX 1024u

/* What a file said, line by line; values point into it, so it stays until another one is kept. */
struct file_line {
    const struct option_row *row;
    const char *section; /* NULL: before the first */
    const char *value;
    unsigned number;
};

static struct {
    char *text;
    const char *sections[OPTION_ARGS_MAX];
    uint32_t section_count;
    struct file_line lines[FILE_LINES_MAX];
    uint32_t count;
} kept;

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

/* "[NAME]" */
static int begin_section(const struct options *o, const char *path, unsigned number, char *line)
{
    size_t length = strlen(line);
    if (line[length - 1] != ']' || length < 3)
        return option_error(o, "%s:%u: a section is [NAME], not '%s'", path, number, line);
    line[length - 1] = 0;
    for (uint32_t i = 0; i < kept.section_count; i++)
        if (strcmp(kept.sections[i], line + 1) == 0)
            return option_error(o, "%s:%u: section '%s' was there before", path, number, line + 1);
    if (kept.section_count == OPTION_ARGS_MAX)
        return option_error(o, "%s:%u: more than %u sections", path, number, OPTION_ARGS_MAX);
    kept.sections[kept.section_count++] = line + 1;
    return 0;
}

static int keep_line(const struct options *o, const char *path, unsigned number, const char *key,
                     char *rest)
{
    const char *section = kept.section_count ? kept.sections[kept.section_count - 1] : NULL;
    const struct option_row *row = option_find(key, strlen(key));
    if (!row || row->type == OPTION_HELP)
        return option_error(o, "%s:%u: unknown key '%s'", path, number, key);
    if (row->offset == offsetof(struct options, config))
        return option_error(o, "%s:%u: a config file cannot name another", path, number);
    const char *value = take_value(rest);
    if (!value)
        return option_error(o, "%s:%u: %s: the quotes do not match", path, number, key);
    if (section && !(row->commands & FOR_FEED))
        return option_error(o, "%s:%u: '%s' is not of one connection: write it before the sections",
                            path, number, key);
    if (!section && row->commands == FOR_FEED)
        return option_error(o, "%s:%u: '%s' belongs into a section, below a line [NAME]", path,
                            number, key);
    if (kept.count == FILE_LINES_MAX)
        return option_error(o, "%s:%u: more than %u keys", path, number, FILE_LINES_MAX);
    kept.lines[kept.count++] =
        (struct file_line){.row = row, .section = section, .value = value, .number = number};
    return 0;
}

static int read_line(const struct options *o, const char *path, unsigned number, char *line)
{
    line = trim(line);
    if (line[0] == 0 || line[0] == '#')
        return 0;
    if (line[0] == '[')
        return begin_section(o, path, number, line);
    char *equals = strchr(line, '=');
    if (!equals)
        return option_error(o, "%s:%u: no '=' in '%s'", path, number, line);
    *equals = 0;
    return keep_line(o, path, number, trim(line), equals + 1);
}

static int load(const struct options *o, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return option_error(o, "config file %s (%s)", path, strerror(errno));
    int failed = 0;
    free(kept.text);
    kept.section_count = kept.count = 0;
    kept.text = malloc(FILE_BYTES_MAX + 1);
    size_t length = kept.text ? fread(kept.text, 1, FILE_BYTES_MAX + 1, file) : 0;
    if (!kept.text || ferror(file))
        failed = option_error(o, "config file %s (%s)", path, strerror(errno));
    else if (length > FILE_BYTES_MAX)
        failed = option_error(o, "config file %s: longer than %u bytes", path, FILE_BYTES_MAX);
    else if (memchr(kept.text, 0, length))
        failed = option_error(o, "config file %s: not a text file", path);
    else
        kept.text[length] = 0;
    fclose(file);
    return failed;
}

static int read_lines(const struct options *o, const char *path)
{
    int failed = load(o, path);
    unsigned number = 1;
    for (char *line = kept.text, *next; !failed && line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        failed = read_line(o, path, number, line);
    }
    return failed;
}

int option_file_read(struct options *o, const char *path)
{
    int failed = o->section ? 0 : read_lines(o, path); /* once, for all of its sections */
    for (uint32_t i = 0; !failed && i < kept.count; i++) {
        const struct file_line *line = &kept.lines[i];
        bool counts = !line->section || (o->section && strcmp(o->section, line->section) == 0);
        if (!counts || !(line->row->commands & (o->command | FOR_FEED)))
            continue; /* one file may serve several commands */
        char where[512];
        snprintf(where, sizeof(where), "%s:%u: %s", path, line->number, line->row->key);
        failed = option_set(o, line->row, line->value, LAYER_FILE, where);
    }
    return failed;
}

uint32_t options_sections(const char *out[OPTION_ARGS_MAX])
{
    memcpy(out, kept.sections, sizeof(kept.sections));
    return kept.section_count;
}
