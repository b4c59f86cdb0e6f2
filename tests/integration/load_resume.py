"""sluice load connect --resume: which TLS sessions go on, as both ends see it."""
import contextlib
import ssl
import time

from load_run import load, serving
from tap import check, check_equal, main, test
from world import World, helper, wait_until

CERTS = helper("certs")
NO_WARMUP = ("--duration", "10", "--warmup", "0")
CLIENT = ("--ca", f"{CERTS}/root.pem", "--verify-name", "good.example.test")


def providers(w):
    """The libraries that do TLS in this build."""
    said = w.run("--version").out.decode()
    return said[said.index("TLS providers: "):].split(";")[0].split()[2:-1]


def python_server(w, seen, tickets=2, delays=()):
    """Python's ssl as the peer: its tls:// URL; seen gets whether each session was resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{CERTS}/good.pem", f"{CERTS}/good.key")
    context.num_tickets = tickets
    context.options |= 0 if tickets else ssl.OP_NO_TICKET
    waits = iter(delays)

    def handler(peer):
        time.sleep(next(waits, 0))
        with contextlib.suppress(OSError), context.wrap_socket(peer, server_side=True) as tls:
            seen.append(tls.session_reused)
            tls.recv(1)
    return w.serve(handler).replace("tcp://", "tls://")


@test
def resumed_handshakes():
    """connect --resume: each but the first one is resumed, in both versions, and without it none;
    the peer says the same."""
    with World() as w:
        for version in ((), ("--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256")):
            for flags, resumed in (((), 0), (("--resume",), 19)):
                seen = []
                s = load(w, "connect", python_server(w, seen), *NO_WARMUP, "--count", "20",
                         *flags, *CLIENT, *version).ended().summary
                check_equal((s["opened_connections"], s["resumed_connections"]), (20, resumed),
                            f"{version} {flags}")
                wait_until(lambda seen=seen: len(seen) == 20, "the peer to see all")
                check_equal(seen, [False] + 19 * [bool(resumed)], "peer's")
        answer = w.run("load", "connect", python_server(w, []), *NO_WARMUP, "--count", "5",
                       "--resume", *CLIENT)
        check("1 full, 4 resumed" in answer.out.decode(), answer.out.decode())


@test
def a_ticket_has_its_time_after_a_slow_handshake():
    """The peer takes its time for the first one, longer than a ticket may take."""
    with World() as w:
        seen = []
        s = load(w, "connect", python_server(w, seen, delays=[2.2]), *NO_WARMUP, "--count", "3",
                 "--resume", *CLIENT).ended().summary
        check_equal(s["resumed_connections"], 2, "resumed")


@test
def resumed_with_our_own_server():
    """sluice load --serve gives tickets, with either library."""
    with World() as w:
        for provider in providers(w):
            with serving(w, "echo", "wss://127.0.0.1:0", "--tls-provider", provider, "--cert",
                         f"{CERTS}/good.pem", "--key", f"{CERTS}/good.key") as (_, where):
                s = load(w, "connect", where, *NO_WARMUP, "--count", "20", "--connections", "3",
                         "--resume", *CLIENT).ended().summary
                check_equal(s["resumed_connections"], 17, provider)


@test
def no_ticket_to_resume_with():
    """A peer that gives none, and what --resume does not go with: one line each."""
    with World() as w:
        run = load(w, "connect", python_server(w, [], 0), *NO_WARMUP, "--resume", *CLIENT)
        check("no ticket" in run.ended(39).err, run.err)
        check_equal(run.summary["opened_connections"], 1, "partial results")
        for words in (("rtt", "tls://127.0.0.1:9"), ("connect", "tcp://127.0.0.1:9")):
            answer = w.run("load", *words, "--resume")
            check(answer.code == 2 and len(answer.lines()) == 1 and "--resume" in answer.err,
                  f"{words}: {answer.err}")
        if "wolfssl" in providers(w):
            answer = w.run("load", "connect", "tls://127.0.0.1:9", "--resume", "--tls-provider",
                           "wolfssl")
            check(answer.code == 39 and len(answer.lines()) == 1 and "openssl" in answer.err,
                  answer.err)


main()
