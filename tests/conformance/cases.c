/*
 * The conformance table: what backends/backend.h promises, one case after the other, for any
 * backend. The cases stand in *_cases.c, their list in cases.h, their tools in harness.c.
 */
#include "tests/conformance/cases.h"

#define ROW(name) {#name, name},

const struct conformance_case conformance_cases[] = {CONFORMANCE_CASES(ROW)};

const size_t conformance_cases_count = sizeof(conformance_cases) / sizeof(conformance_cases[0]);
