"""One fuzz target for some time: campaign.py PROGRAM SECONDS LONG_SECONDS FOUND CORPUS (the
second under --long). What it finds is kept in FOUND, beside it how often it ran in all."""
import os
import re
import subprocess
import sys

from tap import check, is_long, main, test

PROGRAM, DAILY_S, LONG_S, FOUND, CORPUS = sys.argv[1:]
SECONDS = LONG_S if is_long() else DAILY_S
del sys.argv[1:]  # no names of tests


def executed_before(add):
    """In all the campaigns of this build directory, with this one."""
    path = FOUND + ".executed"
    try:
        with open(path, encoding="ascii") as file:
            add += int(file.read())
    except FileNotFoundError:
        pass
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{add}\n")
    return add


def campaign():
    os.makedirs(FOUND, exist_ok=True)
    done = subprocess.run([PROGRAM, f"-max_total_time={SECONDS}", "-timeout=10", "-timeout_exitcode=1",
                           "-error_exitcode=1", "-print_final_stats=1", f"-artifact_prefix={FOUND}/",
                           FOUND, CORPUS], stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    said = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    check(done.returncode == 0 and said, f"exit code {done.returncode}: {done.stderr[-3000:]}")
    count = int(said.group(1))
    campaign.__name__ = (f"{count:,} inputs, {count // int(SECONDS):,}/s, "
                         f"{executed_before(count):,} in all")


test(campaign)
main()
