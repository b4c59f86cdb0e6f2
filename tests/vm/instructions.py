"""No path got longer: tools/bench --instructions against tests/bench/instructions.json."""
import importlib.machinery
import importlib.util
import os
import subprocess
import sys

from tap import check, check_equal, main, source_dir, test

BENCH = os.path.join(source_dir(), "tools", "bench")


def load_bench():
    """tools/bench as a module; it has no suffix."""
    sys.path.insert(0, os.path.dirname(BENCH))
    loader = importlib.machinery.SourceFileLoader("bench", BENCH)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    loader.exec_module(module)
    return module


@test
def a_ratio_that_grew_by_more_than_3_percent_is_named():
    """And one that did not is not; nor does a row come or go unnoticed."""
    worse = load_bench().worse_than_kept
    kept = {"path trips plain": 1.0, "path trips epoll": 1.0}
    rows = [{"name": "path trips plain", "of_epoll": 1.029},
            {"name": "path trips epoll", "of_epoll": 1.0}]
    check_equal(worse(rows, kept), [], "2.9 % worse")
    rows[0]["of_epoll"] = 1.031
    said = worse(rows, kept)
    check(len(said) == 1 and said[0].startswith("path trips plain: 1.031"), f"3.1 % worse: {said}")
    rows[0]["of_epoll"] = 0.5
    check_equal(worse(rows, kept), [], "better")
    check(len(worse(rows[:1], kept)) == 1, "a row that was not measured")
    check(len(worse(rows, {"path trips plain": 1.0})) == 1, "a row that is not kept")


@test
def an_engine_is_compared_with_a_bare_loop_and_with_libuv():
    """Each by the bare epoll loop of its own end."""
    lines = load_bench().engine_lines
    check_equal(list(lines({"path trips plain": 1.14, "echo_path 1 libuv": 1.2})),
                ["64-byte round trip, engine asleep / bare epoll 1.140, goal <= 1: NO",
                 "64-byte round trip, engine asleep / libuv 0.950, goal <= 0.9: NO"], "missed")
    check(all(line.endswith("yes") for line in
              lines({"path trips plain": 0.95, "echo_path 1 libuv": 1.1})), "met")
    check_equal(list(lines({})), [], "not counted")


@test
def no_path_takes_more_instructions_than_were_kept():
    """All of them, in the guest; it builds build/bench by itself."""
    answer = subprocess.run([sys.executable, BENCH, "--instructions"], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, check=False)
    check_equal(answer.returncode, 0, f"exit code\n{answer.stdout}\n{answer.stderr}")


sys.dont_write_bytecode = True
main()
