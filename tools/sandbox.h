/*
 * --sandbox: what this process may do once it runs. Two steps, for Landlock binds only threads that
 * start later, and seccomp would refuse what starting takes.
 */
#ifndef SLUICE_TOOLS_SANDBOX_H
#define SLUICE_TOOLS_SANDBOX_H

#include "options.h"

/**
 * Before any thread starts: no new privileges, no core dump and no debugger (keys lie in memory),
 * and of the file system only what looking up names and certificates reads and the rendezvous
 * directory. Does nothing without --sandbox.
 *
 * @param each  the options of each connection: the files that they name are read as well.
 * @return 0, or an exit code after one line on stderr.
 */
int sandbox_begin(const struct options *o, const struct options *const *each, uint32_t count);

/** When all is open: of system calls only those that a running engine or client makes; all threads
 *  of the process. The others fail with EPERM. As above. */
int sandbox_close(const struct options *o);

#endif
