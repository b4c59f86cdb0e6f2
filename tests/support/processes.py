"""Finding and ending what a test left running: by session, and by a mark in the environment, so that
neither a daemon that left the session nor one that overwrote its environment (nginx) is missed.
"""
import os
import signal
import time

MARK = "TESTS_SCRATCH"  # in every test's environment; its value belongs to one test alone


def _read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # it ended meanwhile, or is not ours
        return b""


def _session_and_state(pid):
    """(session, state letter) from /proc/PID/stat, behind the name, which may hold anything."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (int(fields[3]), fields[0]) if len(fields) > 3 else (0, b"Z")


def _alive(session, value):
    mark = f"{MARK}={value}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        of_session, state = _session_and_state(entry)
        if state == b"Z":
            continue
        if of_session == session or mark in _read(entry, "environ").split(b"\0"):
            yield int(entry)


def _describe(pid):
    words = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return f"{words[:120] or '?'} (pid {pid})"


def end_leftovers(session, value, grace_s):
    """Wait up to grace_s for the test's processes to end, kill the rest, and say which they were."""
    deadline = time.monotonic() + grace_s
    left = list(_alive(session, value))
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = list(_alive(session, value))
    described = [_describe(pid) for pid in left]
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return described
