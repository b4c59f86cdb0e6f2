"""What tools/bench makes of what its programs say: report, pictures, verdict. The programs are
scripts here that print known lines."""
import json
import os
import shutil
import subprocess
import sys

from tap import check, check_equal, main, source_dir, test
from world import World, need

CORES = [{"kind": "machine", "cores": 2, "pinned": [0, 1], "cycles_per_s": 1e9, "is_tsc": True},
         {"kind": "line", "values": [100, 110, 120]}]


def ratio(name, ours, limit, goal="at most", within=False, spread=0):
    """A figure of 15 rounds."""
    return {"kind": "ratio", "name": name, "text": f"{name}, ours", "reference_text": "bare",
            "unit": "ns", "goal": goal, "limit": limit, "within_interval": within,
            "ours": [ours - spread, ours, ours + spread] * 5, "reference": [100.0] * 15}


CURVE = {"kind": "curve", "name": "a_curve", "text": "trips", "unit": "ns", "percents": [50, 99, 99.9],
         "curves": {"it's ours": [10, 20, 30], "bare": [9, 21, 33]}}


def bench(w, rows, *flags, code=0, path=None):
    """A run with programs that print these rows: (report.json, stdout)."""
    for name, lines, ending in (("cores", CORES, 0), ("load", rows, code)):
        script = w.write(f"bench-{name}", "#!/bin/sh\ncat << 'EOF'\n" +
                         "\n".join(map(json.dumps, lines)) + f"\nEOF\nexit {ending}\n")
        os.chmod(script, 0o755)
    got = subprocess.run([sys.executable, os.path.join(source_dir(), "tools", "bench"), "--quick",
                          "--only", "load", "--programs", w.root, *flags], capture_output=True,
                         text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
                         env={**os.environ, **({"PATH": path} if path else {})})
    check_equal(got.returncode, 1 if code else 0, f"exit code\n{got.stdout}\n{got.stderr}")
    with open(w.path("report.json"), encoding="utf-8") as file:
        return json.load(file), got.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


@test
def figures_are_judged():
    """Met and missed, with their ratio: in the table, report.md and report.json."""
    with World() as w:
        report, said = bench(w, [ratio("good", 103, 1.05), ratio("bad", 110, 1.05),
                                 ratio("fast", 98, 0.95, "at least")])
        check_equal([row["met"] for row in report["rows"]], [True, False, True], "met")
        check_equal([row["ratio"] for row in report["rows"]], [1.03, 1.1, 0.98], "ratios")
        for text in (said, read(w.path("report.md"))):
            check("2 of 3 met, MISSED: bad" in text and "1.10 [1.10, 1.10]" in text, text)


@test
def within_the_interval_is_enough_where_a_figure_says_so():
    with World() as w:
        report, said = bench(w, [ratio("near", 103, 1.0, within=True, spread=4), ratio("strict", 103, 1.0, spread=4),
                                 ratio("far", 105, 1.0, within=True, spread=4),
                                 ratio("least", 97, 1.0, "at least", within=True, spread=4)])
        check_equal([row["met"] for row in report["rows"]], [True, False, False, True], "met")
        check("<= 1 within" in said and ">= 1 within" in said, said)


@test
def pictures_are_drawn():
    """Ratios and percentile curves; where there is no gnuplot its scripts stay."""
    with World() as w:
        nothing = os.path.join(w.root, "nothing")
        os.mkdir(nothing)
        for program in ("sh", "cat"):
            os.symlink(shutil.which(program), os.path.join(nothing, program))
        _, said = bench(w, [ratio("good", 103, 1.05), CURVE], path=nothing)
        check("ratios.gp" in said and "a_curve.gp" in said, said)
        check("it''s ours" in read(w.path("a_curve.gp")), read(w.path("a_curve.gp")))
        check(not os.path.exists(w.path("ratios.svg")), "drawn by nobody")
        need("gnuplot")
        _, said = bench(w, [ratio("good", 103, 1.05), CURVE])
        for name, words in (("ratios.svg", ("good", "1.05")), ("a_curve.svg", ("it's ours", "99.9"))):
            picture = read(w.path(name))
            check(name in said and name in read(w.path("report.md")), said)
            check(picture.startswith("<?xml") and all(word in picture for word in words), picture)


@test
def a_program_that_fails_is_told():
    """What was not correct makes the exit code 1, and no figure counts."""
    with World() as w:
        report, said = bench(w, [ratio("good", 103, 1.05)], code=3)
        check(len(report["wrong"]) == 1 and report["rows"] == [], report)
        check("WRONG: 1 runs were not correct" in said and "exit code 3" in said, said)


main()
