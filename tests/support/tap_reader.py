"""Reading TAP, as our own programs and Criterion 2.4.1 write it, into test points.

Only text goes in and points come out; starting programs is the business of tests/run.py.

Criterion writes `ok - suite::name  (0.00s)`, `not ok - suite::name unexpected signal after f.c:9`,
`ok - suite::name  # SKIP reason`, and for a skip without a reason `# SKIP test was skipped`.
"""
import re
from dataclasses import dataclass

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
UNSTEADY = "unsteady"  # failed once, and passed when run again: see tests/run.py
NO_REASON = ("", "test was skipped")  # the second is what Criterion says when it was told nothing

POINT = re.compile(r"^(not )?ok\b(?:\s+\d+\b)?(?:\s+-)?\s*(.*)$")
SKIP = re.compile(r"^(.*?)\s*#\s*SKIP\b:?\s*(.*)$", re.IGNORECASE)
FAILED_ONCE = re.compile(r"^(.*?)\s*#\s*UNSTEADY\b:?\s*(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*SKIP\b:?\s*(.*))?$", re.IGNORECASE)
DURATION = re.compile(r"\s+\(\d+\.\d+s\)$")


@dataclass
class Point:
    """One test point: its name, how it went, and what is to be said about it."""

    name: str
    status: str
    detail: str = ""


def looks_like_tap(text):
    """True when a line could only have been meant as TAP."""
    return any(line.startswith("TAP version") or PLAN.match(line) or POINT.match(line)
               for line in text.splitlines())


def skipped(name, reason):
    """A skip, or a failure when it does not say why."""
    if reason.strip() in NO_REASON:
        return Point(name, FAILED, "skipped without a reason")
    return Point(name, SKIPPED, reason.strip())


def read(text):
    """All points of one program, with a failed one for each way in which the whole is wrong."""
    points, plans = [], []
    for line in text.splitlines():
        plan = PLAN.match(line)
        if plan:
            plans.append(plan)
        elif line.startswith("Bail out!"):
            points.append(Point("bail out", FAILED, line[len("Bail out!"):].strip()))
        elif POINT.match(line):
            points.append(read_point(line))
        elif points and points[-1].status == FAILED and line[:1] in ("#", " "):
            points[-1].detail += "\n" + line
    return points + faults(points, plans)


def read_point(line):
    """The point that one `ok` or `not ok` line tells of."""
    negated, rest = POINT.match(line).groups()
    skip, once = SKIP.match(rest), FAILED_ONCE.match(rest)
    if negated:
        return Point(DURATION.sub("", rest) or "unnamed", FAILED)
    if once:
        return Point(once.group(1), UNSTEADY, once.group(2))
    if skip:
        return skipped(skip.group(1), skip.group(2))
    return Point(DURATION.sub("", rest) or "unnamed", PASSED)


def faults(points, plans):
    """What is wrong with the report as a whole, as failed points."""
    if len(plans) != 1:
        return [Point("plan", FAILED, f"{len(plans)} plan lines instead of one: it ended early")]
    planned, reason = int(plans[0].group(1)), plans[0].group(2)
    if planned != len(points):
        return [Point("plan", FAILED, f"{planned} points planned, {len(points)} seen")]
    if planned == 0:
        return [skipped("all", reason or "") if reason else
                Point("plan", FAILED, "no test points")]
    return []
