/*
 * Runs a fuzz target over its corpus, and over each input with a few bytes changed, always the same
 * ones: replay FOLDER. What libFuzzer finds is kept in that folder.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/support/tap.h"

#include <dirent.h>

#define INPUT_BYTES_MAX 65536u
#define VARIANTS        20u

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void run_variants(const uint8_t *input, size_t bytes)
{
    static uint8_t changed[INPUT_BYTES_MAX];
    uint32_t seed = (uint32_t)bytes;
    for (unsigned i = 0; i < VARIANTS && bytes > 0; i++) {
        size_t cut = 1 + next_random(&seed) % bytes;
        memcpy(changed, input, bytes);
        for (unsigned k = 0; k <= i % 4; k++)
            changed[next_random(&seed) % bytes] = (uint8_t)next_random(&seed);
        LLVMFuzzerTestOneInput(changed, i % 2 ? bytes : cut);
    }
}

static size_t read_input(const char *folder, const char *name, uint8_t *to)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    size_t bytes = file ? fread(to, 1, INPUT_BYTES_MAX, file) : 0;
    if (file)
        fclose(file);
    return bytes;
}

int main(int argc, char **argv)
{
    static uint8_t input[INPUT_BYTES_MAX];
    unsigned count = 0;
    tap_begin();
    DIR *folder = argc > 1 ? opendir(argv[1]) : NULL;
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        size_t bytes = read_input(argv[1], entry->d_name, input);
        LLVMFuzzerTestOneInput(input, bytes);
        run_variants(input, bytes);
        count++;
    }
    if (folder)
        closedir(folder);
    tap_ok(count > 0, "%u inputs, each with %u variants", count, VARIANTS);
    return tap_end();
}
