"""The fault matrix: rows and what must come of each (faults.txt), the tests that prove them (those with
the row's number in their names: row_12_..., rows_8_9_..., rows_30_to_34_..., "row 62: ..."), and where
these ran and what they showed (faults.md, written by tests/run.py --faults).

The file tells facts that stay: no times, no numbers of one run. A run changes the lines of what it ran;
those of what it did not run (without --long, say, or a build that was not asked for) stay as they are.
"""
import os
import re
from dataclasses import dataclass

from tap_reader import FAILED, PASSED, SKIPPED, UNSTEADY

FOLDER = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(FOLDER, "faults.txt")
NAMED = re.compile(r"(?<![a-z])(?:row_(\d+)|row (\d+):|rows_(\d+(?:_to_\d+|_\d+)*))(?!\d)")
ROW = re.compile(r"^(\d+) ([^:]+): (.+)$")
REASON = re.compile(r"^ +no test: (.+)$")
SOURCES = (".c", ".h", ".py")
GUEST = re.compile(r"guest_(uml\d+|cloud)")
LONG = "*"
HEADER = f"""# Fault matrix

What may go wrong and what must come of it ([faults.txt](faults.txt)), the tests that prove it, and where
they ran: in which build, or in which guest with a kernel of its own (tests/vm). Written by
`tests/run.py --faults`, as `tools/check` calls it. `{LONG}`: only with `--long`; what a run leaves out stays as
the last one that looked found it.
"""
COLUMNS = "| test | program | passed | skipped |\n|---|---|---|---|"
LINE = re.compile(r"^\| `(.+)` \| (\S+) \| (.*) \| (.*) \|$")
SKIPS = re.compile(r"(.+?) \(([^()]*)\)(?:; |$)")


@dataclass
class Row:
    """One row of the table."""

    fault: str
    outcome: str
    no_test: str = ""


@dataclass(frozen=True)
class Proof:
    """One test point in one place: a build or a guest, with a * if only --long goes there."""

    point: str
    program: str
    place: str


def rows_in(text):
    """The numbers of the rows that names in a text have."""
    numbers = set()
    for one, told, several in NAMED.findall(text):
        if one or told:
            numbers.add(int(one or told))
        for first, last in re.findall(r"(\d+)(?:_to_(\d+))?", several):
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def read_rows():
    """The table, by number."""
    rows = {}
    with open(TABLE, encoding="utf-8") as file:
        for line in file:
            row, reason = ROW.match(line), REASON.match(line)
            if row:
                rows[int(row.group(1))] = last = Row(row.group(2), row.group(3))
            elif reason:
                last.no_test = reason.group(1)
            elif line.strip() and not line.startswith("#"):
                raise ValueError(f"faults.txt: neither a row nor a reason: {line.strip()}")
    return rows


def rows_of_sources():
    """The rows that the sources of the tests have names for."""
    found = set()
    for folder, _, names in os.walk(FOLDER):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(SOURCES) and path != os.path.abspath(__file__):
                with open(path, encoding="utf-8") as file:
                    found |= rows_in(file.read())
    return found


def stable(text):
    """What a reason says before it goes into details of one run."""
    return text.split(": ")[0].translate(str.maketrans("()|", "[]/"))


def place_of(test):
    """The guest or the build that it runs in."""
    guest = GUEST.match(test.name)
    place = guest.group(1) if guest else os.path.basename(test.build)
    return place + (LONG if "long" in test.suites else "")


def proofs_of(outcome):
    """{proof: "" passed, a reason skipped, None failed} of one test's run."""
    test, found = outcome.test, {}
    is_runner = GUEST.match(test.name) and not test.name.startswith("guest_cloud")
    for point in outcome.points:
        program, name = test.name, point.name
        if is_runner and ": " in name: # a whole build's tests: see TapReport of run.py
            program, name = name.split(": ", 1)
        if rows_in(name):
            found[Proof(name, program, place_of(test))] = {
                PASSED: "", UNSTEADY: "", SKIPPED: stable(point.detail), FAILED: None}[point.status]
    return found


def read_file(path):
    """What an earlier run wrote, as proofs_of()."""
    found = {}
    if not os.path.exists(path):
        return found
    with open(path, encoding="utf-8") as file:
        lines = [match.groups() for match in map(LINE.match, file) if match]
    for point, program, passed, skipped in lines:
        for place in filter(None, passed.split(", ")):
            name, failed = place.removesuffix(" FAILED"), place.endswith(" FAILED")
            found[Proof(point, program, name)] = None if failed else ""
        for reason, places in SKIPS.findall(skipped):
            found.update({Proof(point, program, place): reason for place in places.split(", ")})
    return found


def still_holds(proof, outcomes, tests):
    """Whether this run left alone what an earlier one found, and it could be found again."""
    ran = {(outcome.test.name, place_of(outcome.test)) for outcome in outcomes}
    if (proof.program, proof.place) in ran or (f"guest_{proof.place}", proof.place) in ran:
        return False
    builds = {os.path.basename(test.build) for test in tests}
    known = {(test.name, place_of(test)) for test in tests}
    return proof.place.removesuffix(LONG) not in builds or (proof.program, proof.place) in known


def lines_of(proofs):
    """The table of one row: a line for each point of each program."""
    for point, program in sorted({(proof.point, proof.program) for proof in proofs}):
        passed, skipped = [], {}
        for proof in sorted(proofs, key=lambda proof: proof.place):
            said = proofs[proof]
            if (proof.point, proof.program) != (point, program):
                continue
            if said:
                skipped.setdefault(said, []).append(proof.place)
            else:
                passed.append(proof.place + (" FAILED" if said is None else ""))
        reasons = [f"{reason} ({', '.join(places)})" for reason, places in sorted(skipped.items())]
        yield f"| `{point}` | {program} | {', '.join(passed)} | {'; '.join(reasons)} |"


def write(path, outcomes, tests):
    """Bring the file up to date with a run's outcomes; tests: all of its builds, run or not."""
    proofs = {proof: said for proof, said in read_file(path).items()
              if still_holds(proof, outcomes, tests)}
    for outcome in outcomes:
        proofs.update(proofs_of(outcome))
    text = HEADER
    for number, row in sorted(read_rows().items()):
        mine = {proof: said for proof, said in proofs.items() if number in rows_in(proof.point)}
        text += f"\n## {number}: {row.fault}\n\n{row.outcome}\n\n"
        text += "\n".join([COLUMNS, *lines_of(mine)] if mine else
                          [f"No test: {row.no_test}." if row.no_test else "Not run yet."]) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
