/*
 * What a service manager is told, as sd_notify(3) has it: datagrams of KEY=VALUE lines to
 * $NOTIFY_SOCKET. Without that variable nothing is sent.
 */
#ifndef SLUICE_TOOLS_NOTIFY_H
#define SLUICE_TOOLS_NOTIFY_H

#include <stdint.h>

/** Look who wants to be told; a socket that cannot be had is one line on stderr, no failure. */
void notify_open(void);

/** Tell, never waiting: READY=1, STATUS=..., STOPPING=1, WATCHDOG=1. Longer than 511 bytes is cut.
 */
__attribute__((format(printf, 1, 2))) void notify_say(const char *format, ...);

/** How often WATCHDOG=1 is due, in ns: half of what the manager waits for. 0: it does not. */
uint64_t notify_watchdog_ns(void);

void notify_close(void);

#endif
