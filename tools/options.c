/*
 * Options from all sources, in order: defaults, config file, environment, flags; and their help.
 * The options themselves stand in option_table.c.
 */
#include "option_table.h"

#include <stdlib.h>
#include <string.h>

const char *option_command_name(unsigned command)
{
    switch (command) {
    case FOR_RUN:
        return "run";
    case FOR_CAT:
        return "cat";
    case FOR_WS:
        return "ws";
    case FOR_STAT:
        return "stat";
    case FOR_PROBE:
        return "probe";
    case FOR_LOAD:
        return "load";
    default:
        return "";
    }
}

enum sluice_idle options_idle(const struct options *o)
{
    if (strcmp(o->idle, "busy") == 0)
        return SLUICE_IDLE_BUSY;
    return strcmp(o->idle, "spin") == 0 ? SLUICE_IDLE_SPIN : SLUICE_IDLE_SLEEP;
}

enum sluice_ktls options_ktls(const struct options *o)
{
    if (strcmp(o->ktls, "require") == 0)
        return SLUICE_KTLS_REQUIRE;
    return strcmp(o->ktls, "off") == 0 ? SLUICE_KTLS_OFF : SLUICE_KTLS_AUTO;
}

static int set_defaults(struct options *o)
{
    o->fifo = -1;
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        if (!row->default_text || row->type == OPTION_ALIAS)
            continue;
        int failed = option_set(o, row, row->default_text, LAYER_DEFAULT, row->key);
        if (failed)
            return failed;
    }
    return 0;
}

/* "spin-us" as "SLUICE_SPIN_US". */
static void environment_name(const char *key, char *out, size_t out_bytes)
{
    snprintf(out, out_bytes, "SLUICE_%s", key);
    for (char *at = out; *at; at++)
        *at = (char)(*at == '-' ? '_' : *at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at);
}

/* Other SLUICE_ variables are left alone: they may be a wrapper's, or for another version. */
static int read_environment(struct options *o)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        char name[64];
        environment_name(row->key, name, sizeof(name));
        const char *value = getenv(name);
        if (!value || row->type == OPTION_HELP || !(row->commands & o->command))
            continue;
        int failed = option_set(o, row, value, LAYER_ENVIRONMENT, name);
        if (failed)
            return failed;
    }
    return 0;
}

static int take_argument(struct options *o, const char *text)
{
    if (o->arg_count == sizeof(o->args) / sizeof(o->args[0]))
        return option_error(o, "one argument too many: '%s'", text);
    o->args[o->arg_count++] = text;
    return 0;
}

/* The flag at argv[*at]; moves *at behind its value. Sets it only if wanted(). */
static int read_flag(struct options *o, int argc, char **argv, int *at, bool early)
{
    const char *key = argv[*at] + 2;
    size_t key_length = strcspn(key, "=");
    const struct option_row *row = option_find(key, key_length);
    if (!row)
        return option_error(o, "unknown flag --%.*s", (int)key_length, key);
    if (!(row->commands & o->command))
        return option_error(o, "--%s is not for sluice %s", row->key,
                            option_command_name(o->command));
    const char *value = key[key_length] == '=' ? key + key_length + 1 : NULL;
    if (!value && option_is_switch(row))
        value = "true";
    else if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value)
        return option_error(o, "--%s needs a value (%s)", row->key, row->metavar);

    bool is_early = row->type == OPTION_HELP || row->offset == offsetof(struct options, config);
    if (is_early != early)
        return 0;
    char where[64];
    snprintf(where, sizeof(where), "--%s", row->key);
    return option_set(o, row, value, LAYER_FLAG, where);
}

/* Early: --help and --config, before the other sources. Late: all the others, after them. */
static int read_flags(struct options *o, bool early)
{
    int argc = o->argc;
    char **argv = o->argv;
    o->arg_count = 0;
    bool only_arguments = false;
    for (int at = 0; at < argc && !o->help; at++) {
        int failed = 0;
        if (only_arguments || argv[at][0] != '-')
            failed = take_argument(o, argv[at]);
        else if (strcmp(argv[at], "--") == 0)
            only_arguments = true;
        else if (strcmp(argv[at], "-h") == 0)
            o->help = true;
        else if (argv[at][1] != '-')
            failed = option_error(o, "unknown flag %s", argv[at]);
        else
            failed = read_flag(o, argc, argv, &at, early);
        if (failed)
            return failed;
    }
    return 0;
}

static int read_all(struct options *o)
{
    int failed = set_defaults(o);
    if (!failed)
        failed = read_flags(o, true);
    if (failed || o->help)
        return failed;
    if (!o->config)
        o->config = getenv("SLUICE_CONFIG");
    if (o->config && o->config[0] != 0)
        failed = option_file_read(o, o->config);
    if (!failed)
        failed = read_environment(o);
    if (!failed)
        failed = read_flags(o, false);
    return failed;
}

int options_read(struct options *o, unsigned command, int argc, char **argv)
{
    *o = (struct options){.command = command, .argc = argc, .argv = argv};
    return read_all(o);
}

int options_read_section(struct options *o, const struct options *of_all, const char *section)
{
    *o = (struct options){
        .command = of_all->command, .argc = of_all->argc, .argv = of_all->argv, .section = section};
    return read_all(o);
}

/* " [64K to 4G; default 1M]" */
static void help_range(const struct option_row *row, char *out, size_t out_bytes)
{
    out[0] = 0;
    if (option_is_switch(row))
        return;
    const char *default_text = row->default_text ? row->default_text : "none";
    if (row->type == OPTION_LIST)
        snprintf(out, out_bytes, " [repeatable]");
    else if (row->type == OPTION_TEXT || row->type == OPTION_CHOICE || row->type == OPTION_CORES ||
             row->max == INT64_MAX)
        snprintf(out, out_bytes, " [default %s]", default_text);
    else {
        char min[32], max[32];
        option_format(row, row->min, min, sizeof(min));
        option_format(row, row->max, max, sizeof(max));
        snprintf(out, out_bytes, " [%s to %s; default %s]", min, max, default_text);
    }
}

void options_help(FILE *out, unsigned command)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        if (!(row->commands & command))
            continue;
        char flag[80], range[96];
        snprintf(flag, sizeof(flag), "--%s%s%s", row->key, row->metavar ? " " : "",
                 row->metavar ? row->metavar : "");
        help_range(row, range, sizeof(range));
        if (strlen(flag) > 22)
            fprintf(out, "  %s\n  %-22s  %s%s\n", flag, "", row->help, range);
        else
            fprintf(out, "  %-22s  %s%s\n", flag, row->help, range);
    }
}
