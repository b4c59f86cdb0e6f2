/*
 * The connections that sluice run is to have: its arguments, or the sections of its config file.
 */
#include "feeds.h"

#include "fail.h"

#include <string.h>

#define NAME_DEFAULT "sluice"

static struct options section_options[FEEDS_MAX]; /* texts hang on them to the end */
static char names[FEEDS_MAX][SLUICE_NAME_MAX + 8];

/* "NAME=URL", or "URL": the first has --name, those behind it a number after it. Cut short, a name
 * is refused later. */
static void read_argument(const struct options *o, uint32_t i, struct engine_feed *feed)
{
    const char *base = o->name ? o->name : NAME_DEFAULT, *text = o->args[i];
    const char *equals = strchr(text, '='), *scheme = strstr(text, "://");
    *feed = (struct engine_feed){.options = o, .name = names[i], .url = text};
    if (equals && (!scheme || equals < scheme)) {
        snprintf(names[i], sizeof(names[i]), "%.*s", (int)(equals - text), text);
        feed->url = equals + 1;
    } else if (i == 0)
        snprintf(names[i], sizeof(names[i]), "%s", base);
    else
        snprintf(names[i], sizeof(names[i]), "%s-%u", base, i + 1);
}

static int read_section(const struct options *o, const char *section, struct options *own,
                        struct engine_feed *feed)
{
    int failed = options_read_section(own, o, section);
    if (failed)
        return failed;
    *feed = (struct engine_feed){.options = own, .name = section, .url = own->url};
    return own->url ? 0
                    : fail_remedy(SLUICE_REASON_USAGE, "write url = tcp://host:port below it",
                                  "%s: section [%s] has no url", o->config, section);
}

int feeds_read(const struct options *o, struct engine_feed feeds[FEEDS_MAX], uint32_t *count)
{
    const char *sections[FEEDS_MAX];
    uint32_t section_count = options_sections(sections);
    *count = o->arg_count ? o->arg_count : section_count;
    if (o->arg_count && section_count)
        return fail_remedy(SLUICE_REASON_USAGE, "name no URL, or use a config file without [NAME]",
                           "run: %s, and sections in %s", o->args[0], o->config);
    if (*count == 0)
        return fail_remedy(SLUICE_REASON_USAGE, "see sluice run --help", "run: URL is missing");
    int failed = 0;
    for (uint32_t i = 0; i < *count && !failed; i++)
        if (o->arg_count)
            read_argument(o, i, &feeds[i]);
        else
            failed = read_section(o, sections[i], &section_options[i], &feeds[i]);
    return failed;
}
