"""TAP for test scripts: mark functions with @test, end the file with main().

    from tap import check, main, skip, test

    @test
    def survives_a_reset():
        if not have_nginx():
            skip("nginx is not installed")
        check(answer == 42, f"the answer is {answer}")

    main()

A function passes when it returns. Any exception makes it fail and is shown. Arguments on the
command line choose functions by name.
"""
import os
import sys
import traceback

_tests = []


class Skip(Exception):
    """Raised by skip()."""


class Failure(Exception):
    """Raised by check() and fail(): the text says it all, no traceback is needed."""


def test(function):
    """Decorator: this function is one test point, named after it."""
    _tests.append(function)
    return function


def skip(reason):
    """End the running test as skipped."""
    raise Skip(reason)


def fail(text):
    """End the running test as failed."""
    raise Failure(text)


def _fail_at(frame, text):
    """Fail with file and line of the test: that is where the reader wants to look."""
    raise Failure(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}: {text}")


def check(condition, text):
    """Fail the running test unless condition holds."""
    if not condition:
        _fail_at(sys._getframe(1), text)


def check_equal(got, expected, what):
    """Fail the running test unless both are equal, showing both."""
    if got != expected:
        _fail_at(sys._getframe(1), f"{what}: got {got!r}, expected {expected!r}")


def is_long():
    """True under --long: campaigns take their time."""
    return os.environ.get("SLUICE_LONG") == "1"


def source_dir():
    """Root of the sources."""
    return os.environ["TESTS_SOURCE"]


def build_dir():
    """Root of the build under test."""
    return os.environ["TESTS_BUILD"]


def sluice():
    """The binary under test."""
    return os.path.join(build_dir(), "tools", "sluice")


def _say(line):
    print(line, flush=True)


def _explain(text):
    for line in text.rstrip().splitlines():
        _say(f"# {line}")


def _run(number, function):
    """Run one test, write its point, return whether it did not fail."""
    try:
        function()
    except Skip as reason:
        _say(f"ok {number} - {function.__name__} # SKIP {reason}")
        return True
    except Failure as failure:
        _say(f"not ok {number} - {function.__name__}")
        _explain(str(failure))
        return False
    except Exception:
        _say(f"not ok {number} - {function.__name__}")
        _explain(traceback.format_exc())
        return False
    _say(f"ok {number} - {function.__name__}")
    return True


def main():
    """Run the tests of this script, in the order of the file, and exit."""
    wanted = sys.argv[1:]
    chosen = [t for t in _tests if not wanted or t.__name__ in wanted]
    _say("TAP version 13")
    _say(f"1..{len(chosen)}")
    results = [_run(number, function) for number, function in enumerate(chosen, 1)]
    sys.exit(0 if results and all(results) else 1)
