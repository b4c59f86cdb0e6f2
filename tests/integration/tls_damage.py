"""A TLS stream that is cut, flipped, delayed or joined on its way, at offsets all over a handshake and a
record. Every single one is in unit/test_tls_faults.c, without sockets.
"""
import ssl

from refusal import says
from tap import check, check_equal, is_long, main, test
from tls_peer import context, in_kernel, serve_tls, trusted
from tls_proxy import (Proxy, byte_by_byte, cut_at, dripping, flipped_at, held_at, in_record_of,
                        untouched)
from world import LIMIT_S, World, is_sanitized

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
FIRST, SECOND, THIRD = b"a" * 100, b"b" * 999, b"c" * 100
RECORD_BYTES = dict(zip(VERSIONS, (5 + 8 + len(SECOND) + 16, 5 + len(SECOND) + 1 + 16)))  # AES-GCM
CLOSE_NOTIFY_BYTES = dict(zip(VERSIONS, (5 + 8 + 2 + 16, 5 + 2 + 1 + 16)))
ALL = FIRST + SECOND + THIRD
FIN_CODE, RESET_CODE = 44, 14
HANDSHAKE_CODES = {41, 42, 44, 45, 46}  # what a flipped bit means is decided by where it stands
SAMPLE = 24
SIGNATURE_VARIES = 6  # DER of ECDSA with P-256: 66 to 72 bytes, nearly always


def three_records(peer):
    """Each its own record; then the clean end."""
    for data in (FIRST, SECOND, THIRD):
        peer.sendall(data)
    peer.unwrap()


def offsets(size):
    """Spread over it, the first and the last among them; four times as many with --long."""
    count = min(size, SAMPLE * 2 if is_long() else SAMPLE // 2 if is_sanitized() else SAMPLE)
    return sorted({i * (size - 1) // (count - 1) for i in range(count)})


def through(w, edit, version, script=three_records, hold_s=0.0, flags=(), up=None):
    """What `sluice cat` makes of it."""
    ctx = context(version=version)
    ctx.num_tickets = 0  # they would be neither handshake nor data
    proxy = Proxy(w, serve_tls(w, script, ctx), edit, hold_s, up)
    return proxy, w.run("cat", proxy.url, *trusted(), *flags)


def handshake_bytes(version):
    """How many the server sends before its data, less what the length of a signature varies."""
    with World() as w:
        proxy, answer = through(w, untouched, version, lambda peer: None)
        check_equal(answer.code, FIN_CODE, answer.err)
        return proxy.bytes_seen - SIGNATURE_VARIES


def one_line(answer):
    """Whatever happened: said once, with its reason."""
    said = [line for line in answer.lines() if line.startswith("sluice: ")]
    check_equal(len(said), 1, answer.err)


@test
def rows_9_10_handshake_cut_anywhere():
    """An end, by FIN or by RST, is no clean end, and never a wait for the deadline."""
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
def row_47_handshake_flipped_anywhere():
    """A handshake with a wrong bit never ends in an open connection that delivers."""
    for version in VERSIONS:
        for at in offsets(handshake_bytes(version)):
            with World() as w:
                proxy, answer = through(w, flipped_at(at), version, flags=("--tls-timeout", "1"))
                if at in proxy.unguarded and answer.code == 0:
                    check_equal(answer.out, ALL, "nobody noticed, nothing changed")
                    continue
                # a length that grew makes both wait for what never comes
                check(answer.code in HANDSHAKE_CODES | {43}, f"bit at {at}: {answer.err}")
                check_equal(answer.out, b"", f"bit at {at}")
                one_line(answer)


@test
def row_47_our_own_handshake_flipped_anywhere():
    """The server gives up: its alert or its end is said, and nothing was delivered."""
    for version in VERSIONS:
        with World() as w:
            proxy, _ = through(w, untouched, version)
            check(proxy.up_ended.wait(LIMIT_S), "the end of what the engine sends")
            size = proxy.bytes_up - CLOSE_NOTIFY_BYTES[version]
        for at in offsets(size):
            with World() as w:
                proxy, answer = through(w, untouched, version, flags=("--tls-timeout", "1"),
                                        up=flipped_at(at))
                if at in proxy.unguarded_up and answer.code == 0:
                    check_equal(answer.out, ALL, "nobody noticed, nothing changed")
                    continue
                check(answer.code in HANDSHAKE_CODES | {43, RESET_CODE}, f"bit at {at}: {answer.err}")
                check_equal(answer.out, b"", f"bit at {at}")
                one_line(answer)


@test
def row_37_handshake_held_anywhere():
    """Its own deadline, wherever it stands: not connect's, and bytes that drip do not move it."""
    for version in VERSIONS:
        for edit in (*map(held_at, (0, 1, 5, 100, handshake_bytes(version) - 1)), dripping):
            with World() as w:
                proxy, answer = through(w, edit, version, flags=("--tls-timeout", "0.3"))
                says(answer, 43, proxy.url, "tls-timed-out", "--tls-timeout", limit_s=2)
                check_equal(answer.out, b"", "nothing was open")


@test
def rows_8_9_record_cut_anywhere():
    """The records before it are delivered, and not a byte of the one that is cut."""
    for version in VERSIONS:
        for at in offsets(RECORD_BYTES[version]):
            for by_reset in (False, True):
                edit = in_record_of(len(SECOND), lambda n, r=by_reset: cut_at(n, r))(at)
                with World() as w:
                    _, answer = through(w, edit, version)
                    check(answer.out in (FIRST, b"") if by_reset else answer.out == FIRST,
                          f"{at} of {version}: {len(answer.out)} bytes")
                    check_equal(answer.code, RESET_CODE if by_reset else FIN_CODE, answer.err)
                    one_line(answer)


@test
def row_47_record_flipped_anywhere():
    """Authenticated or not at all."""
    for version in VERSIONS:
        for at in offsets(RECORD_BYTES[version]):
            with World() as w:
                _, answer = through(w, in_record_of(len(SECOND), flipped_at)(at), version)
                if at == 0 and version == ssl.TLSVersion.TLSv1_3 and in_kernel():
                    # the outer type says nothing in TLS 1.3, and the kernel does not look at it
                    check_equal((answer.code, answer.out), (0, FIRST + SECOND + THIRD), answer.err)
                    continue
                check_equal(answer.out, FIRST, f"{at} of {version}: {answer.err}")
                # a length that grew: the stream ends inside the record
                check(answer.code in (46, FIN_CODE), f"{at}: {answer.err}")
                one_line(answer)


@test
def row_38_bytes_one_at_a_time():
    for version in VERSIONS:
        with World() as w:
            _, answer = through(w, byte_by_byte, version)
            check_equal((answer.code, answer.out), (0, ALL), answer.err)


@test
def row_38_data_in_one_piece_with_the_handshake():
    """What follows Finished in the same segment is data like any other."""
    for version in VERSIONS:
        with World() as w:
            _, answer = through(w, untouched, version, hold_s=0.05)
            check_equal((answer.code, answer.out), (0, ALL), answer.err)


main()
