/*
 * One option's text into its value: ranges, sizes with suffixes, seconds, choices. Where the text
 * came from is the reader's business.
 */
#include "option_table.h"

#include "fail.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000ll

int option_error(const struct options *o, const char *format, ...)
{
    char what[512], remedy[64];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    snprintf(remedy, sizeof(remedy), "see sluice %s --help", option_command_name(o->command));
    return fail_remedy(SLUICE_REASON_USAGE, remedy, "%s", what);
}

void option_format(const struct option_row *row, int64_t value, char *out, size_t out_bytes)
{
    static const char suffixes[] = {'G', 'M', 'K'};
    for (unsigned i = 0; (row->type == OPTION_SIZE || row->type == OPTION_SPAN) && i < 3; i++) {
        int64_t unit = (int64_t)1 << (30 - 10 * (int)i);
        if (value >= unit && value % unit == 0) {
            snprintf(out, out_bytes, "%" PRId64 "%c", value / unit, suffixes[i]);
            return;
        }
    }
    if (row->type == OPTION_SECONDS)
        snprintf(out, out_bytes, "%g", (double)value / (double)NS_PER_S);
    else
        snprintf(out, out_bytes, "%" PRId64, value);
}

/* Digits only: strtoll would take signs, spaces and "0x". */
static bool parse_digits(const char *text, const char **end, int64_t *out)
{
    int64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *at - '0', &value))
            return false;
    *end = at;
    *out = value;
    return at != text;
}

/* Digits and a suffix. */
static bool parse_bytes(const char *text, const char **end, int64_t *out)
{
    if (!parse_digits(text, end, out))
        return false;
    int shift = **end == 'K' ? 10 : **end == 'M' ? 20 : **end == 'G' ? 30 : 0;
    *end += shift != 0;
    return !__builtin_mul_overflow(*out, 1ll << shift, out);
}

static bool parse_size(const char *text, int64_t *out)
{
    const char *end;
    return parse_bytes(text, &end, out) && *end == 0;
}

static bool parse_number(const char *text, int64_t *out)
{
    const char *end;
    return parse_digits(text, &end, out) && *end == 0;
}

static bool parse_seconds(const char *text, int64_t *out)
{
    char *end;
    if (text[0] == 0 || text[strspn(text, "0123456789.")] != 0)
        return false;
    double seconds = strtod(text, &end);
    if (*end != 0 || seconds > 1e9)
        return false;
    *out = (int64_t)(seconds * (double)NS_PER_S + 0.5);
    return true;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    if (length == 0)
        return false;
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (strcspn(at, "|") == length && memcmp(at, text, length) == 0)
            return true;
    }
    return false;
}

static int set_scalar(struct options *o, const struct option_row *row, const char *value,
                      const char *where)
{
    int64_t number = 0;
    bool ok = row->type == OPTION_SIZE      ? parse_size(value, &number)
              : row->type == OPTION_SECONDS ? parse_seconds(value, &number)
                                            : parse_number(value, &number);
    if (!ok || number < row->min || number > row->max) {
        const char *kind = row->type == OPTION_SIZE      ? "a size (suffixes K, M, G)"
                           : row->type == OPTION_SECONDS ? "a number of seconds"
                                                         : "a number";
        char min[32], max[32];
        option_format(row, row->min, min, sizeof(min));
        option_format(row, row->max, max, sizeof(max));
        return option_error(o, "%s: '%s' is not %s from %s to %s", where, value, kind, min, max);
    }
    memcpy((char *)o + row->offset, &number, sizeof(number));
    return 0;
}

static int set_span(struct options *o, const struct option_row *row, const char *value,
                    const char *where)
{
    struct option_span span = {0};
    const char *end;
    bool ok = parse_bytes(value, &end, &span.least);
    span.most = span.least;
    if (ok && *end == '-')
        ok = parse_bytes(end + 1, &end, &span.most);
    if (!ok || *end != 0 || span.least < row->min || span.most > row->max ||
        span.least > span.most) {
        char min[32], max[32];
        option_format(row, row->min, min, sizeof(min));
        option_format(row, row->max, max, sizeof(max));
        return option_error(o, "%s: '%s' is not a size, or two as A-B, from %s to %s", where, value,
                            min, max);
    }
    memcpy((char *)o + row->offset, &span, sizeof(span));
    return 0;
}

static int set_cores(struct options *o, const struct option_row *row, const char *value,
                     const char *where)
{
    struct option_cores cores = {0};
    const char *at = value;
    for (;; at++) {
        bool ok = cores.count < OPTION_CORES_MAX &&
                  parse_digits(at, &at, &cores.core[cores.count]) &&
                  cores.core[cores.count++] <= row->max && (*at == 0 || *at == ',');
        if (!ok)
            return option_error(o, "%s: '%s' is not one to %u cores from 0 to %" PRId64, where,
                                value, OPTION_CORES_MAX, row->max);
        if (*at == 0)
            break;
    }
    memcpy((char *)o + row->offset, &cores, sizeof(cores));
    return 0;
}

static int set_switch(struct options *o, const struct option_row *row, const char *value,
                      const char *where)
{
    bool on = false;
    if (!parse_bool(value, &on))
        return option_error(o, "%s: '%s' is neither true nor false", where, value);
    if (row->type != OPTION_ALIAS)
        memcpy((char *)o + row->offset, &on, sizeof(on));
    else if (on)
        memcpy((char *)o + row->offset, &row->default_text, sizeof(row->default_text));
    return 0;
}

static int set_list(struct options *o, const struct option_row *row, const char *value,
                    enum option_layer layer, const char *where)
{
    struct option_list *list = (struct option_list *)(void *)((char *)o + row->offset);
    if (layer > list->layer) {
        list->count = 0;
        list->layer = layer;
    }
    if (list->count == OPTION_LIST_MAX)
        return option_error(o, "%s: more than %u of them", where, OPTION_LIST_MAX);
    list->items[list->count++] = value;
    return 0;
}

int option_set(struct options *o, const struct option_row *row, const char *value,
               enum option_layer layer, const char *where)
{
    switch (row->type) {
    case OPTION_CHOICE:
        if (!is_choice(row->metavar, value))
            return option_error(o, "%s: '%s' is none of %s", where, value, row->metavar);
        memcpy((char *)o + row->offset, &value, sizeof(value));
        return 0;
    case OPTION_TEXT:
        if (value[0] == 0)
            return option_error(o, "%s: needs a value", where);
        memcpy((char *)o + row->offset, &value, sizeof(value));
        return 0;
    case OPTION_FLAG:
    case OPTION_ALIAS:
    case OPTION_HELP:
        return set_switch(o, row, value, where);
    case OPTION_NUMBER:
    case OPTION_SIZE:
    case OPTION_SECONDS:
        return set_scalar(o, row, value, where);
    case OPTION_SPAN:
        return set_span(o, row, value, where);
    case OPTION_CORES:
        return set_cores(o, row, value, where);
    case OPTION_LIST:
        return set_list(o, row, value, layer, where);
    }
    return fail(SLUICE_REASON_INTERNAL, "option %s has no type", row->key);
}
