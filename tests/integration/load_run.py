"""A run of sluice load, and the peer that it is itself: what they say."""
import contextlib
import json
import subprocess

from tap import check, check_equal, sluice
from world import in_thread

SHORT = ("--duration", "0.5", "--warmup", "0.1")


class Run:
    """A run of sluice load --json: exit code, intervals, summary."""

    def __init__(self, answer):
        self.code, self.err = answer.code, answer.err
        lines = [json.loads(line, parse_constant=self.no_constant)
                 for line in answer.out.decode().splitlines()]
        self.intervals = [line for line in lines if line["event"] == "interval"]
        self.summary = next((line for line in lines if line["event"] == "summary"), None)
        check_equal(len(lines), len(self.intervals) + (self.summary is not None), "lines")

    @staticmethod
    def no_constant(word):
        """JSON has no NaN and no Infinity; Python would take them."""
        check(False, f"{word} in JSON")

    def ended(self, code=0):
        """Check the exit code, and that there is one line on stderr exactly if it is not 0."""
        check_equal(self.code, code, f"exit code\n{self.err}")
        check_equal(len(self.err.splitlines()), 1 if code else 0, f"lines on stderr\n{self.err}")
        return self


def load(w, mode, url, *flags):
    """A run to its end."""
    return Run(w.run("load", mode, url, "--json", *flags))


@contextlib.contextmanager
def serving(w, kind, url, *flags):
    """sluice load --serve: its process and the URL where it is."""
    process = w.start([sluice(), "load", "--serve", kind, url, *flags], stdout=subprocess.PIPE)
    line = in_thread(process.stdout.readline)().decode().strip()
    check(line, f"nothing on stdout:\n{process.err()}")
    try:
        yield process, url if url.startswith("unix:") else url.replace(":0", f":{line}")
    finally:
        process.end()


def check_round_trips(run, least=5):
    """Every message came back, and each was timed."""
    s = run.ended().summary
    check(s["sent_messages"] >= least, f"only {s['sent_messages']} messages")
    check_equal(s["answered_messages"], s["sent_messages"], "answers")
    check_equal(s["unanswered_messages"], 0, "unanswered")
    check_equal(s["latency"]["count"], s["sent_messages"], "latencies")
    check(0 < s["latency"]["p50_ns"] <= s["latency"]["p99_ns"] <= s["latency"]["max_ns"], s)
    in_intervals = sum(i["sent_messages"] for i in run.intervals)
    late = s["missed_messages"] if s["mode"] == "rate" else 0  # what left after the end
    check(s["sent_messages"] - late <= in_intervals <= s["sent_messages"],
          f"{in_intervals} in intervals, {s['sent_messages']} in all")


def check_verified(run):
    """Nothing was wrong with any message."""
    s = run.summary
    for name in ("lost", "duplicated", "reordered", "corrupted"):
        check_equal(s[f"{name}_messages"], 0, name)
