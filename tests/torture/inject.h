/*
 * Calls that fail: the N-th one of a kind, in one phase of the session, is told an error instead of
 * being made. System calls are caught by a seccomp filter that traps them, wherever they are made
 * (liburing makes its own); what is no system call, by the linker's --wrap (tests/meson.build).
 */
#ifndef SLUICE_TESTS_INJECT_H
#define SLUICE_TESTS_INJECT_H

#include <stdatomic.h>
#include <stdbool.h>

/* EDGES: set-up, handshake, reconnect and shutdown. STEADY: messages go to and fro. */
enum inject_phase { INJECT_EDGES, INJECT_STEADY, INJECT_PHASES };

#define INJECT_KINDS_MAX 64u

struct inject_kind {
    const char *name; /* with its row of the fault matrix, if it has one */
    long call;        /* the system call, -1: none */
    int error;        /* what it is told */
    int flag_in;      /* of a system call: only if this argument (from 1; 0: any) has the bits */
    unsigned flags;
    const char *goes_on; /* NULL, or why nobody needs to hear of it when all goes on */
};

extern const struct inject_kind inject_kinds[];
extern const unsigned inject_kind_count;

struct inject_point {
    unsigned kind, phase, number; /* from 1; 0: no call fails */
};

/* What the process that makes the calls tells the one that judges; shared memory of both. */
struct inject_counts {
    _Atomic unsigned calls[INJECT_PHASES][INJECT_KINDS_MAX];
    atomic_bool hit; /* the point was reached */
};

/* From here on calls are counted, for the rest of this process: 0 or negative errno. */
int inject_begin(const struct inject_point *point, struct inject_counts *counts);
void inject_end(void);
void inject_phase(enum inject_phase phase);

/* Blocks of heap memory that are out, ours and OpenSSL's. */
long inject_blocks(void);

#endif
