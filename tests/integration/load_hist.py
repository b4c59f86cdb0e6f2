"""The histogram of the tools against npm's hdr-histogram-js: the same values, the same text."""
import os
import random
import subprocess

from npm import npm_package
from tap import check, check_equal, main, test
from world import World, helper, need

PERCENTILES = ["0", "1", "50", "90", "99", "99.9", "99.99", "99.999", "100"]

SCRIPT = """
const hdr = require('hdr-histogram-js');
const h = hdr.build({ lowestDiscernibleValue: 1, highestTrackableValue: 6e10,
                      numberOfSignificantValueDigits: 3, useWebAssembly: false });
for (const line of require('fs').readFileSync(0, 'ascii').split('\\n'))
  if (line) h.recordValue(Number(line));
process.stdout.write(h.outputPercentileDistribution(5, 1000));
for (const p of process.argv.slice(2)) console.error(h.getValueAtPercentile(Number(p)));
"""


def both(w, values):
    """(text, percentiles) of ours and of theirs."""
    env = {**os.environ, "NODE_PATH": os.path.join(npm_package("hdr-histogram-js", 3),
                                                   "node_modules")}
    stdin = "".join(f"{value}\n" for value in values)
    answers = []
    for argv in ([helper("hist_text")], [need("node"), w.write("hdr.js", SCRIPT)]):
        got = subprocess.run([*argv, *PERCENTILES], input=stdin, env=env, capture_output=True,
                             text=True, check=True, timeout=30)
        answers.append((got.stdout.splitlines(), [int(v) for v in got.stderr.split()]))
    return answers


def compare_line(mine, other, largest):
    """The same words, but for the maximum (exact here, rounded up to its step there) and for a tie
    in the last digit, which C and JavaScript round their own ways."""
    mine, other = mine.split(), other.split()
    check_equal(len(mine), len(other), f"words of {mine} and {other}")
    for i, (word, theirs) in enumerate(zip(mine, other)):
        if word == theirs or (word.startswith("0.") and abs(float(word) - float(theirs)) < 2e-12):
            continue
        is_largest = word.rstrip(",") == f"{largest / 1000:.3f}" and i == (mine[0] == "#[Max") * 2
        check(is_largest and float(word.rstrip(",")) <= float(theirs.rstrip(",")) <=
              float(word.rstrip(",")) * 1.001, f"{mine} but {other}")


def compare(values):
    """The same text and the same percentiles from both."""
    with World() as w:
        (ours, our_points), (theirs, their_points) = both(w, values)
        largest = max(values, default=0)
        check_equal(len(ours), len(theirs), "lines")
        for mine, other in zip(ours, theirs):
            compare_line(mine, other, largest)
        check(f"#[Max     = {largest / 1000:12.3f}," in ours[-2], ours[-2])
        check_equal(our_points, [min(point, largest) for point in their_points], "percentiles")


@test
def small_values_are_exact():
    """Every value below 2048 has a step of its own."""
    compare([*range(1, 2048), 1, 7, 7, 7])


@test
def latencies():
    """A long tail, as latencies have it."""
    rng = random.Random(7)
    compare([int(rng.lognormvariate(10, 1.5)) + 1 for _ in range(50000)])


@test
def whole_range():
    """Each power of two up to 60 s, and what stands beside it."""
    compare([v for bit in range(1, 36) for v in (2**bit - 1, 2**bit, 2**bit + 1)] + [60 * 10**9])


@test
def one_and_none():
    """One value; and no value is no division by zero."""
    compare([123456])
    compare([])


@test
def more_than_a_minute():
    """Counted as a minute, and the maximum is what it was."""
    got = subprocess.run([helper("hist_text"), "50", "100"], input="61000000000\n5\n",
                         capture_output=True, text=True, check=True, timeout=10)
    check_equal(got.stderr.split(), ["5", "61000000000"], "percentiles")


main()
