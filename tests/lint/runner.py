"""What tests/run.py does with a test that failed."""
import contextlib
import io
import os
import sys
import tempfile
import time
from types import SimpleNamespace

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import run
from tap import check, check_equal, main, test

OPTIONS = SimpleNamespace(long=False, memcheck=False)
FAILS_ONCE = "test -e seen || { : >seen; exit 1; }"


def ran(*scripts, report_type=run.Report):
    """What shell scripts came to as tests: (whether the run passed, the report's lines)."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
        tests = []
        for n, script in enumerate(scripts):
            place = os.path.join(folder, str(n))
            os.mkdir(place)
            tests.append(run.Test(build=place, name=f"t{n}", cmd=["/bin/sh", "-c", script], env={}, workdir=place,
                                  timeout_s=20, suites=set(), parallel=True, protocol="exitcode", logs=""))
        report = report_type(len(tests), OPTIONS)
        run.run_all(tests, OPTIONS, report)
        passed = report.close(time.time())
    return passed, out.getvalue().splitlines()


@test
def what_passes_again_is_unsteady_and_named():
    """The run passes, and says so."""
    passed, lines = ran("true", FAILS_ONCE)
    check(passed, lines)
    check_equal(lines[-1], "2 passed, 0 failed, 0 skipped", "last line")
    check("unsteady: 1 t1: end: failed beside others, passed 3 times alone" in lines, lines)


@test
def what_fails_again_failed():
    """Always, or once in a while."""
    passed, lines = ran("false", "echo >>runs; test $(wc -l <runs) = 2")
    check(not passed, lines)
    check_equal(lines[-1], "0 passed, 2 failed, 0 skipped", "last line")


@test
def a_crash_failed_whatever_follows():
    """So do a sanitizer's report and a process left behind."""
    for end in ("kill -SEGV $$", "echo ': runtime error: ' >&2", "setsid sleep 30 &"):
        passed, lines = ran("test -e seen || { : >seen; %s }" % (end + (";" if end[-1] != "&" else "")))
        check(not passed, [end, *lines])


@test
def many_are_no_chance():
    """One more than the limit."""
    check(ran(*[FAILS_ONCE] * run.UNSTEADY_MAX)[0], "as many as are allowed")
    check(not ran(*[FAILS_ONCE] * (run.UNSTEADY_MAX + 1))[0], "one more")


@test
def a_guests_runner_tells_it_as_tap():
    """And the runner outside reads it."""
    passed, lines = ran("true", FAILS_ONCE, "false", report_type=run.TapReport)
    check(not passed, lines)
    points = run.tap_reader.read("\n".join(lines))
    check_equal(sorted((p.name, p.status) for p in points),
                [("t0: t0", run.PASSED), ("t1: end", run.UNSTEADY), ("t2: end", run.FAILED)], "points")


main()
