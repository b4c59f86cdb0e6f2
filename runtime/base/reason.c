/*
 * Look-ups in the reason table. The table itself stands in reason.h.
 */
#include "base/reason.h"

#include <stddef.h>

struct row {
    unsigned num;
    const char *name;
    int exit_code;
    enum sluice_reason_class cls;
    const char *text;
};

static const struct row rows[] = {
#define ROW(sym, num, name, exit_code, cls, text) {num, name, exit_code, SLUICE_CLASS_##cls, text},
    SLUICE_REASON_MAP(ROW)
#undef ROW
};

static const struct row *find(unsigned reason)
{
    const struct row *internal = rows;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].num == reason)
            return &rows[i];
        if (rows[i].num == SLUICE_REASON_INTERNAL)
            internal = &rows[i];
    }
    return internal;
}

const char *sluice_reason_name(unsigned reason)
{
    return find(reason)->name;
}

const char *sluice_reason_text(unsigned reason)
{
    return find(reason)->text;
}

enum sluice_reason_class sluice_reason_class(unsigned reason)
{
    return find(reason)->cls;
}

int sluice_reason_exit_code(unsigned reason)
{
    return find(reason)->exit_code;
}
