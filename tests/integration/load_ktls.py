"""TLS in the kernel for connections of the embedded runtime, by the load tool: client and server, with
each other and with OpenSSL's own programs. On a kernel without it (most hosts): what is said instead.
tests/vm runs this on kernels that have it.
"""
import subprocess

from load_run import SHORT, check_round_trips, check_verified, load, serving
from tap import check, check_equal, main, test
from tls_peer import cert, kernel_has_tls, trusted
from tls_recorder import Recorder, in_sequence
from world import World, free_port, need, read, wait_until

SUITES = {"TLSv1.2": ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
          "TLSv1.3": ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")}
SERVER = ("--cert", cert("good.chain"), "--key", cert("good.key"))
MIXED = ("--verify", "--size", "16-20000", "--depth", "3", "--connections", "3")
RECORDS_MIN = 50
CHECKED_BYTES = 1000
KTLS = kernel_has_tls()
NO_KTLS = "this kernel has no tls module"


def port_of(url):
    """Its number."""
    return int(url.rsplit(":", 1)[1])


def counts():
    """The kernel's own, of all sockets so far."""
    with open("/proc/net/tls_stat", encoding="ascii") as file:
        return {name: int(value) for name, value in map(str.split, file)}


# ---- what every kernel says ----------------------------------------------------------------------

@test
def where_the_records_are_made_is_said():
    """By the report of the client, and by the server when its first connection is open."""
    with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER) as (server, url):
        where = "kernel, both ways" if KTLS else f"user space ({NO_KTLS})"
        run = load(w, "rtt", url, *trusted(), *SHORT)
        check_round_trips(run)
        check(run.summary["carrier"].endswith(f" by openssl, {where}"), run.summary["carrier"])
        line = server.wait_for(" open: ")
        check(line.endswith(f" by openssl, {where}"), line)
        run = load(w, "rtt", url, *trusted(), *SHORT, "--ktls", "off")
        check(run.summary["carrier"].endswith("user space (--ktls off)"), run.summary["carrier"])


@test
def required_means_required():
    """Refused in one line where it cannot be had, at either end."""
    with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER) as (_, url):
        run = load(w, "rtt", url, *trusted(), *SHORT, "--ktls", "require")
        serve = ("load", "--serve", "echo", "tls://127.0.0.1:0", *SERVER, "--ktls", "require")
        if KTLS:
            check_round_trips(run)
            check("kernel, both ways" in run.summary["carrier"], run.summary["carrier"])
            return
        run.ended(48)
        answer = w.run(*serve)
        check_equal(answer.code, 48, answer.err)
        for said in (run.err, answer.err):
            for part in ("no kernel TLS: ", NO_KTLS, "--ktls auto"):
                check(part in said, f"'{part}' in {said}")


@test
def a_provider_that_keeps_its_keys():
    """wolfSSL: refused with the reason, or in user space."""
    flags = ("--tls-provider", "wolfssl")
    with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER) as (_, url):
        if "wolfssl" not in w.run("--version").out.decode():
            answer = w.run("load", "rtt", url, *trusted(), *flags)
            check("no such TLS provider" in answer.err, answer.err)
            return
        reason = "this TLS provider does not hand its keys over"
        run = load(w, "rtt", url, *trusted(), *SHORT, *flags, "--ktls", "require").ended(48)
        check(reason in run.err, run.err)
        answer = w.run("load", "--serve", "echo", "tls://127.0.0.1:0", *SERVER, *flags, "--ktls",
                       "require")
        check_equal(answer.code, 48, answer.err)
        check(reason in answer.err, answer.err)
        run = load(w, "rtt", url, *trusted(), *SHORT, *flags)
        check_round_trips(run)
        check(f"user space ({reason})" in run.summary["carrier"], run.summary["carrier"])


# ---- in the kernel -------------------------------------------------------------------------------

def every_suite(mode, *flags):
    """Both ends in the kernel, each version, each cipher; every message verified."""
    for version, suites in SUITES.items():
        for suite in suites:
            with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER, "--verify", "--ktls",
                                       "require") as (server, url):
                before = counts()
                run = load(w, mode, url, *trusted(), *SHORT, *MIXED, *flags, "--ktls", "require",
                           "--ciphers", suite).ended()
                check_verified(run)
                check(run.summary["received_bytes"] > 10000, run.summary)
                for said in (run.summary["carrier"], server.wait_for(" open: ")):
                    check(f"{version} {suite} by openssl, kernel, both ways" in said, said)
                for name in ("TlsTxSw", "TlsRxSw"):  # both ends of three connections
                    check(counts()[name] >= before[name] + 6, f"{name}: {before}, {counts()}")


def rtt_between_two_kernels():
    every_suite("rtt")


def stream_between_two_kernels():
    """So long that on one slow core both ends have their turns."""
    every_suite("stream", "--direction", "both", "--duration", "2")


def many_connections_one_after_the_other():
    """A handshake each, a close_notify each."""
    with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER, "--ktls", "require") as (_, url):
        run = load(w, "connect", url, *trusted(), "--ktls", "require", "--connections", "4", "--warmup", "0",
                   "--count", "40").ended()
        check_equal(run.summary["opened_connections"], 40, "opened")


def no_nonce_comes_twice():
    """TLS 1.2 with GCM, both ends, from Finished to close_notify."""
    with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER, "--ktls", "require") as (_, url):
        between = Recorder(port_of(url))
        load(w, "rtt", f"tls://127.0.0.1:{between.port}", *trusted(), "--ktls", "require", "--ciphers",
             SUITES["TLSv1.2"][0], "--count", "100", "--warmup", "0").ended()
        wire = between.ended()
        for of_one_end in (wire.seen, wire.answered):
            check(in_sequence(of_one_end) > RECORDS_MIN, "too few records")


def socat_echoes():
    """OpenSSL's library at the other end, in a program that knows nothing of us."""
    for version in ("TLS1.2", "TLS1.3"):
        with World() as w:
            port = w.socat(f"OPENSSL-LISTEN:0,bind=127.0.0.1,fork,verify=0,cert={cert('good.chain')},"
                           f"key={cert('good.key')},openssl-min-proto-version={version},"
                           f"openssl-max-proto-version={version}", "PIPE")
            run = load(w, "rtt", f"tls://127.0.0.1:{port}", *trusted(), *SHORT, *MIXED, "--ktls",
                       "require")
            check_round_trips(run)
            check_verified(run)


def s_server_takes_all():
    """What it wrote to its standard output, message by message."""
    for version in ("-tls1_2", "-tls1_3"):
        with World() as w:
            port, taken = free_port(), w.path("taken")
            with open(taken, "wb") as out:
                w.start([need("openssl"), "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-cert",
                         cert("good.pem"), "-cert_chain", cert("good.chain"), "-key", cert("good.key"),
                         "-naccept", "1", version], stdin=subprocess.PIPE, stdout=out)
            wait_until(lambda p=port: connects(p), "s_server to listen")
            run = load(w, "stream", f"tls://127.0.0.1:{port}", *trusted(), "--duration", "0.5",
                       "--warmup", "0", "--verify", "--size", str(CHECKED_BYTES), "--ktls",
                       "require").ended()
            sent = run.summary["sent_messages"]
            check(sent > 10, run.summary)
            wait_until(lambda n=sent, f=taken: len(read(f)) >= n * CHECKED_BYTES, "all of it")
            data = read(taken)
            numbers = [int.from_bytes(data[at + 8:at + 16], "little")
                       for at in range(0, len(data), CHECKED_BYTES)]
            check_equal(numbers, list(range(sent)), f"{version}: messages")


def connects(port):
    """Whether it listens, without becoming its one connection."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
                   for line in file.readlines()[1:])


def s_client_is_echoed():
    """A client of theirs, whose end is a close_notify, answered by ours."""
    data = b"".join(b"line %6d\n" % i for i in range(30000))
    for version in ("-tls1_2", "-tls1_3"):
        with World() as w, serving(w, "echo", "tls://127.0.0.1:0", *SERVER, "--ktls",
                                   "require") as (server, url):
            client = w.start([need("openssl"), "s_client", "-quiet", "-no_ign_eof", "-connect",
                              f"127.0.0.1:{port_of(url)}", version],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            check("kernel, both ways" in server.wait_for(" open: "), server.err())
            for at in range(0, len(data), 13 * 1000):
                piece = data[at:at + 13 * 1000]
                client.stdin.write(piece)
                client.stdin.flush()
                check(client.stdout.read(len(piece)) == piece, f"{version}: bytes at {at}")
            client.stdin.close()
            client.ends(0)


if KTLS:
    for proof in (rtt_between_two_kernels, stream_between_two_kernels,
                  many_connections_one_after_the_other, no_nonce_comes_twice, socat_echoes,
                  s_server_takes_all, s_client_is_echoed):
        test(proof)

main()
