#!/usr/bin/python3
"""The judge of tools/demo: reads what `sluice ws` prints, a message per line on stdin, and checks that
every one of the feed's messages is there, whole and in order. Then prints the table.
"""
import argparse
import json
import sys
import time
import zlib


class Checker:
    """Numbers, checksums and order of the stream."""

    def __init__(self):
        self.messages = self.bytes = self.gaps = self.damaged = 0
        self.end = None

    def take(self, line):
        if line.startswith('{"end"'):
            self.end = json.loads(line)["end"]
            return
        cut = line.rfind(',"crc":')
        body, crc = line[:cut], line[cut + 7:-1]
        if cut < 0 or not crc.isdigit() or zlib.crc32(body.encode()) != int(crc):
            self.damaged += 1
            return
        number = int(body[7:body.index(",")])
        self.gaps += number != self.messages
        self.messages = number + 1
        self.bytes += len(line)


def watch(checker, show):
    """All of stdin, with a line a second of what happens."""
    began = shown = time.monotonic()
    before = 0
    for line in sys.stdin:
        checker.take(line.rstrip("\n"))
        now = time.monotonic()
        if now - shown >= 1 and show:
            print(f"  {now - began:4.0f} s  {checker.messages:8,} messages  "
                  f"{(checker.messages - before) / (now - shown):8,.0f}/s  "
                  f"gaps {checker.gaps}  damaged {checker.damaged}", flush=True)
            shown, before = now, checker.messages


def print_table(checker, feed, report):
    print(f"""
  messages   {checker.messages:,} of {feed['sent']:,} sent
  bytes      {checker.bytes:,} of {feed['sent_bytes']:,} sent
  gaps       {checker.gaps}, damaged {checker.damaged}
  PINGs      {feed['pings']} sent by the feed, {feed['pongs']} answered
  outgoing   {report['messages_sent']} messages sent through MSG_OUTBOX, {feed['received']} arrived
""")
    print(f"  {'latency, us':24}{'p50':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
    for title, key in (("arrival -> inbox", "arrival_to_inbox"),
                       ("inbox -> upstream", "inbox_to_upstream"),
                       ("arrival -> upstream", "arrival_to_upstream")):
        stage = report[key]
        row = (stage[name] / 1000 for name in ("p50_ns", "p99_ns", "p99_9_ns", "max_ns"))
        print(f"  {title:24}" + "".join(f"{value:10.1f}" for value in row))
    print()
    for name in ("backend", "model", "tls"):
        print(f"  {name:10} {report[name]}: {report[name + '_reason']}")


def faults(checker, feed, report):
    """What is wrong, in words; empty when all is well."""
    if checker.end is None:
        yield "the stream ended before its end message"
    if checker.messages != feed["sent"] or checker.bytes != feed["sent_bytes"]:
        yield "not every message arrived"
    if checker.gaps or checker.damaged:
        yield "messages out of order or damaged"
    if feed["pongs"] == 0 or feed["pongs"] + 1 < feed["pings"]:
        yield "PINGs were not answered"
    if feed["received"] != report["messages_sent"]:
        yield "the feed missed messages from MSG_OUTBOX"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--feed", required=True, help="the feed's summary")
    parser.add_argument("--report", required=True, help="of sluice ws")
    parser.add_argument("--quiet", action="store_true", help="no line a second")
    options = parser.parse_args()
    checker = Checker()
    watch(checker, not options.quiet)
    for _ in range(100):  # both files are written at the end
        try:
            with open(options.feed, encoding="ascii") as f, open(options.report,
                                                                 encoding="utf-8") as r:
                feed, report = json.load(f), json.load(r)
            break
        except (OSError, ValueError):
            time.sleep(0.1)
    else:
        sys.exit("demo: no summary of the feed, or no report of sluice ws: see their logs")
    print_table(checker, feed, report)
    wrong = list(faults(checker, feed, report))
    print("\n  " + ("FAILED: " + "; ".join(wrong) if wrong
                    else "every message arrived, whole and in order"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
