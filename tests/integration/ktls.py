"""Kernel TLS beside TLS in user space: the same peer, the same bytes, the same end. On a kernel without
it (most hosts): what is said instead. tests/vm runs this on kernels that have it.
"""
import json
import re
import socket
import ssl
import struct
import threading
import time

from tap import check, check_equal, main, test
from tls_peer import cert, context, kernel_has_tls, serve_tls, trusted
from tls_proxy import Proxy, flipped_at, in_record_of
from tls_recorder import Recorder, in_sequence
from world import LIMIT_S, World, free_port, in_thread, need, read, stat, wait_until

MIB = 1 << 20
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SUITES = {"1.2": ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                  "ECDHE-ECDSA-CHACHA20-POLY1305"),
          "1.3": ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                  "TLS_CHACHA20_POLY1305_SHA256")}
GCM_RECORDS_MIN = 50
AT_ONCE_S = 0.7


KTLS = kernel_has_tls()


def noise(size):
    """Bytes that do not repeat soon."""
    return b"".join(i.to_bytes(4, "little") for i in range(size // 4))


def outcome(answer):
    """What must be the same: exit code, bytes, the close record without what timing decides (into how
    many messages standard input was cut, whether its end was said before the peer's).
    """
    record = re.search(r"connection 1 closed: (\S+?); received (\d+) B; sent \d+ messages, (\d+) B",
                       answer.err)
    return answer.code, answer.out, record.groups() if record else None


def both(script, version, *flags, stdin=b"", ctx=None, limit_s=60):
    """The outcome with the kernel's TLS and without, which must be one."""
    seen = {}
    for ktls in ("require", "off"):
        with World() as w:
            url = serve_tls(w, script, ctx or context(version=VERSIONS[version]))
            answer = w.run("cat", url, *trusted(), *flags, "--ktls", ktls, stdin=stdin,
                           limit_s=limit_s)
            seen[ktls] = outcome(answer)
            said = answer.err
    check_equal(seen["require"][0], seen["off"][0], f"{version}: exit code; {said}")
    check(seen["require"][1] == seen["off"][1], f"{version}: bytes differ: "
          f"{len(seen['require'][1])} and {len(seen['off'][1])}")
    check_equal(seen["require"][2], seen["off"][2], f"{version}: close record")
    return seen["off"]


# ---- what every kernel says ----------------------------------------------------------------------

@test
def row_50_the_choice_is_said_with_its_reason():
    with World() as w:
        url = serve_tls(w, lambda peer: peer.recv(1), context())
        url_off = serve_tls(w, lambda peer: peer.recv(1), context())
        line = w.engine(url, "feed", *trusted()).wait_for(" open: ")
        wanted = ("kernel, both ways",) if KTLS else ("user space (this kernel has no tls module)",)
        for part in wanted + ("verified: chain",):
            check(part in line, f"'{part}' in {line}")
        line = w.engine(url_off, "other", *trusted(), "--ktls", "off").wait_for(" open: ")
        check("user space (--ktls off)" in line, line)


@test
def probe_says_where_it_pays():
    with World() as w:
        features = json.loads(w.run("probe", "--json").out)["features"]
        detail = next(f["detail"] for f in features if f["name"] == "ktls")
        check(("messages of 64 bytes" if KTLS else "no tls module") in detail, detail)


@test
def row_50_required_means_required():
    """Refused in one line where it cannot be had; nothing is delivered."""
    with World() as w:
        url = serve_tls(w, lambda peer: (peer.sendall(b"data"), peer.unwrap()), context())
        answer = w.run("cat", url, *trusted(), "--ktls", "require")
        if KTLS:
            check_equal((answer.code, answer.out), (0, b"data"), answer.err)
            return
        check_equal((answer.code, answer.out), (48, b""), answer.err)
        for part in ("no kernel TLS", "no tls module", "--ktls auto"):
            check(part in answer.lines()[-1], f"'{part}' in {answer.err}")


@test
def a_close_reaches_the_peer_at_once():
    """Not a second later, when io_uring of Linux 6.1 lets go of a file whose slot was cleared."""
    data = b"b" * 999
    for version in VERSIONS.values():
        for at in (20, 200, 400, 600, 900, 1010):
            with World() as w:
                url = serve_tls(w, lambda peer: (peer.sendall(data), peer.unwrap()),
                                context(version=version))
                proxy = Proxy(w, url, in_record_of(len(data), flipped_at)(at))
                answer = w.run("cat", proxy.url, *trusted())
                check_equal((answer.code, answer.out), (46, b""), answer.err)
                check(proxy.up_ended.wait(AT_ONCE_S), f"{version}: the peer still waits, {at}")


# ---- the same as in user space -------------------------------------------------------------------

def echo(peer):
    """Everything back, and some more behind the other's end."""
    while chunk := peer.recv(65536):
        peer.sendall(chunk)
    peer.sendall(b"after your end")
    peer.unwrap()


def lacks(suite):
    """Only ChaCha20 may be missing from a kernel with TLS; then --ktls auto goes on without it."""
    with World() as w:
        url = serve_tls(w, lambda peer: (peer.sendall(b"data"), peer.unwrap()), context())
        flags = (*trusted(), "--ciphers", suite)
        missing = w.run("cat", url, *flags, "--ktls", "require").code == 48
        check(not missing or "CHACHA20" in suite, f"the kernel lacks {suite}")
        answer = w.run("cat", url, *flags)
        check_equal((answer.code, answer.out), (0, b"data"), answer.err)
        return missing


def every_suite_echoes():
    data = noise(MIB)
    for version, suites in SUITES.items():
        for suite in suites:
            if lacks(suite):
                continue
            code, out, _ = both(echo, version, "--ciphers", suite, "--inbox", "64K", stdin=data)
            check_equal(code, 0, suite)
            check(out == data + b"after your end", f"{suite}: {len(out)} bytes")


def row_38_data_right_behind_finished():
    """A server's tickets and data leave in one segment with its Finished, or right behind it."""
    for version in VERSIONS:
        for size in (1, 100, 20000):
            code, out, _ = both(lambda peer, n=size: (peer.sendall(b"x" * n), peer.unwrap()), version)
            check_equal((code, out), (0, b"x" * size), version)


def ten_thousand_small_messages():
    messages = [bytes([65 + i % 26]) * (1 + i % 50) for i in range(10000)]

    def script(peer):
        for message in messages:
            peer.sendall(message)
        peer.unwrap()

    for version in VERSIONS:
        check_equal(both(script, version)[0], 0, version)


def ends():
    """Clean; without close_notify; by reset; a refusal by alert that comes after the handshake."""
    def reset(peer):
        peer.sendall(b"before")
        time.sleep(0.3)
        peer.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.close(peer.tls)

    def cut(peer):
        peer.sendall(b"whole")
        peer.shutdown_socket()

    asking = context(version=VERSIONS["1.3"])
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(cert("root.pem"))
    for version in VERSIONS:
        check_equal(both(lambda peer: peer.unwrap(), version)[:2], (0, b""), version)
        check_equal(both(cut, version)[:2], (44, b"whole"), version)
        check_equal(both(reset, version)[:2], (14, b"before"), version)
    check_equal(both(lambda peer: None, "1.3", ctx=asking)[0], 41, "certificate_required")


def padded_records():
    """The peer hides the lengths of its records; the kernel must find the content's end."""
    with World() as w:
        port, log = free_port(), w.path("s_server.log")
        with open(log, "wb") as out:
            w.start([need("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert",
                     cert("good.pem"), "-cert_chain", cert("good.chain"), "-key", cert("good.key"),
                     "-tls1_3", "-naccept", "1", "-rev", "-record_padding", "1024"], stdout=out)
        wait_until(lambda: b"ACCEPT" in read(log), "s_server to listen")
        cat = w.cat(f"tls://127.0.0.1:{port}", *trusted(), "--ktls", "require")
        for line in (b"12345\n", b"x" * 1000 + b"y\n", b"the last\n"):
            cat.stdin.write(line)
            cat.stdin.flush()
            check_equal(cat.stdout.readline(), line[-2::-1] + b"\n", "reversed")


def row_50_a_cipher_that_the_kernel_lacks():
    """In user space, and the reason said; or nothing, where the kernel was required."""
    suite = "TLS_AES_128_CCM_SHA256"
    with World() as w:
        port, log = free_port(), w.path("s_server.log")
        with open(log, "wb") as out:
            w.start([need("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert",
                     cert("good.pem"), "-cert_chain", cert("good.chain"), "-key", cert("good.key"),
                     "-tls1_3", "-ciphersuites", suite, "-rev"], stdout=out)
        wait_until(lambda: b"ACCEPT" in read(log), "s_server to listen")
        url, flags = f"tls://127.0.0.1:{port}", (*trusted(), "--ciphers", suite)
        answer = w.run("cat", url, *flags, "--ktls", "require")
        check_equal((answer.code, answer.out), (48, b""), answer.err)
        check("no such cipher" in answer.lines()[-1], answer.err)
        engine = w.engine(url, "feed", *flags)
        line = engine.wait_for(" open: ")
        check("user space (the kernel's TLS has no such cipher)" in line, line)
        answer = w.run("cat", "feed", stdin=b"12345\nCLOSE\n")
        check_equal((answer.code, answer.out), (0, b"54321\n"), answer.err)


def row_60_sends_that_the_kernel_cuts():
    """It takes neither MSG_WAITALL nor zero-copy: SENDs come back short and go on where they were. The
    peer reads nothing until one did, or (the room may end where a SEND does) until nothing moves.
    """
    data = noise(8 * MIB)  # more than a socket takes

    def late(peer):
        check(go.wait(LIMIT_S), "bytes still leave")
        got = b"".join(iter(lambda: peer.recv(65536), b""))
        taken.append(got)
        peer.unwrap()

    def stands_still():
        counters = stat(w, "feed")["counters"]
        seen.append(counters["sent_bytes"])
        return counters["short_sends"] or (seen[-1] and len(seen) > 5 and len(set(seen[-5:])) == 1)

    for version in VERSIONS:
        taken, seen, go = [], [], threading.Event()
        with World() as w:
            engine = w.engine(serve_tls(w, late, context(version=VERSIONS[version])), "feed", *trusted(),
                              "--ktls", "require")
            engine.wait_for(" open: ")
            cat = w.cat("feed")
            written = in_thread(cat.stdin.write, data)
            wait_until(stands_still, "a peer that takes no more")
            go.set()
            written()
            cat.stdin.close()
            cat.ends(0)
        check(taken == [data], f"{version}: {[len(got) for got in taken]} bytes")


# ---- what stands on the wire ----------------------------------------------------------------

def no_nonce_comes_twice():
    """TLS 1.2 with GCM: the explicit nonces on the wire, from our Finished to close_notify."""
    with World() as w:
        url = serve_tls(w, echo, context(version=VERSIONS["1.2"]))
        between = Recorder(int(url.rsplit(":", 1)[1]))
        data = noise(MIB)
        answer = w.run("cat", f"tls://127.0.0.1:{between.port}", *trusted(), "--ktls", "require",
                       "--ciphers", SUITES["1.2"][0], stdin=data)
        check_equal(answer.code, 0, answer.err)
        check(in_sequence(between.ended().seen) > GCM_RECORDS_MIN, "too few records")


if KTLS:
    for proof in (row_50_a_cipher_that_the_kernel_lacks, row_60_sends_that_the_kernel_cuts,
                  every_suite_echoes, row_38_data_right_behind_finished, ten_thousand_small_messages,
                  ends, padded_records, no_nonce_comes_twice):
        test(proof)

main()
