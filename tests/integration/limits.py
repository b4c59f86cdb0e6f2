"""Limits of the machine that are too low. Only without sanitizers, which need more than these."""
import os
import resource
import subprocess
import sys

from tap import check_equal, main, test
from refusal import as_nobody, become_nobody, clean, commands, run_as_nobody, says
from world import World, free_port

MIB = 1 << 20
RING = "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(425, 8, bytes(120)) < 0)"


def counts_rings():
    """Whether the kernel counts io_uring's rings as locked memory: 5.12 to 6.13 do not."""
    ring = subprocess.run([sys.executable, "-c", RING], check=False, cwd="/",
                          preexec_fn=lambda: become_nobody(memlock=0))
    return ring.returncode != 0


@test
def row_52_memlock_too_low():
    """For io_uring itself, and for --mlock: each line names the limit and how to raise it."""
    with as_nobody() as (w, mine):
        url = w.serve(lambda peer: peer.sendall(b"fine"))
        env = {"XDG_RUNTIME_DIR": mine}
        for command in commands(url):
            answer = run_as_nobody(w, *command, memlock=0, env=env)
            if counts_rings():
                says(answer, 35, "limit", "ulimit -l")
            answer = run_as_nobody(w, *command, "--mlock", memlock=MIB, env=env)
            says(answer, 35, "limit", "--mlock", "RLIMIT_MEMLOCK 1024 KiB", "ulimit -l")
            for folder in os.listdir(mine):
                check_equal(os.listdir(os.path.join(mine, folder)), [], "socket files")
        answer = run_as_nobody(w, "cat", url, memlock=MIB, env=env)
        check_equal((answer.code, answer.out), (0, b"fine"), answer.err)


def codes_with_few_descriptors(w, *flags):
    """Exit codes of run with more and more descriptors; each says what it should."""
    url = f"tcp://127.0.0.1:{free_port()}"
    codes = []
    for limit in range(4, 24):
        def lower(limit=limit):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        answer = w.run("run", url, "--name", "few", *flags, preexec_fn=lower)
        codes.append(answer.code)
        if answer.code == 35:
            says(answer, 35, "ulimit -n")
        elif answer.code == 11:
            says(answer, 11, "refused")
        clean(w)
    return codes


@test
def row_61_too_few_descriptors():
    """However few: one line that names the limit, and nothing is left. (3: the loader gives up.)"""
    with World() as w:
        for flags in ([], ["--backend", "ev"]):
            codes = codes_with_few_descriptors(w, *flags)
            check_equal(sorted(set(codes)), [11, 35], f"exit codes {flags}")
            check_equal(codes, sorted(codes, reverse=True), "35 first, 11 where there are enough")


@test
def row_52_memlock_is_no_reason_to_take_libev():
    """An error with auto too; asked for, libev needs none of it."""
    with as_nobody() as (w, mine):
        url = w.serve(lambda peer: peer.sendall(b"fine"))
        env = {"XDG_RUNTIME_DIR": mine}
        for flags in ([], ["--backend", "auto"]):
            answer = run_as_nobody(w, "cat", url, *flags, memlock=0, env=env)
            if counts_rings():
                says(answer, 35, "io_uring", "ENOMEM", "ulimit -l")
        answer = run_as_nobody(w, "cat", url, "--backend", "ev", memlock=0, env=env)
        check_equal((answer.code, answer.out), (0, b"fine"), answer.err)


main()
