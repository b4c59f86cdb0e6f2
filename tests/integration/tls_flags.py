"""The flags of TLS one by one, the good and the bad case of each: bytes, exit code and the line."""
import base64
import hashlib
import os
import ssl
import subprocess

from refusal import says
from tap import check, check_equal, main, test
from tls_peer import NAME, cert, context, serve_tls, trusted
from world import World, need

DATA = b"data"


def served(w, leaf="good", ctx=None, script=None):
    """A server's URL."""
    return serve_tls(w, script or (lambda peer: (peer.sendall(DATA), peer.unwrap())),
                     ctx or context(leaf))


def good(w, url, *flags, env=None):
    """Connected, verified, delivered: what was said."""
    answer = w.run("cat", url, *flags, env=env)
    check_equal((answer.code, answer.out), (0, DATA), answer.err)
    return answer.err


def bad(w, url, code, flags, *words):
    """Refused in one line, nothing delivered."""
    answer = w.run("cat", url, *flags)
    says(answer, code, url, *words)
    check_equal(answer.out, b"", "nothing of a peer that is refused")


def key_hash(leaf):
    """SHA-256 of its public key."""
    der = subprocess.run([need("openssl"), "pkey", "-in", cert(f"{leaf}.key"), "-pubout", "-outform",
                          "DER"], capture_output=True, check=True).stdout
    return hashlib.sha256(der).digest()


@test
def ca_as_file_and_as_folder():
    with World() as w:
        url = served(w)
        good(w, url, *trusted())
        good(w, url, "--ca", cert("hashed"), "--verify-name", NAME)
        bad(w, url, 42, ("--verify-name", NAME), "tls-verify", "issuer")  # the system's store
        bad(w, url, 42, ("--ca", cert("other-root.pem"), "--verify-name", NAME), "tls-verify")


@test
def verify_name_by_name_and_by_address():
    with World() as w:
        url = served(w)
        bad(w, url, 42, ("--ca", cert("root.pem")), "tls-verify", "127.0.0.1")
        bad(w, url, 42, trusted("other.example.test"), "tls-verify", "other.example.test")
        url = served(w, "address")  # has 127.0.0.1: what the URL says is what is checked
        good(w, url, "--ca", cert("root.pem"))
        bad(w, url, 42, trusted("127.0.0.2"), "tls-verify", "127.0.0.2")


@test
def sni_is_sent_as_asked():
    seen = []
    with World() as w:
        ctx = context()
        ctx.sni_callback = lambda tls, name, of: seen.append(name)
        url = served(w, ctx=ctx)
        port = url.rsplit(":", 1)[1]
        named = (f"tls://name.example.test:{port}", *trusted(), "--resolve",
                 f"name.example.test:{port}:127.0.0.1")
        for flags in (named, (*named, "--sni", "other.example.test"), (url, *trusted())):
            good(w, *flags)
        check_equal(seen, ["name.example.test", "other.example.test", NAME], "names asked for")


@test
def alpn_is_offered_in_order():
    with World() as w:
        ctx = context()
        ctx.set_alpn_protocols(["b", "c"])
        url = served(w, ctx=ctx, script=lambda peer: (
            peer.sendall((peer.tls.selected_alpn_protocol() or "none").encode()), peer.unwrap()))
        for offered, chosen in (("a,b", b"b"), ("c", b"c"), ("a", b"none")):
            answer = w.run("cat", url, *trusted(), "--alpn", offered)
            check_equal((answer.code, answer.out), (0, chosen), answer.err)
        bad(w, url, 40, (*trusted(), "--alpn", "a,,b"), "tls-config", "alpn")


@test
def pins_in_both_notations():
    with World() as w:
        url, pin = served(w), key_hash("good")
        for text in (pin.hex(), base64.b64encode(pin).decode(),
                     f"{key_hash('expired').hex()},{pin.hex()}"):
            good(w, url, *trusted(), "--pin-sha256", text)
        wrong = key_hash("expired").hex()
        bad(w, url, 42, (*trusted(), "--pin-sha256", wrong), "tls-verify", "pin")
        bad(w, url, 42, ("--tls-no-verify", "--log-level", "error", "--pin-sha256", wrong),
            "tls-verify")
        bad(w, url, 40, (*trusted(), "--pin-sha256", "abcd"), "tls-config", "pin")


@test
def crl_refuses_what_was_revoked():
    with World() as w:
        url = served(w)
        good(w, url, *trusted(), "--crl", cert("crl.pem"))
        revoked = served(w, "revoked")
        good(w, revoked, *trusted())
        bad(w, revoked, 42, (*trusted(), "--crl", cert("crl.pem")), "tls-verify", "revoked")
        bad(w, url, 42, (*trusted(), "--crl", cert("crl-other.pem")), "tls-verify", "CRL")
        bad(w, url, 40, (*trusted(), "--crl", cert("garbage.pem")), "tls-config", "crl")


@test
def cert_and_key_of_ours():
    with World() as w:
        ctx = context()
        ctx.verify_mode = ssl.CERT_REQUIRED
        ctx.load_verify_locations(cert("root.pem"))
        url = served(w, ctx=ctx)
        mine = ("--cert", cert("client.chain"), "--key", cert("client.key"))
        good(w, url, *trusted(), *mine)
        bad(w, url, 40, (*trusted(), *mine[:2]), "tls-config", "key")
        other = w.run("cat", url, *trusted(), *mine[:3], cert("good.key"))
        if os.environ.get("TLS_PROVIDER") == "wolfssl":  # Debian's does not compare: the peer does
            check_equal((other.code, other.out), (45, b""), other.err)
        else:
            says(other, 40, url, "tls-config", "key")
        bad(w, url, 40, (*trusted(), *mine[:3], cert("encrypted.key")), "tls-config", "key")
        bad(w, url, 40, (*trusted(), *mine[2:]), "tls-config", "cert")


@test
def tls_min():
    with World() as w:
        url = served(w, ctx=context(version=ssl.TLSVersion.TLSv1_2))
        good(w, url, *trusted(), "--tls-min", "1.2")
        bad(w, url, 41, (*trusted(), "--tls-min", "1.3"), "tls-handshake")
        answer = w.run("cat", url, "--tls-min", "1.1")
        says(answer, 2, "tls-min", "1.1")


@test
def ciphers_by_name():
    with World() as w:
        url = served(w, script=lambda peer: (peer.sendall(peer.tls.cipher()[0].encode()),
                                             peer.unwrap()))
        for name in ("TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256",
                     "ECDHE-ECDSA-AES128-GCM-SHA256"):
            answer = w.run("cat", url, *trusted(), "--ciphers", name)
            check_equal((answer.code, answer.out), (0, name.encode()), answer.err)
        bad(w, url, 40, (*trusted(), "--ciphers", "TLS_NO_SUCH"), "tls-config", "TLS_NO_SUCH")


@test
def no_verify_warns_on_every_connection():
    with World() as w:
        url = served(w, "expired")
        for _ in range(2):
            said = good(w, url, "--tls-no-verify")
            check_equal(said.count("warn"), 1, said)
            check("--tls-no-verify: nobody checks who the peer is" in said, said)
        bad(w, url, 42, trusted(), "tls-verify", "expired")


@test
def keylog_only_on_request():
    """SSLKEYLOGFILE alone writes nothing; a provider that tells no secrets refuses the flag."""
    with World() as w:
        url, path = served(w), w.path("keys")
        env = {"SSLKEYLOGFILE": path}
        good(w, url, *trusted(), env=env)
        check(not os.path.exists(path), "nobody asked for it")
        says(w.run("cat", url, *trusted(), "--keylog"), 2, "--keylog", "SSLKEYLOGFILE")
        if os.environ.get("TLS_PROVIDER") == "wolfssl":
            says(w.run("cat", url, *trusted(), "--keylog", env=env), 39, "keylog")
            return
        good(w, url, *trusted(), "--keylog", env=env)
        check_equal(os.stat(path).st_mode & 0o777, 0o600, "secrets are nobody else's")
        with open(path, encoding="ascii") as file:
            labels = [line.split()[0] for line in file]
        check("SERVER_TRAFFIC_SECRET_0" in labels, labels)


@test
def a_provider_that_is_not_there():
    with World() as w:
        url = served(w)
        says(w.run("cat", url, "--tls-provider", "nonsense"), 39, "nonsense")


main()
