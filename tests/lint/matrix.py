"""tests/faults.md keeps what one run found while others find other things."""
import os
import sys
import tempfile
from types import SimpleNamespace

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import faults
from tap import check_equal, main, test
from tap_reader import FAILED, PASSED, SKIPPED, Point

SUITE = {"integration"}
LONG = {"integration", "long"}


def ran(build, name, suites, *points):
    """A test as run.py knows it, and what came of it."""
    return SimpleNamespace(test=SimpleNamespace(build=f"build/{build}", name=name, suites=suites),
                           points=list(points))


def written(*runs):
    """The lines of tests that stand in the file after runs: (what ran, what is there but did not)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "faults.md")
        for outcomes, others in runs:
            faults.write(path, outcomes, [outcome.test for outcome in [*outcomes, *others]])
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.startswith("| `")]


LIFE = ran("debug", "life", SUITE, Point("row_1_refused", PASSED), Point("no_row", PASSED))
LIFE_AGAIN = ran("debug", "life", SUITE, Point("row_1_refused", FAILED, "why"))
RELEASE = ran("release", "life", SUITE, Point("row_1_refused", SKIPPED, "no net: 3 (of 4)"))
GUEST = ran("release", "guest_uml61", {"guest"}, Point("life: row_1_refused", PASSED))
CLOUD = ran("release", "guest_cloud_rekey", LONG, Point("row_2_slow", PASSED))


@test
def names_say_their_rows():
    """In each way that they may be written, and nothing else."""
    for text, rows in {"a::row_12_x_row_3": {3, 12}, "rows_8_9_cut": {8, 9}, "rows_30_to_34_all": {30, 31, 32, 33, 34},
                       '"row 62: mmap"': {62}, "row 62 of it": set(), "row_47_record_1_2": {47},
                       "throw_3": set(), "tomorrow_4": set()}.items():
        check_equal(faults.rows_in(text), rows, text)


@test
def where_it_passed_was_skipped_and_failed():
    """A guest's tests are named as they are outside of it."""
    check_equal(written(([LIFE, RELEASE, GUEST], [])),
                ["| `row_1_refused` | life | debug, uml61 | no net (release) |"], "lines")
    check_equal(written(([LIFE_AGAIN, CLOUD], [])),
                ["| `row_1_refused` | life | debug FAILED |  |",
                 "| `row_2_slow` | guest_cloud_rekey | cloud* |  |"], "lines")


@test
def what_did_not_run_stays():
    """With --long and without, and of another build."""
    all_there = written(([LIFE, RELEASE, GUEST, CLOUD], []))
    check_equal(written(([LIFE, RELEASE, GUEST, CLOUD], []), ([LIFE], [RELEASE, GUEST, CLOUD])), all_there, "lines")
    check_equal(written(([RELEASE, GUEST, CLOUD], []), ([LIFE], [])), all_there, "lines")


@test
def what_is_true_no_more_goes():
    """Another outcome, a test that is gone, a point that is gone."""
    check_equal(written(([LIFE], []), ([LIFE_AGAIN], [])), ["| `row_1_refused` | life | debug FAILED |  |"], "lines")
    check_equal(written(([LIFE], []), ([], [ran("debug", "other", SUITE)])), [], "lines")
    check_equal(written(([LIFE], []), ([ran("debug", "life", SUITE)], [])), [], "lines")
    check_equal(written(([GUEST], []), ([ran("release", "guest_uml61", {"guest"})], [])), [], "lines")


main()
