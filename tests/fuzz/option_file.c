/*
 * A config file that somebody wrote: the first byte of an input says for which command. It is taken
 * or refused with a usage error; what is taken lies in its range.
 */
#include "tests/fuzz/fuzz.h"
#include "tools/option_table.h"

#include <sys/mman.h>
#include <unistd.h>

static const unsigned commands[] = {FOR_RUN, FOR_CAT, FOR_WS, FOR_LOAD, FOR_STAT, FOR_PROBE};

static void check_ranges(const struct options *o)
{
    for (size_t i = 0; i < option_row_count; i++) {
        const struct option_row *row = &option_rows[i];
        const char *value = (const char *)o + row->offset;
        bool is_number =
            row->type == OPTION_NUMBER || row->type == OPTION_SIZE || row->type == OPTION_SECONDS;
        int64_t number = 0;
        if (is_number)
            memcpy(&number, value, sizeof(number));
        if ((row->commands & o->command) && number != 0) /* 0: not in the file */
            MUST(number >= row->min && number <= row->max);
        if (row->type == OPTION_LIST)
            MUST(((const struct option_list *)(const void *)value)->count <= OPTION_LIST_MAX);
        if (row->type == OPTION_CORES)
            MUST(((const struct option_cores *)(const void *)value)->count <= OPTION_CORES_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char path[64];
    if (bytes == 0)
        return 0;
    struct options o = {.command = commands[data[0] % (sizeof(commands) / sizeof(commands[0]))]};
    int fd = memfd_create("options", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, data + 1, bytes - 1) == (ssize_t)(bytes - 1));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int failed = option_file_read(&o, path);
    MUST(failed == 0 || failed == sluice_reason_exit_code(SLUICE_REASON_USAGE));
    if (!failed)
        check_ranges(&o);
    close(fd);
    return 0;
}
