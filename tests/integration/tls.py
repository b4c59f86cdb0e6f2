"""tls:// and wss:// against servers that others wrote: Python's ssl, openssl s_server, nginx,
python3-websockets.
"""
import asyncio
import contextlib
import os
import ssl
import subprocess
import threading
import time

import websockets
from refusal import says
from tap import check, check_equal, main, test
from world import (LIMIT_S, World, backend, free_port, in_thread, need, read, read_to_end, url_of,
                   wait_until)
from tls_peer import cert, context, in_kernel, serve_tls, trusted

MIB = 1 << 20


def noise(size):
    """Bytes that do not repeat soon."""
    return b"".join(i.to_bytes(4, "little") for i in range(size // 4))


def breaks(answer, code, *names):
    """The last line says why a connection that was open ended."""
    check_equal(answer.code, code, answer.err)
    for name in names:
        check(name in answer.lines()[-1], f"'{name}' in {answer.err}")


# ---- bytes ---------------------------------------------------------------------------------------

@test
def echo_on_each_version():
    """Both ways at once, more than any buffer; our close_notify does not end what still comes."""
    data = noise(4 * MIB)

    def echo(peer):
        while chunk := peer.recv(65536):
            peer.sendall(chunk)
        peer.sendall(b"after your end")
        peer.unwrap()

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with World() as w:
            url = serve_tls(w, echo, context(version=version))
            answer = w.run("cat", url, *trusted(), "--inbox", "64K", stdin=data)
            check_equal(answer.code, 0, answer.err)
            check(answer.out == data + b"after your end", f"{version}: {len(answer.out)} bytes")


@test
def run_says_what_was_agreed():
    with World() as w:
        url = serve_tls(w, lambda peer: peer.recv(1), context())
        engine = w.engine(url, "feed", *trusted())
        line = engine.wait_for(" open: ")
        model = ("three-thread (TLS in user space, on " if not in_kernel()
                 else "single (TLS in the kernel, on uring" if backend() == "auto"
                 else "two-thread (TLS in the kernel, on ")
        for part in ("TLS TLSv1.3", os.environ["TLS_PROVIDER"], "verified: chain", f"model {model}",
                     "kernel, both ways" if in_kernel() else "user space"):
            check(part in line, f"'{part}' in {line}")


@test
def row_49_nginx_sends_20_mb_through_a_small_inbox():
    with World() as w:
        os.makedirs(w.path("www"))
        data = noise(20_000_000)
        w.write("www/file", data)
        port = free_port()
        w.nginx(f"""
        }} server {{
        listen 127.0.0.1:{port} ssl; ssl_certificate {cert('good.chain')};
        ssl_certificate_key {cert('good.key')}; location / {{ root {w.path('www')}; }}
        """.replace("{{", "{").replace("}}", "}"))
        cat = w.cat(f"tls://127.0.0.1:{port}", *trusted(), "--inbox", "64K")
        cat.stdin.write(b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        cat.stdin.flush()
        seen = in_thread(cat.stdout.read)()
        check(seen.endswith(data), f"{len(seen)} bytes of the response")
        cat.ends(0)


# ---- who the peer is -----------------------------------------------------------------------------

@test
def not_verifying_is_loud():
    with World() as w:
        url = serve_tls(w, lambda peer: (peer.sendall(b"data"), peer.unwrap()),
                        context("self-signed"))
        answer = w.run("cat", url, "--tls-no-verify")
        check_equal((answer.code, answer.out), (0, b"data"), answer.err)
        check("warn" in answer.err and "--tls-no-verify" in answer.err, answer.err)


@test
def client_certificates():
    with World() as w:
        wanted = context()
        wanted.verify_mode = ssl.CERT_REQUIRED
        wanted.load_verify_locations(cert("root.pem"))
        url = serve_tls(w, lambda peer: (peer.sendall(b"welcome"), peer.unwrap()), wanted)
        answer = w.run("cat", url, *trusted(), "--cert", cert("client.chain"), "--key",
                       cert("client.key"))
        check_equal((answer.code, answer.out), (0, b"welcome"), answer.err)
        breaks(w.run("cat", url, *trusted()), 41, url, "tls-handshake", "certificate_required")


@test
def bad_files_are_named():
    with World() as w:
        url = f"tls://127.0.0.1:{free_port()}"
        for flag, file in (("--ca", "/nowhere.pem"), ("--cert", "/nowhere.pem"),
                           ("--crl", "/nowhere.pem"), ("--ca", cert("garbage.pem"))):
            says(w.run("run", url, flag, file), 40, url, "tls-config", file)
        check_equal(w.left_behind(), [], "left behind")


# ---- ends ----------------------------------------------------------------------------------------

@test
def row_10_an_end_without_close_notify_is_no_clean_end():
    def cut(peer):
        peer.sendall(b"whole")
        peer.shutdown_socket()

    with World() as w:
        url = serve_tls(w, cut, context())
        answer = w.run("cat", url, *trusted())
        breaks(answer, 44, url, "tls-truncated")
        check_equal(answer.out, b"whole", "what came before")


@test
def a_key_log_is_written_or_refused():
    """Never silently not written."""
    with World() as w:
        url = serve_tls(w, lambda peer: peer.unwrap(), context())
        path = w.path("keys")
        answer = w.run("cat", url, *trusted(), "--keylog", env={"SSLKEYLOGFILE": path})
        if os.environ["TLS_PROVIDER"] == "wolfssl":
            says(answer, 39, "keylog", "--tls-provider openssl")
            check(not os.path.exists(path), "a file")
        else:
            check_equal(answer.code, 0, answer.err)
            check(b"SERVER_TRAFFIC_SECRET_0" in read(path), "no secrets in it")


@test
def row_37_silence_instead_of_a_handshake():
    with World() as w, w.listen() as listener:
        url = url_of(listener).replace("tcp:", "tls:")
        answer = w.run("cat", url, "--tls-timeout", "0.3")
        says(answer, 43, url, "tls-timed-out", "--tls-timeout", limit_s=2)


@test
def a_server_that_does_not_speak_tls():
    with World() as w:
        url = w.serve(lambda peer: (peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
                                    read_to_end(peer)))
        says(w.run("cat", url.replace("tcp:", "tls:")), 41, "tls-handshake")


@test
def row_35_versions_without_a_common_one():
    with World() as w:
        url = serve_tls(w, lambda peer: None, context(version=ssl.TLSVersion.TLSv1_2))
        says(w.run("cat", url, *trusted(), "--tls-min", "1.3"), 41, "tls-handshake")


@test
def rows_40_41_openssl_renews_its_keys():
    """s_server: K asks for our new keys too, k renews only its own; data flows on both ways. The
    kernel's part in it is ktls.py's.
    """
    with World() as w:
        port = free_port()
        log = w.path("s_server.log")
        with open(log, "wb") as out:
            server = w.start([need("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert",
                              cert("good.pem"), "-cert_chain", cert("good.chain"), "-key",
                              cert("good.key"), "-tls1_3", "-naccept", "1"],
                             stdin=subprocess.PIPE, stdout=out)
        wait_until(lambda: b"ACCEPT" in read(log), "s_server to listen")
        cat = w.cat(f"tls://127.0.0.1:{port}", *trusted(), "--ktls", "off")
        wait_until(lambda: b"CIPHER is" in read(log), "the handshake")
        for command in (None, b"K\n", b"k\n", b"K\n"):
            if command:
                server.stdin.write(command)
                server.stdin.flush()
                time.sleep(0.3)  # a command must be all that one read(2) brings
            server.stdin.write(b"a line\n")
            server.stdin.flush()
            check_equal(cat.stdout.readline(), b"a line\n", f"after {command}")
            before = read(log).count(b"an answer")
            cat.stdin.write(b"an answer\n")
            cat.stdin.flush()
            wait_until(lambda n=before: read(log).count(b"an answer") == n + 1, "our answer")


# ---- WebSocket -----------------------------------------------------------------------------------

@test
def websocket_over_tls():
    """PING, text both ways, CLOSE: through wss://, with Sec-WebSocket-Accept checked as ever."""
    async def script(ws):
        await (await ws.ping(b"are you there"))
        await ws.send("hello")
        await ws.send("got " + await ws.recv())

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(websockets.serve(script, "127.0.0.1", 0, ssl=context(),
                                                      ping_interval=None, loop=loop))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = server.sockets[0].getsockname()[1]
    try:
        with World() as w:
            answer = w.run("ws", f"wss://localhost:{port}/x", *trusted(), "--resolve",
                           f"localhost:{port}:127.0.0.1", "--send", "order", limit_s=LIMIT_S)
            check_equal(answer.out.decode().split("\n")[:2], ["hello", "got order"], answer.err)
            check_equal(answer.code, 0, answer.err)
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_S)


main()
