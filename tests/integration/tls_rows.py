"""Rows of the fault matrix that need a peer of others: openssl s_server and its letters, stunnel,
gnutls-serv, nginx. What needs no peer's misbehaviour is in tls.py, what the wire does in tls_damage.py,
each record a peer may send in tls_records.py.
"""
import contextlib
import subprocess
import time

from refusal import says
from tap import check, check_equal, main, test
from tls_peer import NAME, cert, trusted
from world import LIMIT_S, World, connects, free_port, need, read, wait_until

LETTER_S = 0.3  # a letter must be all that one read(2) of s_server brings


def identity(leaf):
    """Flags of a server that shows it."""
    return ("-cert", cert(f"{leaf}.pem"), "-cert_chain", cert(f"{leaf}.pem"), "-key",
            cert(f"{leaf}.key"))


class OpensslServer:
    """openssl s_server with its keyboard."""

    def __init__(self, w, *flags, leaf="good"):
        self.port = free_port()
        self.log = w.path(f"s_server.{self.port}")
        with open(self.log, "wb") as out:
            self.process = w.start([need("openssl"), "s_server", "-accept",
                                    f"127.0.0.1:{self.port}", *identity(leaf), *flags],
                                   stdin=subprocess.PIPE, stdout=out)
        wait_until(lambda: b"ACCEPT" in read(self.log), "s_server to listen")
        self.url = f"tls://127.0.0.1:{self.port}"

    def wait_open(self, count=1):
        """So many handshakes are done."""
        wait_until(lambda: read(self.log).count(b"CIPHER is") >= count, "the handshake")

    def type(self, text):
        """Keys."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text)
            self.process.stdin.flush()
        time.sleep(LETTER_S)


def last_line(process):
    """What a command said at its end."""
    return process.err().splitlines()[-1]


# ---- ends ----------------------------------------------------------------------------------------

@test
def row_11_the_clean_end():
    """close_notify, then FIN (of s_server only -rev does that): clean, and nothing is logged."""
    for version in ("-tls1_2", "-tls1_3"):
        with World() as w:
            server = OpensslServer(w, version, "-rev")
            cat = w.cat(server.url, *trusted())
            cat.stdin.write(b"12345\nCLOSE\n")
            cat.stdin.flush()
            cat.ends(0)
            check_equal(cat.stdout.read(), b"54321\n", version)
            check("peer-close" in cat.err() and "error" not in cat.err(), cat.err())


@test
def row_10_the_server_is_killed():
    """FIN at the end of a record, without close_notify; so does its own Q."""
    for version, how in (("-tls1_2", "kill"), ("-tls1_3", "kill"), ("-tls1_3", "Q")):
        with World() as w:
            server = OpensslServer(w, version)
            cat = w.cat(server.url, *trusted())
            server.wait_open()
            server.type(b"a line\n")
            check_equal(cat.stdout.readline(), b"a line\n", version)
            if how == "Q":
                server.type(b"Q\n")
            else:
                server.process.end()
            cat.ends(44)
            check("tls-truncated" in last_line(cat), cat.err())


# ---- who the peer is -----------------------------------------------------------------------------

def judged(rows):
    """(leaf, name wanted, what the line must say; None: accepted) against s_server at its laxest, which
    is told by an alert when it was refused. Each with each version: unit/test_tls_verify.c.
    """
    with World() as w:
        for leaf, name, word in rows:
            server = OpensslServer(w, "-cipher", "ALL:@SECLEVEL=0", "-rev", leaf=leaf)
            if word is None:
                cat = w.cat(server.url, *trusted(name))
                cat.stdin.write(b"abc\n")
                cat.stdin.flush()
                check_equal(cat.stdout.readline(), b"cba\n", f"{leaf} for {name}")
            else:
                answer = w.run("cat", server.url, *trusted(name), stdin=b"secret\n")
                says(answer, 42, server.url, "tls-verify", word)
                check_equal(answer.out, b"", leaf)
                wait_until(lambda s=server: "SSL alert number" in s.process.err(), "our alert")
                check(b"secret" not in read(server.log), "what was for somebody else")


@test
def row_30_expired():
    judged((("expired", NAME, "expired"), ("under-expired", NAME, "expired")))


@test
def row_31_not_yet_valid():
    judged((("not-yet", NAME, "not yet valid"),))


@test
def row_32_unknown_authority():
    """A root of others, none, and a server that does not show what stands between."""
    judged((("unknown-ca", NAME, "issuer"), ("self-signed", NAME, "self"), ("alone", NAME, "issuer")))


@test
def row_33_names_and_addresses():
    """Exact, a wildcard for one whole label, an address that stands as one: nothing else."""
    name, address = "ostname mismatch", "IP address mismatch"
    judged((("good", NAME, None), ("good", "GOOD.Example.Test", None), ("good", "example.test", name),
            ("wrong-name", NAME, name), ("cn-only", NAME, name),
            ("wildcard", NAME, None), ("wildcard", "a.b.example.test", name),
            ("wildcard", "example.test", name), ("wildcard-partial", NAME, name),
            ("wildcard-inner", NAME, name), ("wildcard-top", "example.test", name),
            ("address", "127.0.0.1", None), ("address", "::1", None),
            ("address", "127.0.0.2", address), ("address-as-name", "127.0.0.1", address)))


@test
def row_34_what_a_certificate_may_not_do():
    """Name constraints, uses, path lengths, weak keys and hashes, in the leaf and above it."""
    judged((("limited-good", "a.allowed.test", None), ("limited-bad", NAME, "permitted subtree"),
            ("limited-excluded", NAME, "excluded subtree"), ("client-only", NAME, "purpose"),
            ("under-client", NAME, "purpose"), ("path-length", NAME, "path length"),
            ("from-leaf", NAME, "invalid CA"), ("under-no-ca", NAME, "invalid CA"),
            ("rsa-1024", NAME, "key too weak"), ("under-weak", NAME, "key too weak"),
            ("sha1", NAME, "too weak"), ("under-sha1", NAME, "too weak")))


# ---- agreement -----------------------------------------------------------------------------------

@test
def row_35_no_version_and_no_cipher_in_common():
    with World() as w:
        old = OpensslServer(w, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        says(w.run("cat", old.url, *trusted()), 41, old.url, "tls-handshake")
        other = OpensslServer(w, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
        answer = w.run("cat", other.url, *trusted(), "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384")
        says(answer, 41, other.url, "tls-handshake", "handshake_failure")


@test
def row_36_alpn():
    """Agreed: it is named. Something else, or nothing, is served: s_server goes on without."""
    with World() as w:
        server = OpensslServer(w, "-alpn", "h2,http/1.1")
        line = w.engine(server.url, "one", *trusted(), "--alpn", "x,http/1.1").wait_for(" open: ")
        check("alpn http/1.1" in line, line)
        none = OpensslServer(w)
        line = w.engine(none.url, "two", *trusted(), "--alpn", "h2").wait_for(" open: ")
        check("alpn" not in line, line)


@test
def row_36_alpn_refused():
    """nginx ends the handshake when it can serve nothing of what is offered."""
    with World() as w:
        port = free_port()
        w.nginx(f"""
        }} server {{
        listen 127.0.0.1:{port} ssl; ssl_certificate {cert('good.chain')};
        ssl_certificate_key {cert('good.key')};
        """)
        url = f"tls://127.0.0.1:{port}"
        says(w.run("cat", url, *trusted(), "--alpn", "x"), 41, url, "no_application_protocol")
        line = w.engine(url, "feed", *trusted(), "--alpn", "x,http/1.1").wait_for(" open: ")
        check("alpn http/1.1" in line, line)


@test
def row_37_a_handshake_that_stalls():
    """The port is open and takes our hello; nothing comes back: its own deadline, not connect's."""
    with World() as w:
        w.run("probe")
        url = w.serve(lambda peer: (peer.recv(65536), peer.recv(1))).replace("tcp:", "tls:")
        answer = w.run("cat", url, "--tls-timeout", "0.3", "--connect-timeout", "30")
        says(answer, 43, url, "tls-timed-out", "--tls-timeout")


# ---- what is no data -----------------------------------------------------------------------------

@test
def row_39_tickets():
    """None, some, many: never data, never an end."""
    for count in (0, 1, 2, 20):
        with World() as w:
            server = OpensslServer(w, "-tls1_3", "-num_tickets", str(count), "-rev")
            cat = w.cat(server.url, *trusted())
            for line in (b"12345\n", b"abc\n"):
                cat.stdin.write(line)
                cat.stdin.flush()
                check_equal(cat.stdout.readline(), line[-2::-1] + b"\n", f"{count} tickets")


@test
def row_43_renegotiation():
    """TLS 1.2, s_server r and R: refused, no hang; s_server gives up with its alert."""
    for letter in (b"r\n", b"R\n"):
        with World() as w:
            server = OpensslServer(w, "-tls1_2")
            cat = w.cat(server.url, *trusted())
            server.wait_open()
            server.type(b"a line\n")
            server.type(letter)
            cat.ends(41)
            check_equal(cat.stdout.read(), b"a line\n", f"{letter}")
            check("alert 40 (handshake_failure)" in last_line(cat), cat.err())
            check_equal(read(server.log).count(b"CIPHER is"), 1, "no second handshake")


@test
def row_44_a_certificate_asked_for_after_the_handshake():
    """s_server c: we offer no such thing, so it may not ask (one that does all the same is refused:
    unit/test_tls_control.c).
    """
    with World() as w:
        server = OpensslServer(w, "-tls1_3", "-verify", "1")
        cat = w.cat(server.url, *trusted())
        server.wait_open()
        server.type(b"a line\n")
        server.type(b"c\n")
        server.type(b"b line\n")
        server.type(b"Q\n")
        cat.ends(44)  # s_server knows that we cannot, and asks for nothing
        check_equal(cat.stdout.read(), b"a line\nb line\n", "what it sent")
        check(b"extension not received" in read(server.process.log), read(server.process.log))


@test
def row_46_plaintext_in_the_stream():
    """s_server P sends bytes that are no record: fatal, and none of them is delivered."""
    for version in ("-tls1_2", "-tls1_3"):
        with World() as w:
            server = OpensslServer(w, version)
            cat = w.cat(server.url, *trusted())
            server.wait_open()
            server.type(b"a line\n")
            server.type(b"P\n")
            cat.ends(46)
            check_equal(cat.stdout.read(), b"a line\n", version)
            check("tls-protocol" in last_line(cat), cat.err())


# ---- other servers -------------------------------------------------------------------------------

def echoes(w, url, *flags):
    """A line there and back, then 200 KB."""
    cat = w.cat(url, *flags)
    for line in (b"hello\n", b"x" * 200_000 + b"\n"):
        cat.stdin.write(line)
        cat.stdin.flush()
        check(cat.stdout.readline() == line, f"{url}: {len(line)} bytes back")
    return cat


@test
def row_49_stunnel():
    """In front of socat's echo; it ends with close_notify."""
    with World() as w:
        echo, port = free_port(), free_port()
        w.socat(f"TCP-LISTEN:{echo},bind=127.0.0.1,fork,reuseaddr", "EXEC:cat")
        w.write("stunnel.conf", f"""
            foreground = yes
            pid =
            [echo]
            accept = 127.0.0.1:{port}
            connect = 127.0.0.1:{echo}
            cert = {cert('good.chain')}
            key = {cert('good.key')}
            """.encode())
        w.start([need("stunnel"), w.path("stunnel.conf")])
        wait_until(lambda: connects(port), "stunnel to listen")
        cat = echoes(w, f"tls://127.0.0.1:{port}", *trusted())
        cat.stdin.close()
        cat.ends(0)


@test
def row_49_gnutls():
    """gnutls-serv echoes; TLS 1.2 and 1.3, and asks for a client's certificate."""
    for priority in ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"):
        with World() as w:
            port = free_port()
            w.start([need("gnutls-serv"), "--echo", "--quiet", "--port", str(port),
                     "--x509certfile", cert("good.chain"), "--x509keyfile", cert("good.key"),
                     "--x509cafile", cert("root.pem"), "--require-client-cert",
                     "--priority", priority])
            wait_until(lambda p=port: connects(p), "gnutls-serv to listen", limit_s=LIMIT_S)
            url = f"tls://127.0.0.1:{port}"
            cat = w.cat(url, *trusted(), "--cert", cert("client.chain"), "--key", cert("client.key"))
            cat.stdin.write(b"hello\n")
            cat.stdin.flush()
            check_equal(cat.stdout.readline(), b"hello\n", priority)


main()
