"""The ruler measures instructions, and the same each time: two boots agree within 0.5 %."""
import os
import re
import subprocess
import sys

from tap import build_dir, check, fail, main, test

HERE = os.path.dirname(os.path.abspath(__file__))
COUNT = os.path.join(build_dir(), "tests", "count")
SAMPLE = os.path.join(build_dir(), "tests", "vm", "sample")


def ruler(*words, iterations):
    """Its figure."""
    answer = subprocess.run([sys.executable, os.path.join(HERE, "ruler"), "--count",
                             COUNT, "--iterations", str(iterations),
                             SAMPLE, *words],
                            capture_output=True, text=True, check=False)
    found = re.match(r"([\d.]+) instructions per iteration", answer.stdout)
    return float(found.group(1)) if found else fail(answer.stdout + answer.stderr)


@test
def a_thousand_instructions_are_a_thousand():
    """And the kernel's ticks."""
    figure = ruler("loop", "{}", iterations=100000)
    check(1000 < figure < 1010, f"{figure} for a loop of 1000")


@test
def round_trips_take_the_same_each_time():
    """Not by a cache: the second one has other iterations."""
    one, other = (ruler("trips", "{}", iterations=n) for n in (5000, 5001))
    check(one > 2000, f"{one} for two system calls each side")
    check(abs(one - other) < 0.005 * one, f"{one} and {other}")


@test
def a_program_that_fails_has_no_figure():
    """It says so."""
    answer = subprocess.run([sys.executable, os.path.join(HERE, "ruler"), "--count",
                             COUNT, SAMPLE],
                            capture_output=True, text=True, check=False)
    check(answer.returncode == 1 and answer.stderr.startswith("ruler: "), answer.stderr)


main()
