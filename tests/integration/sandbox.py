"""--sandbox: everything goes on behind it, on each backend, with and without TLS; what it forbids is
forbidden.c's."""
import signal

from tap import check, check_equal, main, sluice, test
from tls_peer import context, serve_tls, tls_url, trusted
from world import LIMIT_S, World, url_of, wait_until

BACKENDS = ("uring", "ev:epoll", "ev:poll")
DATA = bytes(range(256)) * 4096


def is_closed(pid):
    """It is behind the filter, and nothing that it starts has more."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        lines = file.read().splitlines()
    return "Seccomp:\t2" in lines and "NoNewPrivs:\t1" in lines


def echo(peer):
    """To the end of what comes."""
    while chunk := peer.recv(65536):
        peer.sendall(chunk)


def tls_echo(peer):
    """The same, ended as TLS wants it."""
    echo(peer)
    peer.unwrap()


def by_name(url):
    """So that a thread has to look it up."""
    return url.replace("127.0.0.1", "localhost")


@test
def bytes_pass_on_each_backend():
    """cat with an engine of its own, whose name is looked up while the filter closes."""
    for backend in BACKENDS:
        with World() as w:
            answer = w.run("cat", by_name(w.serve(echo)), "--sandbox", "--backend", backend, stdin=DATA)
            check_equal((answer.code, answer.out == DATA), (0, True), f"{backend}: {answer.err}")


@test
def tls_goes_on_in_every_model():
    """CA files were named: they are what is read."""
    for model in ("single", "two-thread", "three-thread"):
        with World() as w:
            flags = [*trusted(), "--model", model]
            if model == "two-thread":
                url, flags = w.serve(echo), ["--model", model]
            else:
                url = serve_tls(w, tls_echo, context())
            answer = w.run("cat", url, "--sandbox", *flags, stdin=DATA)
            check_equal((answer.code, answer.out == DATA), (0, True), f"{model}: {answer.err}")


@test
def engine_lets_clients_come_and_go():
    """Their memory is made, sealed and freed behind the filter; the socket file is removed at the end."""
    for backend in BACKENDS:
        with World() as w, w.listen() as listener:
            port = listener.getsockname()[1]
            engine = w.engine(f"tcp://localhost:{port}", "feed", "--sandbox", "--backend", backend)
            peer = w.accept(listener)
            wait_until(lambda pid=engine.popen.pid: is_closed(pid), "the filter")
            for _ in range(3):
                check_equal(w.run("stat", "feed").code, 0, "stat")
            cat = w.cat("feed", "--sandbox")
            wait_until(lambda pid=cat.popen.pid: is_closed(pid), "the client's filter")
            peer.sendall(b"hello")
            check_equal(cat.popen.stdout.read(5), b"hello", backend)
            peer.close()
            cat.popen.stdin.close()
            cat.wait(LIMIT_S)
            engine.wait(LIMIT_S)
            check_equal(w.left_behind(), [], f"{backend}: left behind: {engine.err()}")


@test
def connections_follow_each_other():
    """Names are looked up again, threads started again, with what each section names."""
    server = context()
    for threads in (("--model", "single"), ("--model", "auto", "--backend", "ev")):
        with World() as w, w.listen() as plain, w.listen() as tls:
            ca, _, name = trusted()[1:]
            conf = w.write("conf", f"[a]\nurl = {by_name(url_of(plain))}\n[b]\n"
                                   f"url = {by_name(tls_url(url_of(tls)))}\nca = {ca}\n"
                                   f"verify-name = {name}\n")
            w.env["SLUICE_ONCE"] = "false"
            engine = w.start([sluice(), "run", "--config", conf, "--sandbox", "--reconnect-min", "0.01",
                              "--reconnect-max", "0.05", *threads])
            wait_until(lambda pid=engine.pid: is_closed(pid), "the filter")
            for _ in range(3):
                w.accept(plain).close()
                server.wrap_socket(w.accept(tls), server_side=True).close()
            wait_until(lambda on=engine: on.err().count("the next attempt") >= 6, "their ends")
            engine.signal(signal.SIGTERM)
            engine.signal(signal.SIGINT)
            engine.ends(0)
            check(engine.err().count(" open: ") >= 6, engine.err())
            check_equal(w.left_behind(), [], "left behind")


@test
def outputs_that_it_would_forbid_are_refused_at_once():
    """Rather than at the end of a run."""
    with World() as w:
        for command, flags in (("ws", ["--report", w.path("report")]), ("cat", ["--keylog"])):
            answer = w.run(command, "tcp://127.0.0.1:1", "--sandbox", *flags)
            check_equal(answer.code, 2, answer.err)
            check("--sandbox goes without" in answer.err, answer.err)


main()
