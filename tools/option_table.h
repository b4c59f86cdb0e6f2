/*
 * What a row of the option table is, for the files that read options. Commands include options.h.
 */
#ifndef SLUICE_TOOLS_OPTION_TABLE_H
#define SLUICE_TOOLS_OPTION_TABLE_H

#include "options.h"

#include <stddef.h>

enum option_type {
    OPTION_TEXT,    /* const char * */
    OPTION_CHOICE,  /* const char *, one of metavar, which is "a|b|c" */
    OPTION_FLAG,    /* bool */
    OPTION_ALIAS,   /* const char *: when true, set it to default_text */
    OPTION_NUMBER,  /* int64_t */
    OPTION_SIZE,    /* int64_t, bytes; K, M, G are powers of 1024 */
    OPTION_SECONDS, /* int64_t, ns; decimals */
    OPTION_SPAN,    /* struct option_span, bytes: "B" or "A-B" */
    OPTION_CORES,   /* struct option_cores: "C", "C,C", "C,C,C" */
    OPTION_LIST,    /* struct option_list: repeatable */
    OPTION_HELP,    /* sets struct options.help; flags only */
};

/* Where a value came from; a later layer wins. */
enum option_layer { LAYER_DEFAULT, LAYER_FILE, LAYER_ENVIRONMENT, LAYER_FLAG };

struct option_row {
    const char *key;
    enum option_type type;
    unsigned commands; /* FOR_* */
    size_t offset;     /* in struct options */
    const char *metavar;
    const char *default_text; /* NULL: unset, shown as "none" */
    int64_t min, max;         /* numbers, bytes, or ns */
    const char *help;
};

extern const struct option_row option_rows[];
extern const size_t option_row_count;

/** The row with a key of key_length bytes, or NULL. */
const struct option_row *option_find(const char *key, size_t key_length);

/** Whether a bare --key is a whole flag. */
bool option_is_switch(const struct option_row *row);

/**
 * Check a text and set the value.
 *
 * @param value  kept by pointer for texts: must live as long as o.
 * @param where  what to call the source in an error: "--inbox", "feed.conf:3: inbox".
 * @return 0, or an exit code after one line on stderr.
 */
int option_set(struct options *o, const struct option_row *row, const char *value,
               enum option_layer layer, const char *where);

/** "64K": a size with the largest suffix that fits; a plain number for the other types. */
void option_format(const struct option_row *row, int64_t value, char *out, size_t out_bytes);

/** Name of a command (one FOR_* bit). */
const char *option_command_name(unsigned command);

/** A usage error with the hint to the command's --help. */
int option_error(const struct options *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Read a config file into o (option_file.c): 0, or an exit code after one line on stderr. */
int option_file_read(struct options *o, const char *path);

#endif
