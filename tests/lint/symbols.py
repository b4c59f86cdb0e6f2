"""The portable library imports what POSIX has, its libraries, and nothing else."""
import os
import subprocess

from tap import build_dir, check, check_equal, main, source_dir, test

# What the compiler and its start-up files add on Linux, with glibc's names for POSIX's functions.
OF_THE_COMPILER = {"_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__cxa_finalize",
                   "__gmon_start__", "__errno_location", "__isoc99_sscanf", "__tls_get_addr",
                   "__stack_chk_fail",
                   "__register_atfork"}  # pthread_atfork()


def names(path, flag):
    """Symbols of a shared library."""
    said = subprocess.run(["nm", "-D", flag, path], capture_output=True, text=True, check=True)
    return {line.split()[-1].partition("@")[0] for line in said.stdout.splitlines()}


def libraries(path):
    """Path of each that it is linked with, by name."""
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: line.split()[2] for line in said.splitlines() if "=> /" in line}


def posix():
    """The list."""
    with open(os.path.join(source_dir(), "tests", "lint", "posix.txt"), encoding="ascii") as file:
        return {word for line in file for word in line.partition("#")[0].split()}


@test
def the_portable_library_imports_posix():
    library = os.path.join(build_dir(), "libsluice.so")
    found = libraries(library)
    wanted = [path for name, path in found.items() if name.startswith(("libssl", "libcrypto", "libev"))]
    check_equal(len(wanted), 3, f"libev and OpenSSL: {found}")
    check(not any("uring" in name for name in found), f"liburing is linked: {found}")
    theirs = set().union(*(names(path, "--defined-only") for path in wanted))
    mine = {name.removesuffix("64") for name in names(library, "--undefined-only") - theirs}
    check_equal(sorted(mine - posix() - OF_THE_COMPILER), [], "imported, and not POSIX")


main()
