#!/usr/bin/python3
"""The one runner: Criterion suites, TAP programs and plain executables of one or more builds.

    tests/run.py build/debug build/release      all tests of both
    tests/run.py build/debug --only test_base   one of them

It does not build. Every test gets directories of its own for XDG_RUNTIME_DIR and TMPDIR, and fails
as well when a sanitizer reports (in any process of it) or when it leaves a process behind. The last
line is `N passed, N failed, N skipped`, in test points.

The tests keep real clocks, sockets and processes, several tests at a time. One that failed is run
again at the end, alone: if all that failed passes AGAIN times it is unsteady, which is told by name
and does not fail the run. A crash, a hang, a sanitizer's report, a process left behind, or more than
UNSTEADY_MAX such tests in one runner do, whatever follows.
"""
import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import faults  # noqa: E402
import processes  # noqa: E402
import tap_reader  # noqa: E402
from tap_reader import FAILED, PASSED, SKIPPED, UNSTEADY, Point  # noqa: E402

WORKERS = len(os.sched_getaffinity(0)) + 1  # half of what tests do is wait
SUITE_ORDER = ["guest", "lint", "unit", "conformance", "sim", "threads", "models", "integration", "fuzz"]
SERIAL_SUITES = {"serial", "bench"}
# LSan of a process that was killed while it looked for leaks: no finding.
NO_REPORT = re.compile(r"^==\d+==Unable to get registers from thread \d+\.$", re.MULTILINE)
TOLD_SUITES = {"fuzz"}  # what their points say is shown
LONG_SUITES = {"long"}  # only with --long
LONG_TIMEOUT_FACTOR = 10
GUEST_TIMEOUT_FACTOR = 4  # tests/vm sets TESTS_GUEST: all is slower there
MEMCHECK_TIMEOUT_FACTOR = 10
# As Criterion, the shell and our own scripts name it.
CRASH = re.compile(r"unexpected signal|check failed|SIG(ABRT|BUS|FPE|ILL|SEGV)|"
                   r"exit code:? (-(4|6|7|8|11)|13[2-9])\b")
OF_THE_WHOLE = {"end", "plan"}  # failures that are no point's
AGAIN = 3
UNSTEADY_MAX = 5
SKIP_EXIT_CODE = 77
SHOWN_LINES = 60

# A Criterion test is ended by its own report of success: what a sanitizer says later, when the
# worker exits (leaks), changes neither the point nor the exit code. So reports go to files, which
# we look for; a report in the middle of a test aborts it.
SANITIZERS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
REPORT_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer",
                ": runtime error: ")

# --memcheck: valgrind does not see what the kernel writes by io_uring, so that is refused, and libev
# and the simulation do all. Criterion wants memory where valgrind has its own: as in the guests,
# tests/vm/criterion.c stands in for it.
MEMCHECK = ["valgrind", "--quiet", "--trace-children=yes", "--leak-check=full",
            "--show-leak-kinds=definite", "--vgdb=no", "--num-callers=30"]
# They need what valgrind has not (io_uring, seccomp, pidfd_open), or measure memory and time.
NOT_MEMCHECK = re.compile(r"bench|conformance_uring.*|forbidden|kernel|soak_.*|test_conn_crowd|"
                          r"test_polling|test_quiet|test_restrict|torture_.*")


@dataclass
class Test:
    """One test executable of one build directory."""

    build: str
    name: str
    cmd: list
    env: dict
    workdir: str
    timeout_s: float
    suites: set
    parallel: bool
    protocol: str
    logs: str

    def rank(self):
        """Fast suites first, then in the order of the build."""
        return min((SUITE_ORDER.index(s) for s in self.suites if s in SUITE_ORDER),
                   default=len(SUITE_ORDER))

    def log(self, kind):
        """Path of one of its logs."""
        return os.path.join(self.build, "test-logs", self.logs, f"{self.name}.{kind}")

    def runs_others(self):
        """Whether it is this runner in another place, which runs again itself what failed there."""
        return any(os.path.basename(word) == "run.py" for word in self.cmd)

    def alone(self, options):
        """How to run just this one again."""
        flags = (" --long" if options.long else "") + (" --memcheck" if options.memcheck else "")
        return f"{shown(sys.argv[0])} {shown(self.build)} --only {self.name}{flags}"


@dataclass
class Outcome:
    """What came of one test."""

    test: Test
    points: list
    seconds: float = 0.0
    output: str = ""
    grave: bool = False  # a crash, a sanitizer's report, a process left behind

    def count(self, status):
        """Points with this status."""
        return sum(p.status == status for p in self.points)

    def of(self, status):
        """Points with this status."""
        return [p for p in self.points if p.status == status]

    def may_be_chance(self):
        """Whether what failed may be owed to other load."""
        return self.count(FAILED) and not self.grave and not self.test.runs_others()


@dataclass
class Ended:
    """How a test's process ended."""

    code: int
    timed_out: bool = False
    left: list = field(default_factory=list)


def shown(path):
    """A path as one would type it here."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def read_text(path):
    """A file's text, empty if it is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def tests_of(build, logs):
    """All tests of a build directory, as meson knows them."""
    answer = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True,
                            text=True, check=False)
    if answer.returncode != 0:
        sys.exit(f"run.py: {build} is no build directory: run tools/check, or meson setup {build}")
    return [Test(build=os.path.abspath(build), name=row["name"], cmd=row["cmd"], env=row["env"],
                 workdir=row["workdir"] or os.path.abspath(build), timeout_s=row["timeout"],
                 suites={s.split(":")[-1] for s in row["suite"]}, parallel=row["is_parallel"],
                 protocol=row["protocol"], logs=logs)
            for row in json.loads(answer.stdout)]


def chosen(test, options):
    """Whether the command line wants this test."""
    if options.only and test.name not in options.only:
        return False
    if options.suite and not test.suites & set(options.suite):
        return False
    if test.suites & LONG_SUITES and not options.long:
        return False
    if options.memcheck and (os.path.basename(test.cmd[0]).startswith("python") or
                             NOT_MEMCHECK.fullmatch(test.name)):
        return False
    return not (test.suites | {test.name}) & set(options.exclude)


def environment(test, options, private):
    """The test's environment: the caller's without its SLUICE_* settings, and our own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    env.update({"LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": private, "TMPDIR": private,
                "PYTHONDONTWRITEBYTECODE": "1", processes.MARK: private})
    if options.long:
        env["SLUICE_LONG"] = "1"
    if options.memcheck:
        env["LD_LIBRARY_PATH"] = os.path.join(test.build, "tests", "vm")
        env["TESTS_MEMCHECK"] = "1"
    for name, value in SANITIZERS.items():
        env[name] = f"{value}:log_path={test.log('sanitizer')}"
    env.update(test.env)
    return env


def command(test, options):
    """The command line; Criterion writes its TAP to a file, one test at a time."""
    under = [os.path.join(test.build, "tests", "refuse"), "ENOSYS", *MEMCHECK,
             f"--log-file={test.log('sanitizer')}.%p"] if options.memcheck else []
    if "criterion" in test.suites:
        return [*under, *test.cmd, f"--tap={test.log('tap')}", "-j1"]
    return [*under, *test.cmd]


def remove_logs(test):
    """Take away what an earlier run wrote."""
    folder = os.path.dirname(test.log("x"))
    os.makedirs(folder, exist_ok=True)
    kinds = ("out.", "err.", "tap.", "sanitizer.")
    for entry in os.listdir(folder):
        if any((entry + ".").startswith(f"{test.name}.{kind}") for kind in kinds):
            os.unlink(os.path.join(folder, entry))


def start_and_wait(test, options, private, running):
    """Run the process to its end or its time limit; nothing of it is left alive."""
    with open(test.log("out"), "wb") as out, open(test.log("err"), "wb") as err:
        child = subprocess.Popen(command(test, options), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                 cwd=test.workdir, env=environment(test, options, private),
                                 start_new_session=True)
    running[child.pid] = private
    try:
        return Ended(child.wait(timeout=test.timeout_s),
                     left=processes.end_leftovers(child.pid, private, grace_s=1.0))
    except subprocess.TimeoutExpired:
        processes.end_leftovers(child.pid, private, grace_s=0.0)
        return Ended(child.wait(), timed_out=True)
    finally:
        running.pop(child.pid, None)


def sanitizer_reports(test):
    """What sanitizers wrote, to files or on stderr."""
    folder, stem = os.path.split(test.log("sanitizer"))
    reports = [read_text(os.path.join(folder, entry)) for entry in sorted(os.listdir(folder))
               if entry.startswith(stem)]
    reports = [text for text in reports if set(text.split("\n")) - {"", *NO_REPORT.findall(text)}]
    stderr = read_text(test.log("err"))
    if any(mark in stderr for mark in REPORT_MARKS):
        reports.append(stderr)
    return reports


def speaks_tap(test):
    """Whether the test must report, or does report, its points."""
    return ("criterion" in test.suites or test.protocol == "tap" or
            tap_reader.looks_like_tap(read_text(test.log("out"))))


def points_of_plain(test, ended):
    """Points of an executable that speaks no TAP: its exit code is all it says."""
    if ended.code == SKIP_EXIT_CODE:
        lines = (read_text(test.log("out")) + read_text(test.log("err"))).split("\n")
        return [tap_reader.skipped(test.name, ([""] + [x for x in lines if x.strip()])[-1])]
    if ended.code != 0 or ended.timed_out:
        return []  # verdict() says what happened
    return [Point(test.name, PASSED)]


def points_of(test, ended):
    """The points that a test reports itself."""
    if not speaks_tap(test):
        return points_of_plain(test, ended)
    return tap_reader.read(read_text(test.log("tap" if "criterion" in test.suites else "out")))


def verdict(test, ended, points):
    """Failures that the test does not report itself."""
    problems = []
    reports = sanitizer_reports(test)
    unexplained = not reports and not any(p.status == FAILED for p in points)
    if not speaks_tap(test) and ended.code == SKIP_EXIT_CODE:
        unexplained = False
    if ended.timed_out:
        problems.append(Point("time limit", FAILED, f"still running after {test.timeout_s:g} s"))
    elif ended.code < 0:
        problems.append(Point("end", FAILED, f"killed by {signal.Signals(-ended.code).name}"))
    elif ended.code != 0 and unexplained:
        problems.append(Point("end", FAILED, f"exit code {ended.code}"))
    elif ended.code == 0 and not points:
        problems.append(Point("end", FAILED, "no test points"))
    if reports:
        problems.append(Point("sanitizer", FAILED, "a sanitizer reported, see below"))
    if ended.left:
        problems.append(Point("end", FAILED, "left running: " + ", ".join(ended.left)))
    return problems


def is_grave(test, ended, points):
    """Whether something happened that no other load excuses."""
    crashed = any(CRASH.search(p.name + ": " + p.detail) for p in points if p.status == FAILED)
    return bool(crashed or ended.timed_out or ended.code < 0 or ended.left or sanitizer_reports(test))


def run_one(test, options, scratch, running):
    """Run one test and gather what came of it."""
    remove_logs(test)
    private = tempfile.mkdtemp(dir=scratch)  # short: Unix socket paths end at 108 bytes
    began = time.monotonic()
    try:
        ended = start_and_wait(test, options, private, running)
    except OSError as error:
        return Outcome(test, [Point("start", FAILED, str(error))])
    points = points_of(test, ended)
    points += verdict(test, ended, points)
    shutil.rmtree(private, ignore_errors=True)
    return Outcome(test, points, time.monotonic() - began, output_of(test, points),
                   is_grave(test, ended, points))


def output_of(test, points):
    """What the test wrote, without what its failed points tell already."""
    told = {line for point in points for line in point.detail.split("\n")}
    texts = [read_text(test.log("out")), read_text(test.log("err"))]
    texts += [text for text in sanitizer_reports(test) if text not in texts]
    return "\n".join(line for text in texts for line in text.splitlines() if line not in told)


def plain_name(point):
    """Its name in a passed and in a failed run: of Criterion's the first word, and where it begins
    with a count any count will do."""
    name = point.name.split(" ")[0] if "::" in point.name else point.name
    return re.sub(r"\d+", "N", name) if name[:1].isdigit() else name


def makes_good(again, outcome):
    """All that failed has passed, and nothing is skipped that was not."""
    passed = {plain_name(p) for p in again.of(PASSED)}
    failed = {plain_name(p) for p in outcome.of(FAILED)} - OF_THE_WHOLE
    skipped = {plain_name(p) for p in again.of(SKIPPED)} - {plain_name(p) for p in outcome.of(SKIPPED)}
    return not again.count(FAILED) and failed <= passed and not skipped


class Report:
    """What people see."""

    def __init__(self, total, options):
        self.total = total
        self.options = options
        self.outcomes = []
        self.lock = threading.Lock()

    def add(self, outcome):
        """One progress line, and at once what went wrong."""
        with self.lock:
            self.outcomes.append(outcome)
            self.show_progress(outcome)
            if outcome.count(FAILED):
                self.show_failure(outcome)
            sys.stdout.flush()

    def settle(self, outcome, again):
        """What came of running a failed one again, so often."""
        if again and all(makes_good(other, outcome) for other in again):
            failed = {plain_name(p) for p in outcome.of(FAILED)}
            outcome.points = again[-1].points + [p for p in outcome.of(FAILED) if p.name in OF_THE_WHOLE]
            for point in outcome.points:
                if plain_name(point) in failed:
                    point.status = UNSTEADY
                    point.detail = f"failed once, passed {len(again)} times alone"
        self.show_settled(outcome)
        sys.stdout.flush()

    def show_settled(self, outcome):
        """A line."""
        print(f"again: {os.path.basename(outcome.test.build)} {outcome.test.name}: "
              f"{'FAILED' if outcome.count(FAILED) else UNSTEADY}")

    def show_progress(self, outcome):
        """`[ 3/17] debug   test_base   12 passed   0.4 s`."""
        test = outcome.test
        counts = ", ".join(f"{outcome.count(s)} {s.upper() if s == FAILED else s}"
                           for s in (PASSED, FAILED, SKIPPED, UNSTEADY) if outcome.count(s))
        width = len(str(self.total))
        print(f"[{len(self.outcomes):{width}}/{self.total}] {os.path.basename(test.build):8} "
              f"{test.name:28} {counts:32} {outcome.seconds:7.1f} s")

    def show_failure(self, outcome):
        """Each failed point, the end of the output, and how to run it alone."""
        test = outcome.test
        for point in outcome.of(FAILED):
            detail = point.detail.replace("\n", "\n      ")
            colon = ": " if detail and not detail.startswith("\n") else ""
            print(f"    FAILED {test.name}: {point.name}{colon}{detail}")
        lines = outcome.output.rstrip().splitlines()
        if len(lines) > SHOWN_LINES:
            print(f"    | ... {len(lines) - SHOWN_LINES} lines more in {shown(test.log('*'))}")
        for line in lines[-SHOWN_LINES:]:
            print(f"    | {line}")
        print(f"    alone: {test.alone(self.options)}")
        if "criterion" in test.suites:
            print(f"    one of its tests: {shown(test.cmd[0])} --filter SUITE/NAME")

    def close(self, began):
        """Skips with reasons, names of failures, what fuzzers did, total time, and the closing line."""
        for outcome in self.outcomes:
            for point in outcome.of(SKIPPED):
                print(f"skipped: {os.path.basename(outcome.test.build)} {outcome.test.name}: "
                      f"{point.name}: {point.detail}")
        for outcome in self.outcomes:
            for point in outcome.of(UNSTEADY):
                print(f"unsteady: {os.path.basename(outcome.test.build)} {outcome.test.name}: "
                      f"{point.name}: {point.detail}")
        for outcome in self.outcomes:
            for point in outcome.of(FAILED):
                print(f"failed: {os.path.basename(outcome.test.build)} {outcome.test.name}: "
                      f"{point.name}")
        for outcome in self.outcomes:
            for point in outcome.of(PASSED) if outcome.test.suites & TOLD_SUITES else []:
                print(f"{outcome.test.name}: {point.name}")
        minutes, seconds = divmod(round(time.time() - began), 60)
        print(f"total time: {minutes} min {seconds:02} s")
        passed, failed, skipped = (sum(o.count(s) for o in self.outcomes)
                                   for s in (PASSED, FAILED, SKIPPED))
        passed += sum(p.name.split(": ")[-1] not in OF_THE_WHOLE
                      for o in self.outcomes for p in o.of(UNSTEADY))
        print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
        return failed == 0 and passed + skipped > 0


class TapReport(Report):
    """The same as TAP, for the runner outside of the guest that this one runs in."""

    points = 0

    def add(self, outcome):
        """At once, but for what is run again."""
        if outcome.may_be_chance():
            self.outcomes.append(outcome)
        else:
            super().add(outcome)

    def show_settled(self, outcome):
        """What was held back."""
        self.show_progress(outcome)
        if outcome.count(FAILED):
            self.show_failure(outcome)

    def show_progress(self, outcome):
        """A line per point, named after the test too; failures last, for what show_failure() adds."""
        for point in sorted(outcome.points, key=lambda point: point.status == FAILED):
            self.points += 1
            verdict = "not ok" if point.status == FAILED else "ok"
            reason = {SKIPPED: f" # SKIP {point.detail}", UNSTEADY: f" # UNSTEADY {point.detail}"}.get(point.status, "")
            print(f"{verdict} {self.points} - {outcome.test.name}: {point.name}{reason}")
            if point.status == FAILED and point.detail:
                print("# " + point.detail.strip().replace("\n", "\n# "))

    def show_failure(self, outcome):
        """As comments, which belong to the point above."""
        for line in outcome.output.splitlines()[-SHOWN_LINES:]:
            print("# | " + line)

    def close(self, began):
        """The plan."""
        print(f"1..{self.points}", flush=True)
        return not any(outcome.count(FAILED) for outcome in self.outcomes)


def run_again(report, run):
    """Each outcome that may be chance, with those of running it alone: none if there are too many."""
    doubtful = [outcome for outcome in report.outcomes if outcome.may_be_chance()]
    for outcome in doubtful:
        again = []
        while len(doubtful) <= UNSTEADY_MAX and len(again) < AGAIN:
            again.append(run(outcome.test))
            if again[-1].count(FAILED):
                break
        yield outcome, again


def run_all(tests, options, report):
    """Some at a time, then those that must be alone, then what failed and may be chance."""
    scratch = tempfile.mkdtemp(prefix="sluice-")
    running = {}

    def run(test):
        report.add(run_one(test, options, scratch, running))

    pool = ThreadPoolExecutor(WORKERS)
    try:
        list(pool.map(run, [t for t in tests if t.parallel]))
        for test in (t for t in tests if not t.parallel):
            run(test)
        for outcome in run_again(report, lambda test: run_one(test, options, scratch, running)):
            report.settle(*outcome)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        for pid, private in list(running.items()):
            processes.end_leftovers(pid, private, grace_s=0.0)
        sys.exit(130)
    finally:
        pool.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", metavar="BUILD", help="a build directory")
    parser.add_argument("--suite", action="append", default=[], help="only this suite (repeatable)")
    parser.add_argument("--exclude", action="append", default=[], help="not this suite or test (repeatable)")
    parser.add_argument("--only", action="append", default=[], metavar="TEST",
                        help="only the test of this name (repeatable)")
    parser.add_argument("--long", action="store_true", help="longer campaigns (SLUICE_LONG=1)")
    parser.add_argument("--memcheck", action="store_true",
                        help="under valgrind, without io_uring; no Python scripts")
    parser.add_argument("--list", action="store_true", help="show the tests, run nothing")
    parser.add_argument("--faults", metavar="FILE", help="bring the fault matrix up to date (tests/faults.md)")
    parser.add_argument("--tap", action="store_true", help="report as TAP")
    parser.add_argument("--started", type=float, metavar="EPOCH_S", default=time.time(),
                        help="count the total time from this moment")
    return parser.parse_args()


def main():
    """Find, choose, run, report."""
    options = parse_arguments()
    logs = "memcheck" if options.memcheck else ""
    known = [t for build in options.builds for t in tests_of(build, logs)]
    tests = sorted((t for t in known if chosen(t, options)), key=Test.rank)
    for test in tests:
        test.parallel = test.parallel and not test.suites & SERIAL_SUITES
        test.timeout_s *= LONG_TIMEOUT_FACTOR if options.long else 1
        test.timeout_s *= MEMCHECK_TIMEOUT_FACTOR if options.memcheck else 1
        test.timeout_s *= GUEST_TIMEOUT_FACTOR if "TESTS_GUEST" in os.environ else 1
    if options.list:
        for test in tests:
            print(f"{shown(test.build):20} {test.name:28} {' '.join(sorted(test.suites))}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Tests that abort on purpose would litter the place.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    report = (TapReport if options.tap else Report)(len(tests), options)
    run_all(tests, options, report)
    if not tests:
        print("run.py: no test matches")
    if options.faults:
        faults.write(options.faults, report.outcomes, known)
    return 0 if report.close(options.started) else 1


if __name__ == "__main__":
    sys.exit(main())
