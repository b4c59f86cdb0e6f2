"""A guest never outlives guest.py, however that ends; and what came of its command is told."""
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

from tap import check, check_equal, main, test

GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py")
LIMIT_S = 20.0


def command(scratch, *words, limit_s=60):
    """guest.py with a directory for its files."""
    return subprocess.Popen([sys.executable, GUEST, "uml61", "--limit", str(limit_s), "--", *words],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, "TMPDIR": scratch})


def processes_naming(text):
    """Pids with this in their command line; it is blank in one that has ended."""
    pids = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if entry.isdigit() and text.encode() in file.read():
                    pids.append(entry)
    return pids


def nothing_is_left(scratch):
    """No process of the guest's and no file, soon."""
    deadline = time.monotonic() + LIMIT_S
    while os.listdir(scratch) or processes_naming(scratch):
        check(time.monotonic() < deadline,
              f"left: {os.listdir(scratch)}, processes {processes_naming(scratch)}")
        time.sleep(0.02)


@test
def the_exit_code_is_the_commands():
    """And its output all that we print."""
    with tempfile.TemporaryDirectory() as scratch:
        guest = command(scratch, "sh", "-c", "echo it runs; exit 7")
        check_equal((guest.communicate()[0], guest.returncode), ("it runs\n", 7), "out, code")
        nothing_is_left(scratch)


def said_by_failed(*words, limit_s=60):
    """What is printed of a guest that fails, and leaves nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        guest = command(scratch, *words, limit_s=limit_s)
        out = guest.communicate()[0]
        check_equal(guest.returncode, 1, "exit code")
        nothing_is_left(scratch)
    return out


@test
def a_guest_that_hangs_is_ended():
    """By its limit, which is long enough to have booted."""
    out = said_by_failed("sleep", "1000", limit_s=15)
    check(out.startswith("Bail out! guest uml61 still running after 15 s\n# "), out)


@test
def a_guest_whose_kernel_dies_is_told():
    """Panic: init is gone."""
    out = said_by_failed("sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000")
    check("Bail out! guest uml61 had its kernel say: Kernel panic" in out, out)


@test
def a_guest_whose_kernel_found_a_fault_has_failed():
    """Though its command ended well."""
    out = said_by_failed("sh", "-c", "echo '<1>BUG: of this test' >/dev/kmsg; echo done")
    check(out.startswith("done\nBail out! guest uml61 had its kernel say: "), out)
    check("BUG: of this test" in out, out)


def ends_with(number):
    """A signal to guest.py, while processes run in the guest."""
    with tempfile.TemporaryDirectory() as scratch:
        guest = command(scratch, "sh", "-c", "sleep 1000 & echo up; sleep 1000")
        check_equal(guest.stdout.readline(), "up\n", "first line")
        guest.send_signal(number)
        guest.wait(LIMIT_S)
        nothing_is_left(scratch)


@test
def it_ends_with_a_signal():
    """An orderly one."""
    ends_with(signal.SIGTERM)


@test
def it_ends_with_one_that_cannot_be_caught():
    """The script has no last word."""
    ends_with(signal.SIGKILL)


@test
def it_ends_with_whoever_started_it():
    """A runner that was killed."""
    with tempfile.TemporaryDirectory() as scratch:
        start = [sys.executable, GUEST, "uml61", "--", "sh", "-c", "echo up; sleep 1000"]
        runner = subprocess.Popen([sys.executable, "-c", "import subprocess, sys\n"
                                   "subprocess.run(sys.argv[1:], check=False)", *start],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "TMPDIR": scratch})
        check_equal(runner.stdout.readline(), "up\n", "first line")
        runner.kill()
        runner.wait(LIMIT_S)
        nothing_is_left(scratch)


main()
