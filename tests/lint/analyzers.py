#!/usr/bin/python3
"""What reads the sources more deeply than a compiler has nothing to say about the library and the
tools. Each is told at the top level (.clang-tidy, .cppcheck) what it need not say, and why.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sources import INCLUDES, INTERNAL, LIBRARY_FILES, all_at_once, none_of, objection
from tap import main, test

SOURCES = [name for name in LIBRARY_FILES if name.endswith(".c")]
# What the simulated network carries hangs on a table of pointers, where gcc loses sight of it.
GCC_NEED_NOT_SAY = dict.fromkeys(("backends/sim/net.c", "backends/sim/datagram.c"), ["-Wno-analyzer-malloc-leak"])


@test
def gcc_analyzer_is_silent():
    """As optimised: then it sees through static functions."""
    flags = [*INTERNAL, "-O2", "-fanalyzer", "-S", "-o", "/dev/null"]
    none_of(all_at_once(objection, [(["gcc", *flags, *GCC_NEED_NOT_SAY.get(name, []), name],)
                                    for name in SOURCES]))


@test
def clang_tidy_is_silent():
    """Checks: .clang-tidy."""
    none_of(all_at_once(objection, [(["clang-tidy", "--quiet", name, "--", *INTERNAL],)
                                    for name in SOURCES]))


@test
def cppcheck_is_silent():
    """All files in one run, as it likes them."""
    said = objection(["cppcheck", "-j2", "--quiet", "--error-exitcode=1", "--std=c11", "--library=posix",
                      "--platform=unix64", "--enable=warning,style,performance,portability",
                      "--suppressions-list=.cppcheck", "-D_GNU_SOURCE", *INCLUDES, *SOURCES])
    none_of([said] if said else [])


main()
