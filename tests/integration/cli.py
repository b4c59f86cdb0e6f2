"""The command line: where values come from, what is refused, what --help and --version say."""
import fcntl
import json
import os
import re
import resource
import subprocess

from tap import check, check_equal, main, sluice, source_dir, test
from world import World, url_of

COMMANDS = {"run": "RUN", "cat": "CAT", "ws": "WS", "stat": "STAT", "probe": "PROBE",
            "load": "LOAD"}
INBOX = 'inbox_bytes": '


def one_line(answer, code=2):
    """Exit code, one line on stderr, nothing on stdout. Returns the line."""
    check_equal(answer.code, code, f"exit code\n{answer.err}")
    check_equal(len(answer.lines()), 1, f"lines on stderr\n{answer.err}")
    check(answer.err.startswith("sluice: "), answer.err)
    check_equal(answer.out, b"", "stdout")
    return answer.lines()[0]


def settings_of(*flags, env=None):
    """The state block, as JSON text, of an engine that was started with these flags."""
    with World() as w, w.listen() as listener:
        process = w.start([sluice(), "run", url_of(listener), *flags], env={**w.env, **(env or {})})
        names = ("named", "sluice", "by-file", "by-env")
        name = process.wait_for(" open: ").partition(" name ")[2].partition(";")[0]
        check(name in names, f"name {name}")
        answer = w.run("stat", name, "--json")
        check_equal(answer.code, 0, answer.err)
        return answer.out.decode()


def table():
    """(key, commands) of each row of the option table."""
    with open(os.path.join(source_dir(), "tools", "option_table.c"), encoding="utf-8") as file:
        rows = re.findall(r'\{"([a-z0-9-]+)", OPTION_\w+,\s+([A-Z_ |]+?),\s', file.read())
    check(len(rows) > 20, f"only {len(rows)} rows found in option_table.c")
    return rows


def is_for(commands, command):
    """Whether a row's FOR_* cover the command."""
    covered = set(commands.replace("FOR_", "").split(" | "))
    if covered & {"CONN", "EACH"}:
        covered |= {"RUN", "CAT", "WS", "LOAD"}
    return "ALL" in covered or COMMANDS[command] in covered


@test
def defaults_file_environment_flags():
    """Each overrides the one before it."""
    with World() as w:
        conf = w.write("conf", "# a comment\n\n  inbox = 128K  # and one more\nname = by-file\n"
                       "metadata=128\n")
        file = ["--config", conf]
        env = {"SLUICE_INBOX": "256K", "SLUICE_NAME": "by-env"}
        text = settings_of()
        check('"name": "sluice"' in text and INBOX + "1048576" in text, f"defaults: {text[:600]}")
        check('"metadata_entries": 4096' in text, "metadata by default")
        text = settings_of(*file)
        check('"name": "by-file"' in text and INBOX + "131072" in text, f"file: {text[:600]}")
        check('"metadata_entries": 128' in text, "metadata by file")
        text = settings_of(*file, env=env)
        check('"name": "by-env"' in text and INBOX + "262144" in text, f"env: {text[:600]}")
        check('"metadata_entries": 128' in text, "metadata by file, env leaves it")
        text = settings_of(*file, "--inbox", "512K", "--name=named", env=env)
        check('"name": "named"' in text and INBOX + "524288" in text, f"flags: {text[:600]}")
        text = settings_of(env={**env, "SLUICE_CONFIG": conf})
        check('"name": "by-env"' in text and '"metadata_entries": 128' in text, "SLUICE_CONFIG")


@test
def sizes_take_k_m_g():
    for given, bytes_ in (("65536", 65536), ("64K", 65536), ("2M", 2 << 20)):
        text = settings_of("--name", "named", "--inbox", given)
        check(f"{INBOX}{bytes_}" in text, f"--inbox {given}: {text[:900]}")
    with World() as w:  # 1G is not mapped here: the limits tell that G is understood
        line = one_line(w.run("run", "tcp://127.0.0.1:1", "--inbox", "2G"))
        check("64K to 1G" in line, line)


@test
def unknown_keys_name_file_and_line():
    with World() as w:
        conf = w.write("conf", "inbox = 1M\n# x\n\nimbox = 1M\n")
        line = one_line(w.run("run", "tcp://127.0.0.1:1", "--config", conf))
        check(f"{conf}:4" in line and "imbox" in line, line)


@test
def broken_config_files():
    """(text, line number, what the line must name)"""
    cases = [("inbox\n", 1, "="), ("\n\ninbox = 1X\n", 3, "1X"), ("inbox = 1\n", 1, "64K"),
             ('name = "open\n', 1, "quotes"), ("config = other\n", 1, "config"),
             ("idle = lazy\n", 1, "busy"), ("mlock = perhaps\n", 1, "perhaps"),
             ("help = true\n", 1, "help")]
    with World() as w:
        for text, number, names in cases:
            conf = w.write("conf", text)
            line = one_line(w.run("run", "tcp://127.0.0.1:1", "--config", conf))
            check(f"{conf}:{number}" in line and names in line, f"{text!r}: {line}")
        line = one_line(w.run("run", "tcp://127.0.0.1:1", "--config", w.path("not-there")))
        check("not-there" in line, line)
        one_line(w.run("run", "tcp://127.0.0.1:1", "--config", w.root))
        one_line(w.run("run", "tcp://127.0.0.1:1", "--config", w.write("b", b"inbox = 1M\0\n")))


@test
def one_config_file_serves_all_commands():
    """Keys of other commands are known, and passed over."""
    with World() as w:
        conf = w.write("conf", "count = 3\njson = true\ninbox = 64K\n")
        answer = w.run("probe", "--config", conf)
        check_equal(answer.code, 0, answer.err)
        check(answer.out.startswith(b"{"), "json = true was heeded")


@test
def bad_values_are_refused():
    cases = [["--inbox", "0"], ["--inbox", "63K"], ["--inbox", "-1"], ["--inbox", "1T"],
             ["--inbox", "1KK"], ["--inbox", ""], ["--inbox", "0x10000"], ["--inbox", " 64K"],
             ["--inbox", "99999999999999999999"], ["--inbox", "9999999999G"], ["--metadata", "63"],
             ["--metadata", "1.5"], ["--pongs", "15"], ["--idle", "never"], ["--backend", "epoll"],
             ["--model", "four"], ["--core", "-1"], ["--core", "1024"], ["--fifo", "0"],
             ["--fifo", "100"], ["--connect-timeout", "0"], ["--connect-timeout", "x"],
             ["--connect-timeout", "1e3"], ["--spin-us", "0"], ["--log-level", "loud"],
             ["--busy=maybe"], ["--nonsense"], ["--nonsense=1"], ["--inbox"], ["-x"],
             ["--name", "a/b"], ["--name", "../x"], ["--name", ".hidden"], ["--name", "n" * 49],
             ["--name", ""], ["--resolve", "x"], ["--resolve", "h:p:1.2.3.4"],
             ["--resolve", "h:1:"], ["--json"], ["--count", "1"]]
    with World() as w:
        for flags in cases:
            answer = w.run("run", "tcp://127.0.0.1:1", *flags)
            check_equal(answer.code, 2, f"{flags}: {answer.err}")
            one_line(answer)
        check_equal(w.left_behind(), [], "left behind")


@test
def event_mechanisms_by_name():
    """Both ways to ask for one run it, and it is named; what is not there is an error with a remedy."""
    url = "tcp://127.0.0.1:1"
    with World() as w, w.listen() as listener:
        rows = json.loads(w.run("probe", "--json").out)["features"]
        have = {row["name"][3:]: row["have"] for row in rows if row["name"].startswith("ev.")}
        check(have["epoll"] and have["poll"] and have["select"], str(have))
        for name, there in have.items():
            for flags in (["--backend", f"ev:{name}"], ["--backend", "ev", "--event", name],
                          ["--event", name]):
                if not there:
                    line = one_line(w.run("run", url, *flags), 36)
                    check(f"ev:{name}" in line and "epoll" in line, line)
                    continue
                engine = w.engine(url_of(listener), "feed", *flags)
                peer = w.accept(listener)
                line = engine.wait_for(" open: ")
                check(f"backend ev:{name} (asked for; libev" in line, line)
                check(f"plain TCP on ev:{name}" in line, line)
                stat = json.loads(w.run("stat", "feed", "--json").out)
                check_equal(stat["backend"], f"ev:{name}", "stat")
                peer.close()
                engine.ends(0)
        for flags in (["--backend", "uring", "--event", "poll"],
                      ["--backend", "ev:poll", "--event", "select"]):
            line = one_line(w.run("run", url, *flags), 2)
            check(flags[1] in line and flags[3] in line, line)


@test
def select_and_a_descriptor_that_is_too_high():
    """1100 descriptors are taken: select says so, poll does not mind."""
    def take_many():
        resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
        while fcntl.fcntl(0, fcntl.F_DUPFD, 0) < 1100:  # inherited, as os.dup() is not
            pass

    with World() as w:
        url = w.serve(lambda peer: peer.sendall(b"fine"))
        answer = w.run("cat", url, "--event", "select", preexec_fn=take_many, close_fds=False)
        line = one_line(answer, 35)
        check("select" in line and "a descriptor " in line and "epoll or poll" in line, line)
        for event in ("epoll", "poll"):
            answer = w.run("cat", url, "--event", event, preexec_fn=take_many, close_fds=False)
            check_equal((answer.code, answer.out), (0, b"fine"), answer.err)


@test
def wrong_numbers_of_arguments():
    with World() as w:
        for args in ([], ["nonsense"], ["run"], ["cat"], ["ws"], ["stat"], ["run", "a", "b"],
                     ["stat", "a", "b"], ["probe", "x"], ["cat", "a", "b", "c"], ["--nonsense"]):
            one_line(w.run(*args))


@test
def help_lists_every_key():
    rows = table()
    with World() as w:
        for command in COMMANDS:
            answer = w.run(command, "--help")
            check_equal((answer.code, answer.err), (0, ""), f"{command} --help")
            text = answer.out.decode()
            check(f"usage: sluice {command}" in text, f"{command} --help: usage")
            shown = set(re.findall(r"^  --([a-z0-9-]+)", text, re.MULTILINE))
            wanted = {key for key, commands in rows if is_for(commands, command)}
            check_equal(shown, wanted, f"keys in {command} --help")


@test
def help_of_all_lists_commands_and_exit_codes():
    with World() as w:
        answer = w.run("--help")
        check_equal((answer.code, answer.err), (0, ""), "--help")
        text = answer.out.decode()
        for command in COMMANDS:
            check(re.search(rf"^  {command} ", text, re.MULTILINE), f"{command} in --help")
        with open(os.path.join(source_dir(), "runtime", "base", "reason.h"),
                  encoding="utf-8") as file:
            rows = re.findall(r'X\(\w+, \d+, "([a-z-]+)", (\d+),', file.read())
        check(len(rows) > 15, "rows of reason.h")
        for name, code in rows:
            if code != "0":
                check(re.search(rf"^ +{code}  {name} ", text, re.MULTILINE), f"{code} {name}")


@test
def version():
    with World() as w:
        answer = w.run("--version")
        check_equal((answer.code, answer.err), (0, ""), "--version")
        check(re.match(r"sluice \d+\.\d+\.\d+", answer.out.decode()), answer.out.decode())


@test
def help_wins_over_other_flags():
    """Also where they are wrong, or the file is."""
    with World() as w:
        conf = w.write("conf", "nonsense = 1\n")
        answer = w.run("run", "--config", conf, "--help")
        check_equal((answer.code, answer.err), (0, ""), "--config broken --help")


@test
def stdout_is_data_only():
    """The engine's lines go to stderr, also with the most talkative log."""
    with World() as w:
        with w.listen() as listener:
            process = w.start([sluice(), "cat", url_of(listener), "--log-level", "debug"],
                              stdout=subprocess.PIPE)
            peer = w.accept(listener)
            peer.sendall(b"data\0\n")
            peer.close()
            check_equal(process.stdout.read(), b"data\0\n", "stdout of cat")
            process.ends(0)
        with w.listen() as listener:
            process = w.start([sluice(), "run", url_of(listener), "--log-level", "debug"],
                              stdout=subprocess.PIPE)
            w.accept(listener).close()
            check_equal(process.stdout.read(), b"", "stdout of run")
            process.ends(0)
            check(" open: " in process.err() and " closed: " in process.err(), process.err())


@test
def log_level_error_is_silent_when_all_is_well():
    with World() as w, w.listen() as listener:
        process = w.start([sluice(), "run", url_of(listener), "--log-level", "error"])
        w.accept(listener).close()
        process.ends(0)
        check_equal(process.err(), "", "stderr")


@test
def run_says_what_runs_and_why():
    """One line when open: peer, name, backend, model and TLS, each with its reason; one at the end."""
    with World() as w, w.listen() as listener:
        engine = w.engine(url_of(listener), "feed")
        peer = w.accept(listener)
        line = engine.wait_for(" open: ")
        for part in (url_of(listener), "name feed", "backend uring", "(", "model single", "TLS "):
            check(part in line, f"'{part}' in: {line}")
        peer.close()
        engine.ends(0)
        lines = engine.err().splitlines()
        check_equal(len(lines), 2, engine.err())
        check("peer-close" in lines[1] and "received 0 B" in lines[1], lines[1])


@test
def resolve_gives_an_address():
    """No look-up: the name does not exist anywhere."""
    with World() as w, w.listen() as listener:
        port = listener.getsockname()[1]
        process = w.start([sluice(), "cat", f"tcp://no.such.invalid:{port}", "--resolve",
                           f"no.such.invalid:{port}:127.0.0.1"], stdout=subprocess.PIPE)
        peer = w.accept(listener)
        peer.sendall(b"found")
        peer.close()
        check_equal(process.stdout.read(), b"found", "stdout")
        process.ends(0)


@test
def probe_answers():
    with World() as w:
        text, data = w.run("probe"), w.run("probe", "--json")
        check_equal((text.code, data.code), (0, 0), f"{text.err}{data.err}")
        check_equal((text.err, data.err), ("", ""), "stderr")
        code = subprocess.run(["/usr/bin/python3", "-m", "json.tool"], input=data.out, check=False,
                              capture_output=True)
        check_equal(code.returncode, 0, f"probe --json: {code.stderr}")
        for word in (b"io_uring", b"ev.epoll", b"liburing", b"kernel", b"memlock", b"single"):
            check(word in text.out.lower(), f"{word!r} in probe: {text.out.decode()}")


main()
