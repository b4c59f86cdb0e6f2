/*
 * The commands of the sluice binary, one per file. Each gets the options already read and returns
 * the process's exit code. stdout is data, stderr is log.
 */
#ifndef SLUICE_TOOLS_TOOLS_H
#define SLUICE_TOOLS_TOOLS_H

#include "options.h"

int cmd_run(struct options *o);
int cmd_cat(struct options *o);
int cmd_ws(struct options *o);
int cmd_stat(struct options *o);
int cmd_load(struct options *o);
int cmd_probe(struct options *o);

/** More of sluice load --help: the fields of --json. */
void load_help(FILE *out);

#endif
