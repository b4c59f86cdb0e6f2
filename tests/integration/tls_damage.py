"""A TLS stream that is cut, flipped, delayed or joined on its way, at offsets all over a handshake and a
record (all of them with --long). What a unit test does without sockets is in unit/test_tls_faults.c.
"""
import ssl

from tap import check, check_equal, is_long, main, test
from tls_peer import context, in_kernel, serve_tls, trusted
from tls_proxy import Proxy, byte_by_byte, cut_at, flipped_at, in_record_of, untouched
from world import World

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
FIRST, SECOND, THIRD = b"a" * 100, b"b" * 999, b"c" * 100
FIN_CODE, RESET_CODE = 44, 14
HANDSHAKE_CODES = {41, 42, 44, 45, 46}  # what a flipped bit means is decided by where it stands
SAMPLE = 24


def three_records(peer):
    """Each its own record; then the clean end."""
    for data in (FIRST, SECOND, THIRD):
        peer.sendall(data)
    peer.unwrap()


def offsets(size):
    """All, or some, the first and the last among them."""
    return range(size) if is_long() else sorted({i * (size - 1) // (SAMPLE - 1)
                                                 for i in range(SAMPLE)})


def through(w, edit, version, script=three_records, hold_s=0.0):
    """What `sluice cat` makes of it."""
    proxy = Proxy(w, serve_tls(w, script, context(version=version)), edit, hold_s)
    return proxy, w.run("cat", proxy.url, *trusted())


def handshake_bytes(version):
    """How many the server sends before its data, less some: lengths of signatures vary."""
    with World() as w:
        proxy, answer = through(w, untouched, version, lambda peer: None)
        check_equal(answer.code, FIN_CODE, answer.err)
        tickets = 600 if version == ssl.TLSVersion.TLSv1_3 else 0
        return proxy.bytes_seen - tickets


def one_line(answer):
    """Whatever happened: said once, with its reason."""
    said = [line for line in answer.lines() if line.startswith("sluice: ")]
    check_equal(len(said), 1, answer.err)


@test
def handshake_cut_anywhere():
    """Rows 9, 10: an end, by FIN or by RST, is no clean end, and never a wait for the deadline."""
    for version in VERSIONS:
        for at in offsets(handshake_bytes(version)):
            with World() as w:
                _, answer = through(w, cut_at(at), version)
                check_equal((answer.code, answer.out), (FIN_CODE, b""), f"FIN at {at}: {answer.err}")
                one_line(answer)
                _, answer = through(w, cut_at(at, by_reset=True), version)
                check_equal((answer.code, answer.out), (RESET_CODE, b""),
                            f"RST at {at}: {answer.err}")
                check(answer.seconds < 5, f"{at}: {answer.seconds:.1f} s")


@test
def handshake_flipped_anywhere():
    """Row 47: a handshake with a wrong bit never ends in an open connection that delivers."""
    for version in VERSIONS:
        for at in offsets(handshake_bytes(version)):
            with World() as w:
                proxy = Proxy(w, serve_tls(w, three_records, context(version=version)),
                              flipped_at(at))
                answer = w.run("cat", proxy.url, *trusted(), "--tls-timeout", "1")
                # a length that grew makes both wait for what never comes
                check(answer.code in HANDSHAKE_CODES | {43}, f"bit at {at}: {answer.err}")
                check_equal(answer.out, b"", f"bit at {at}")
                one_line(answer)


@test
def record_cut_anywhere():
    """Rows 8, 9: the records before it are delivered, and not a byte of the one that is cut."""
    for version in VERSIONS:
        for at in offsets(len(SECOND) + 21):
            for by_reset in (False, True):
                edit = in_record_of(len(SECOND), lambda n, r=by_reset: cut_at(n, r))(at)
                with World() as w:
                    _, answer = through(w, edit, version)
                    check(answer.out in (FIRST, b"") if by_reset else answer.out == FIRST,
                          f"{at} of {version}: {len(answer.out)} bytes")
                    check_equal(answer.code, RESET_CODE if by_reset else FIN_CODE, answer.err)
                    one_line(answer)


@test
def record_flipped_anywhere():
    """Row 47: authenticated or not at all."""
    for version in VERSIONS:
        for at in offsets(len(SECOND) + 21):
            with World() as w:
                edit = in_record_of(len(SECOND), flipped_at)(at)
                proxy = Proxy(w, serve_tls(w, three_records, context(version=version)), edit)
                answer = w.run("cat", proxy.url, *trusted())
                if at == 0 and version == ssl.TLSVersion.TLSv1_3 and in_kernel():
                    # the outer type says nothing in TLS 1.3, and the kernel does not look at it
                    check_equal((answer.code, answer.out), (0, FIRST + SECOND + THIRD), answer.err)
                    continue
                check_equal(answer.out, FIRST, f"{at} of {version}: {answer.err}")
                # a length that grew: the stream ends inside the record
                check(answer.code in (46, FIN_CODE), f"{at}: {answer.err}")
                one_line(answer)


@test
def bytes_one_at_a_time():
    """Row 38."""
    for version in VERSIONS:
        with World() as w:
            _, answer = through(w, byte_by_byte, version)
            check_equal((answer.code, answer.out), (0, FIRST + SECOND + THIRD), answer.err)


@test
def data_in_one_piece_with_the_handshake():
    """Row 38: what follows Finished in the same segment is data like any other."""
    for version in VERSIONS:
        with World() as w:
            _, answer = through(w, untouched, version, hold_s=0.05)
            check_equal((answer.code, answer.out), (0, FIRST + SECOND + THIRD), answer.err)


main()
