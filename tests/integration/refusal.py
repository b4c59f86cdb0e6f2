"""How a refusal looks: one line, an exit code of its own, nothing left. And another user's eyes."""
import contextlib
import os
import resource
import shutil

from tap import check, check_equal, skip, sluice
from world import NOBODY, World


def says(answer, code, *names, limit_s=5.0):
    """One line on stderr with a name, the reason and a remedy; the exit code; in time."""
    check_equal(answer.code, code, f"exit code\n{answer.err}")
    check_equal(len(answer.lines()), 1, f"lines on stderr\n{answer.err}")
    line = answer.err
    check(line.startswith("sluice: ") and line.count(": ") >= 3, f"thing: reason: remedy: {line}")
    for name in names:
        check(str(name) in line, f"'{name}' in: {line}")
    check(answer.seconds < limit_s, f"took {answer.seconds:.1f} s: {line}")
    return line


def ends_saying(process, code, *names):
    """The same for a process that had a connection: its log lines may stand before that line."""
    process.ends(code)
    lines = [line for line in process.err().splitlines() if line.startswith("sluice: ")]
    check_equal(len(lines), 1, f"lines of the command\n{process.err()}")
    check_equal(process.err().splitlines()[-1], lines[0], "it is the last one")
    for name in names:
        check(str(name) in lines[0], f"'{name}' in: {lines[0]}")


def clean(w):
    """Nothing is left of it."""
    check_equal(w.left_behind(), [], "left behind")


def commands(url, name="bad"):
    """The commands that open a connection."""
    return (["run", url, "--name", name], ["cat", url], ["cat", url, "--name", name],
            ["ws", url.replace("tcp:", "ws:")])


@contextlib.contextmanager
def as_nobody():
    """A copy of the binary and a directory for uid 65534. Skipped unless root."""
    if os.geteuid() != 0:
        skip("needs root, to become another user")
    with World() as w:
        os.chmod(w.root, 0o755)
        os.chmod(shutil.copy(sluice(), w.path("sluice")), 0o755)
        mine = w.path("nobody")
        os.mkdir(mine, 0o700)
        os.chown(mine, NOBODY, NOBODY)
        yield w, mine


def become_nobody(memlock=None):
    """In a new process: uid 65534, and this limit."""
    if memlock is not None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (memlock, memlock))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def run_as_nobody(w, *args, memlock=None, env=None):
    """A command as uid 65534; its sanitizer reports go to stderr, its own log is not writable."""
    sanitizer = {name: ":".join(part for part in os.environ[name].split(":")
                                if not part.startswith("log_path"))
                 for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ}
    return w.run(*args, program=[w.path("sluice")], env={**sanitizer, **(env or {})},
                 preexec_fn=lambda: become_nobody(memlock), cwd="/")
