#!/usr/bin/python3
"""Runs a command in a guest: another kernel (kernels.py) on this machine, as root, with a loopback
network of its own.

    tests/vm/guest.py uml61 -- uname -r
    tests/vm/guest.py uml61 --writable build/release/test-logs=/tmp/logs -- tests/run.py build/release

The guest's standard output is ours, its exit code too. /tmp and /run are its own, all else it may
only read. It fails, and what its kernel said is shown, when it did not come to its end or its kernel
found a fault in itself (BUG). It never outlives this script: it ends with its time limit, with a
signal, and when whoever started the script was killed.
"""
import argparse
import ctypes
import os
import re
import select
import shlex
import shutil
import signal
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
from kernels import KERNELS, Absent  # noqa: E402

LIMIT_S = 900.0
PR_SET_PDEATHSIG = 1
SHOWN_LINES = 40
PANIC, BROKEN = "Kernel panic - not syncing", "BUG: "
ENDED = re.compile(r"^guest: exit (\d+)$")


def write_job(kernel, options, scratch):
    """What the guest's init is to do, as shell text."""
    modules = shlex.join(kernel.modules(scratch))
    mounts = " && ".join(kernel.mounts(options) or ["true"])
    with open(os.path.join(scratch, "job"), "w", encoding="utf-8") as file:
        file.write(f"guest={kernel.name}\n"
                   f"stream={kernel.stream}\n"
                   f"own={shlex.quote(' '.join(kernel.own))}\n"
                   f"directory={shlex.quote(os.getcwd())}\n"
                   f"modules() {{ for module in {modules}; do insmod \"$module\"; done; }}\n"
                   f"mounts() {{ {mounts}; }}\n"
                   f"command() {{ {shlex.join(options.command)}; }}\n")


def end_group(group):
    """All of the guest's processes, at once."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def watch_over(group, scratch):
    """Start a process that ends the guest when this one is gone, however it went; its pid."""
    ours, kept_open = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ours)
        return pid
    os.setpgid(0, 0)  # no Ctrl-C reaches it
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    os.close(kept_open)
    os.read(ours, 1)
    end_group(group)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def lines_of(process, woken):
    """Its lines as they come. A signal that comes just before a read would not end it: woken does."""
    rest = b""
    while True:
        if process.stdout in select.select([process.stdout, woken], [], [])[0]:
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def relay(process, woken):
    """Its lines to our standard output; the exit code it named, or None."""
    for raw in lines_of(process, woken):
        line = raw.decode(errors="replace").rstrip("\r")
        ended = ENDED.match(line)
        if ended:
            return int(ended.group(1))
        print(line, flush=True)
    return None


def run(kernel, options, scratch, woken):
    """Start, relay, end; the exit code."""
    write_job(kernel, options, scratch)
    log_path = os.path.join(scratch, "kernel")
    with open(log_path, "wb") as kernel_log:
        process = kernel.start(options, scratch, kernel_log)
    watcher = watch_over(process.pid, scratch)
    late = threading.Event()
    timer = threading.Timer(options.limit, lambda: (late.set(), end_group(process.pid)))
    timer.start()
    try:
        code = relay(process, woken)
    finally:
        timer.cancel()
        end_group(process.pid)
        process.wait()
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
    with open(log_path, encoding="utf-8", errors="replace") as file:
        said = file.read().splitlines()
    wrong = [line for line in said if BROKEN in line or PANIC in line]
    if code is not None and not wrong:
        return code
    reason = (f"still running after {options.limit:g} s" if late.is_set() else
              f"had its kernel say: {wrong[0]}" if wrong else "ended before its command")
    print(f"Bail out! guest {kernel.name} {reason}")
    print("\n".join("# " + line for line in wrong + said[-SHOWN_LINES:]), flush=True)
    return 1


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", choices=sorted(KERNELS))
    parser.add_argument("--readable", action="append", default=[], metavar="PLACE",
                        help="a file or directory that the command needs: on cloud every one, "
                        "otherwise those below /tmp and /run (repeatable)")
    parser.add_argument("--writable", action="append", default=[], metavar="PLACE=DIR",
                        help="at PLACE the guest sees DIR of this machine, and may write; "
                        "not on cloud (repeatable)")
    parser.add_argument("--program", action="append", default=[],
                        help="on cloud: one more program that the command starts (repeatable)")
    parser.add_argument("--python", action="store_true", help="on cloud: Python is there, too")
    parser.add_argument("--qemu", action="append", default=[], metavar="WORD",
                        help="on cloud: one more word of qemu's command line (repeatable)")
    parser.add_argument("--append", action="append", default=[], metavar="WORD",
                        help="on cloud: one more word of the kernel's command line (repeatable)")
    parser.add_argument("--memory", default="2G", help="how much it has (2G)")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="time limit")
    parser.add_argument("command", nargs="+", help="the command, behind --")
    return parser.parse_args()


def main():
    """Boot, run, say."""
    options = parse_arguments()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    scratch = tempfile.mkdtemp(prefix="guest-")
    try:
        return run(KERNELS[options.kernel], options, scratch, woken)
    except (Absent, OSError) as error:
        print(f"Bail out! guest {options.kernel}: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
