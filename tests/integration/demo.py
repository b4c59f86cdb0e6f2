"""The main job as the README gives it: tools/demo, for 3 seconds; also where io_uring is refused."""
import os
import re
import subprocess

from tap import check, check_equal, main, skip, source_dir, test
from world import helper


def run_demo(*options, launcher=()):
    """Exit code 0 only when every message arrived; the table says so, and what ran and why."""
    demo = os.path.join(source_dir(), "tools", "demo")
    got = subprocess.run([*launcher, demo, "--seconds", "3", *options], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=500, check=False)
    if launcher and got.returncode == 77:
        skip(got.stderr.strip())
    said = f"{got.stdout}\n{got.stderr}"
    check_equal(got.returncode, 0, f"exit code\n{said}")
    for word in ("messages", "bytes", "gaps", "p50", "p99", "p99.9", "max", "model", "tls"):
        check(word in got.stdout, f"'{word}' in the table\n{said}")
    check(re.search(r"gaps\W+0\b", got.stdout), f"gaps 0\n{said}")
    return got.stdout


@test
def demo_runs_over_tls_and_shows_its_table():
    said = run_demo()
    check("TLSv1.3" in said and "verified" in said, f"what TLS ran\n{said}")
    check(re.search(r"backend +uring: io_uring is usable", said), said)


@test
def demo_runs_over_plain_tcp_and_shows_its_table():
    said = run_demo("--plain")
    check("TLSv1.3" not in said, f"no TLS\n{said}")


@test
def demo_runs_where_io_uring_is_refused():
    """As Docker's default profile refuses it: the same on libev, and why."""
    said = run_demo(launcher=(helper("refuse"), "EPERM"))
    check("TLSv1.3" in said and "verified" in said, f"what TLS ran\n{said}")
    check(re.search(r"backend +ev:epoll: io_uring: EPERM: .*seccomp", said), said)
    check(re.search(r"model +(single|two-thread|three-thread): TLS in .* on ev:epoll", said), said)


@test
def demo_refuses_what_it_does_not_know():
    got = subprocess.run([os.path.join(source_dir(), "tools", "demo"), "--nonsense"],
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
                         check=False)
    check_equal(got.returncode, 2, f"exit code\n{got.stderr}")
    check("usage" in got.stderr, got.stderr)


main()
