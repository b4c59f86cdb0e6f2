"""What a server may say besides data, and what it may not, record by record: made by hand, so that no
library's good manners stand between. KeyUpdates are tls_rekey.py's. The same inside the provider: unit/test_tls_control.c.
"""
import os
import time

from refusal import says
from tap import check, check_equal, main, test
from tls_peer import tls_url, trusted
from tls_seal import ALERT, DATA, HANDSHAKE, PLAIN_MAX, serve_sealed
from world import Result, World, in_thread, wait_until

STRICT = os.environ.get("TLS_PROVIDER") != "wolfssl"  # Debian's closes without an alert here and there


# The kernel passes over records without content.
USER_SPACE = ("--ktls", "off")
TICKET = bytes([4, 0, 0, 77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 64]) + bytes(64 + 2)


def met(w, *pieces, flags=(), half_closed=False):
    """`sluice cat` against a server that sends these: its answer, and how it took leave. Its stdin
    stays open, or close_notify would come before any alert.
    """
    def script(sealer):
        if half_closed:
            sealer.answer()
        for piece in pieces:
            sealer.send(piece(sealer))
        sealer.end()
        return sealer.answer()

    url, said = serve_sealed(w, script)
    cat = w.cat(url, *trusted(), *flags)
    if half_closed:
        cat.stdin.close()
    out = cat.stdout.read()
    answer = Result(cat.wait(), out, cat.err(), 0)
    return answer, wait_until(lambda: said, "the server")[0]


def data(text):
    """A record."""
    return lambda sealer: sealer.record(DATA, text)


def alert(number, level=2):
    """A record of type alert."""
    return lambda sealer: sealer.record(ALERT, bytes([level, number]))


def refused(answer, *words, out=b"before"):
    """Ended for a record that may not be; what came before it is delivered and nothing behind."""
    check_equal((answer.code, answer.out), (46, out), answer.err)
    for word in ("tls-protocol", *words):
        check(word in answer.lines()[-1], f"'{word}' in {answer.err}")


# ---- control messages ----------------------------------------------------------------------------

@test
def row_39_tickets_at_any_time():
    """Between data as well, and one in two records."""
    with World() as w:
        answer, _ = met(w, data(b"one"), lambda s: s.record(HANDSHAKE, TICKET), data(b"two"),
                        lambda s: s.record(HANDSHAKE, TICKET[:20]) + s.record(HANDSHAKE, TICKET[20:]),
                        data(b"three"), alert(0, 1))
        check_equal((answer.code, answer.out), (0, b"onetwothree"), answer.err)


@test
def row_42_a_storm_of_tickets():
    """Whether or not the engine sleeps between two of them."""
    with World() as w:
        answer, _ = met(w, data(b"before"), lambda s: b"".join(
            s.record(HANDSHAKE, TICKET) for _ in range(1000)), data(b"behind"))
        refused(answer, "flood")


@test
def row_44_a_certificate_asked_for_all_the_same():
    """We did not offer post_handshake_auth: RFC 8446 4.6.2."""
    request = bytes([13, 0, 0, 14, 1, 120, 0, 10, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4])
    with World() as w:
        answer, said = met(w, data(b"before"), lambda s: s.record(HANDSHAKE, request), data(b"behind"))
        refused(answer)
        if STRICT:
            check("UNEXPECTED_MESSAGE" in said, said)
        answer, _ = met(w, data(b"before"), lambda s: s.record(HANDSHAKE, request), data(b"behind"),
                        half_closed=True)
        refused(answer)


@test
def row_43_a_second_handshake():
    """HelloRequest, ClientHello, ServerHello, Finished behind the handshake."""
    for kind in (0, 1, 2, 20):
        with World() as w:
            message = bytes([kind, 0, 0, 32]) + bytes(32)
            answer, _ = met(w, data(b"before"), lambda s, m=message: s.record(HANDSHAKE, m),
                            data(b"behind"))
            refused(answer)


# ---- alerts --------------------------------------------------------------------------------------

@test
def row_45_alerts_have_number_and_name():
    """(alert, level, exit code, words): the level says nothing in TLS 1.3."""
    for number, level, code, *words in (
            (80, 2, 45, "tls-alert", "alert 80 (internal_error)"),
            (80, 1, 45, "tls-alert", "alert 80 (internal_error)"),
            (20, 2, 45, "tls-alert", "alert 20 (bad_record_mac)"),
            (99, 2, 45, "tls-alert", "alert 99 (unknown)"),
            (255, 2, 45, "tls-alert", "alert 255 (unknown)"),
            (116, 2, 41, "tls-handshake", "alert 116 (certificate_required)")):
        with World() as w:
            answer, _ = met(w, data(b"before"), alert(number, level), data(b"behind"))
            check_equal((answer.code, answer.out), (code, b"before"), answer.err)
            for word in words:
                check(word in answer.lines()[-1], f"'{word}' in {answer.err}")


@test
def row_45_in_the_middle_of_the_handshake():
    """An answer to our hello in the clear; the levels and the numbers that there are, and none."""
    for number, level, word in ((40, 2, "alert 40 (handshake_failure)"), (70, 2, "protocol_version"),
                                (112, 2, "unrecognized_name"), (99, 2, "alert 99 (unknown)")):
        with World() as w:
            url = tls_url(w.serve(lambda peer, n=number, lv=level: (
                peer.recv(65536), peer.sendall(bytes([ALERT, 3, 3, 0, 2, lv, n])), peer.recv(65536))))
            answer = w.run("cat", url, *trusted())
            says(answer, answer.code if answer.code in (41, 45) else 41, url, word)


@test
def row_45_alerts_that_are_none():
    """One byte, no byte, three."""
    for body in (b"\2", b"", b"\2\x50\0"):
        with World() as w:
            answer, _ = met(w, data(b"before"), lambda s, b=body: s.record(ALERT, b), data(b"behind"))
            refused(answer)


@test
def row_11_user_canceled_and_then_the_clean_end():
    """RFC 8446 6.1; what stands behind close_notify is nobody's."""
    with World() as w:
        answer, said = met(w, data(b"all"), alert(90, 1), alert(0, 1), data(b"behind"))
        check_equal((answer.code, answer.out), (0, b"all"), answer.err)
        check_equal(said, "close_notify", "our own end")


# ---- lengths -------------------------------------------------------------------------------------

@test
def row_48_a_record_of_too_much():
    """One byte of plaintext beyond the maximum, and a header that promises more than any record has."""
    for piece in (data(bytes(PLAIN_MAX + 1)),
                  lambda s: bytes([DATA, 3, 3, 0xff, 0xff]) + bytes(65535)):
        with World() as w:
            answer, said = met(w, data(b"before"), piece, data(b"behind"))
            refused(answer)
            if STRICT:
                check("RECORD_OVERFLOW" in said, said)


@test
def row_48_records_without_content():
    """Some are allowed, among data; a flood of them is an end."""
    with World() as w:
        answer, _ = met(w, data(b"one"), *[data(b"")] * 20, data(b"two"), alert(0, 1))
        check_equal((answer.code, answer.out), (0, b"onetwo"), answer.err)
        answer, _ = met(w, data(b"before"), lambda s: b"".join(s.record(DATA) for _ in range(2000)),
                        data(b"behind"), flags=USER_SPACE)
        refused(answer)


@test
def row_48_a_record_of_nothing_but_padding():
    with World() as w:
        answer, _ = met(w, data(b"before"), lambda s: s.record(0, b"", 20), data(b"behind"))
        refused(answer)


@test
def row_49_largest_and_smallest_records():
    """Back to back, in pieces that are no multiple of them; padded ones; the inbox is as small as can be."""
    def largest(s):
        return b"".join(s.record(DATA, bytes([65 + i]) * PLAIN_MAX) for i in range(40))

    def smallest(s):
        return b"".join(s.record(DATA, b"%d" % (i % 10)) for i in range(5000))

    def padded(s):
        return b"".join(s.record(DATA, b"padded", n) for n in (0, 1, 255, 16000))

    expected = (b"".join(bytes([65 + i]) * PLAIN_MAX for i in range(40)) +
                b"0123456789" * 500 + b"padded" * 4)
    with World() as w:
        answer, said = met(w, largest, smallest, padded, alert(0, 1), flags=("--inbox", "64K"))
        check_equal(answer.code, 0, answer.err)
        check(answer.out == expected, f"{len(answer.out)} bytes of {len(expected)}")
        check_equal(said, "close_notify", "our own end")


@test
def row_49_nothing_waits_for_what_comes_next():
    """Pipe and inbox fill up inside the last record, for one of these numbers: a reader that was slow
    gets all of it, though the server sends nothing any more.
    """
    def slow(w, count):
        def script(sealer):
            sealer.send(sealer.record(DATA, bytes(5000)),
                        *(sealer.record(DATA, bytes(PLAIN_MAX)) for _ in range(count)))
            return sealer.recv(1)

        url, said = serve_sealed(w, script)
        return w.cat(url, *trusted(), "--inbox", "64K"), 5000 + count * PLAIN_MAX, said

    with World() as w:
        cats = [slow(w, count) for count in range(4, 10)]
        time.sleep(0.5)  # or each would read as it comes
        for cat, size, said in cats:
            got = in_thread(cat.stdout.read, size)()
            check(got == bytes(size), f"{len(got)} bytes of {size}")
            cat.stdin.write(b"k")
            cat.stdin.flush()
            check_equal(wait_until(lambda s=said: s, "the server"), [b"k"], "what it waits for")


main()
