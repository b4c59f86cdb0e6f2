"""The simulation can fail: with one line of the library broken, some seed breaks a rule."""
import json
import os
import re
import shlex
import subprocess
import tempfile

from tap import build_dir, check, check_equal, main, source_dir, test

BUILD = build_dir()
WORLD = "tests/sim_world"


def output(*command):
    """What a tool prints, run in the build directory."""
    return subprocess.run(command, cwd=BUILD, capture_output=True, text=True, check=True).stdout


def compile_line(name):
    """How the build compiles a file of the library, without where to."""
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as file:
        row = next(row for row in json.load(file) if row["output"].startswith("libsluice.so") and
                   os.path.samefile(os.path.join(row["directory"], row["file"]),
                                    os.path.join(source_dir(), name)))
    words = shlex.split(row["command"])
    drop = {words.index(flag) + k for flag in ("-o", "-MF", "-MQ") for k in (0, 1)} | {words.index("-MD")}
    return [word for at, word in enumerate(words) if at not in drop and word != row["file"]]


def broken_world(scratch, name, before, after):
    """The simulation, linked with that file changed in one place."""
    with open(os.path.join(source_dir(), name), encoding="utf-8") as file:
        text = file.read()
    check_equal(text.count(before), 1, f"{name}: times that `{before}` stands there")
    source, program = os.path.join(scratch, "broken.c"), os.path.join(scratch, "world")
    with open(source, "w", encoding="utf-8") as file:
        file.write(text.replace(before, after))
    output(*compile_line(name), "-I", os.path.dirname(os.path.join(source_dir(), name)), source, "-o",
           source + ".o")
    link = shlex.split(output("ninja", "-t", "commands", WORLD).splitlines()[-1])
    link[link.index(WORLD)] = program  # our object goes first: the library's is not taken then
    output(link[0], source + ".o", *link[1:])
    return program


def runs(name, before, after, *seed):
    """Exit code and output of that world."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run([broken_world(scratch, name, before, after), *seed], capture_output=True,
                              text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


def is_caught(name, before, after):
    """By a rule, or by a check of the library's own."""
    code, said = runs(name, before, after)
    seed = re.search(r"breaks a rule: .*|check failed: .*", said)
    check(code != 0 and seed, f"exit code {code}: {said[-300:]}")
    print(f"# {seed.group()}", flush=True)


@test
def what_is_not_broken_passes():
    """So what fails below is the change's doing."""
    code, said = runs("runtime/tx.c", "tx->waits = ", "tx->waits = ", "1")
    check_equal((code, "ok 1" in said), (0, True), said)


@test
def lost_end_of_a_multishot_receive():
    """IORING_CQE_F_MORE is gone, and nobody sees it."""
    is_caught("runtime/rx.c", "    if (!more)\n        rx->armed = false;", "")


@test
def off_by_one_at_the_wrap():
    """Of MSG_METADATA."""
    is_caught("rings/client.c", "want = n & entries ?", "want = (n + 1) & entries ?")


@test
def metadata_before_bytes():
    """One byte more is announced than came."""
    is_caught("runtime/rx.c", "sluice_inbox_arrived(rx->ch, &stamps, bytes);",
              "sluice_inbox_arrived(rx->ch, &stamps, bytes + 1);")


@test
def pong_inside_a_message():
    """A run that left in part is taken for done."""
    is_caught("runtime/tx.c", "if (tx->owner && tx->run_sent == tx->run_bytes)", "if (tx->owner)")


@test
def message_sent_on_a_later_connection():
    """What was committed for the one before is not dropped."""
    is_caught("runtime/tx.c", "bool stale = is_stale(tx, tx->is_pongs, m);",
              "bool stale = false;")


main()
