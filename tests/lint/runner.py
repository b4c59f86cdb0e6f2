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
                                  timeout_s=2, suites=set(), parallel=True, protocol="exitcode", logs=""))
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
    check("unsteady: 1 t1: end: failed once, passed 3 times alone" in lines, lines)


@test
def points_are_those_of_the_whole_run():
    """Not of the one that ended early."""
    passed, lines = ran("echo ok 1 - a; test -e seen || { : >seen; exit 3; }; echo not ok 2 - b | sed s/not.//; echo 1..2")
    check(passed, lines)
    check_equal(lines[-1], "2 passed, 0 failed, 0 skipped", "last line")


@test
def what_is_named_by_its_count_passes_with_another():
    """As the campaigns of threads name theirs."""
    check(ran("test -e seen || { : >seen; echo not ok 1 - 4 of 5 seen; echo 1..1; exit 1; }; "
              "echo ok 1 - 7 of 7 seen; echo 1..1")[0], "passed")


@test
def what_is_skipped_then_has_not_passed():
    """Of the whole, or the very point."""
    for then in ("exit 77", "echo ok 1 - a '# SKIP no more'; echo 1..1; exit 0", "echo ok 1 - b; echo 1..1; exit 0"):
        passed, lines = ran("test ! -e seen || { echo why; %s; }; : >seen; echo not ok 1 - a; echo 1..1; exit 1" % then)
        check(not passed, [then, *lines])
    check(not ran("test ! -e seen || { echo why; exit 77; }; : >seen; exit 1")[0], "no point failed")


@test
def what_fails_again_failed():
    """Always, or once in a while."""
    passed, lines = ran("false", "echo >>runs; test $(wc -l <runs) = 2")
    check(not passed, lines)
    check_equal(lines[-1], "0 passed, 2 failed, 0 skipped", "last line")


@test
def a_crash_failed_whatever_follows():
    """So do a hang, a sanitizer's report and a process left behind."""
    for end in ("kill -SEGV $$", "echo ': runtime error: ' >&2", "setsid sleep 30 &", "exec sleep 30",
                "echo not ok 1 - a: SIGABRT; echo 1..1; exit 1"):
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
                [("t0: t0", run.PASSED), ("t1: end", run.UNSTEADY), ("t1: t1", run.PASSED), ("t2: end", run.FAILED)], "points")


main()
