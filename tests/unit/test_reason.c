/*
 * The reason table: numbers, names and exit codes are frozen, because they stand in shared memory
 * and in people's scripts. A row that changes breaks frozen[] here; a new row is added to it.
 */
#include "base/reason.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stddef.h>
#include <string.h>

struct row {
    unsigned num;
    const char *name;
    int exit_code;
    enum sluice_reason_class cls;
};

/* clang-format off */
static const struct row frozen[] = {
    {0, "none", 0, SLUICE_CLASS_CLEAN},
    {1, "local-close", 0, SLUICE_CLASS_CLEAN},
    {2, "peer-close", 0, SLUICE_CLASS_RETRY},
    {3, "internal", 1, SLUICE_CLASS_FATAL},
    {4, "usage", 2, SLUICE_CLASS_FATAL},
    {5, "reconnect", 0, SLUICE_CLASS_RETRY},
    {10, "unresolved", 10, SLUICE_CLASS_RETRY},
    {11, "refused", 11, SLUICE_CLASS_RETRY},
    {12, "timed-out", 12, SLUICE_CLASS_RETRY},
    {13, "unreachable", 13, SLUICE_CLASS_RETRY},
    {14, "reset", 14, SLUICE_CLASS_RETRY},
    {15, "peer-gone", 15, SLUICE_CLASS_RETRY},
    {16, "silent", 16, SLUICE_CLASS_RETRY},
    {20, "protocol", 20, SLUICE_CLASS_FATAL},
    {21, "damaged", 21, SLUICE_CLASS_FATAL},
    {30, "name-taken", 30, SLUICE_CLASS_FATAL},
    {31, "no-engine", 31, SLUICE_CLASS_RETRY},
    {32, "engine-gone", 32, SLUICE_CLASS_RETRY},
    {33, "busy", 33, SLUICE_CLASS_RETRY},
    {34, "denied", 34, SLUICE_CLASS_FATAL},
    {35, "limit", 35, SLUICE_CLASS_FATAL},
    {36, "no-backend", 36, SLUICE_CLASS_FATAL},
    {37, "corrupt", 37, SLUICE_CLASS_FATAL},
    {38, "mismatch", 38, SLUICE_CLASS_FATAL},
    {39, "unsupported", 39, SLUICE_CLASS_FATAL},
    {40, "tls-config", 40, SLUICE_CLASS_FATAL},
    {41, "tls-handshake", 41, SLUICE_CLASS_FATAL},
    {42, "tls-verify", 42, SLUICE_CLASS_FATAL},
    {43, "tls-timed-out", 43, SLUICE_CLASS_RETRY},
    {44, "tls-truncated", 44, SLUICE_CLASS_RETRY},
    {45, "tls-alert", 45, SLUICE_CLASS_RETRY},
    {46, "tls-protocol", 46, SLUICE_CLASS_RETRY},
    {47, "tls-rekey", 47, SLUICE_CLASS_RETRY},
    {48, "ktls", 48, SLUICE_CLASS_FATAL},
};
/* clang-format on */

static const unsigned numbers[] = {
#define NUMBER(sym, num, name, exit_code, cls, text) num,
    SLUICE_REASON_MAP(NUMBER)
#undef NUMBER
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

Test(reason, rows_are_frozen)
{
    cr_assert_eq(COUNT(numbers), COUNT(frozen), "a row came or went: see frozen[]");
    for (size_t i = 0; i < COUNT(frozen); i++) {
        const struct row *row = &frozen[i];
        cr_expect_str_eq(sluice_reason_name(row->num), row->name);
        cr_expect_eq(sluice_reason_exit_code(row->num), row->exit_code, "%s", row->name);
        cr_expect_eq(sluice_reason_class(row->num), row->cls, "%s", row->name);
    }
}

Test(reason, numbers_names_and_exit_codes_are_unique)
{
    for (size_t i = 0; i < COUNT(numbers); i++) {
        for (size_t k = 0; k < i; k++) {
            unsigned a = numbers[i], b = numbers[k];
            cr_expect_neq(a, b);
            cr_expect_str_neq(sluice_reason_name(a), sluice_reason_name(b));
            cr_expect(sluice_reason_exit_code(a) != sluice_reason_exit_code(b) ||
                          sluice_reason_exit_code(a) == 0,
                      "%s and %s share an exit code", sluice_reason_name(a), sluice_reason_name(b));
        }
    }
}

Test(reason, exit_codes_do_not_look_like_signals)
{
    /* A shell gives 126 and 127 for what it cannot start, 128 + n for signals. */
    for (size_t i = 0; i < COUNT(numbers); i++) {
        int code = sluice_reason_exit_code(numbers[i]);
        cr_expect(code >= 0 && code < 126, "%s", sluice_reason_name(numbers[i]));
    }
}

Test(reason, fatal_is_never_a_success)
{
    for (size_t i = 0; i < COUNT(numbers); i++)
        if (sluice_reason_class(numbers[i]) == SLUICE_CLASS_FATAL)
            cr_expect_neq(sluice_reason_exit_code(numbers[i]), 0);
}

Test(reason, names_are_words_for_scripts)
{
    for (size_t i = 0; i < COUNT(numbers); i++) {
        const char *name = sluice_reason_name(numbers[i]);
        cr_expect(*name && strspn(name, "abcdefghijklmnopqrstuvwxyz-") == strlen(name), "%s", name);
    }
}

Test(reason, texts_are_one_line_that_says_something)
{
    for (size_t i = 0; i < COUNT(numbers); i++) {
        const char *text = sluice_reason_text(numbers[i]);
        cr_expect(strlen(text) >= 10 && !strchr(text, '\n'), "%s", sluice_reason_name(numbers[i]));
        cr_expect(!isspace((unsigned char)text[strlen(text) - 1]), "%s", text);
    }
}

Test(reason, unknown_numbers_are_internal)
{
    const unsigned unknown[] = {6, 99, 1000, 0x80000000u, 0xffffffffu};
    for (size_t i = 0; i < COUNT(unknown); i++) {
        cr_expect_str_eq(sluice_reason_name(unknown[i]), "internal");
        cr_expect_eq(sluice_reason_exit_code(unknown[i]), 1);
        cr_expect_eq(sluice_reason_class(unknown[i]), SLUICE_CLASS_FATAL);
        cr_expect_str_eq(sluice_reason_text(unknown[i]),
                         sluice_reason_text(SLUICE_REASON_INTERNAL));
    }
}
