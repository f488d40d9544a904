"""The S3 client: what it sends and to whom, how long it waits, and what it makes of each answer.

The store here is a script that says whatever a test wants; a real one is in tests/contracts.
"""

import errno
import hashlib
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from base.errors import AssentError, RetryableError, SetupError
from collector.store.bucket import RETRIES, Bucket
from collector.store.credentials import Credentials, Identity
from collector.store.settings import StoreConfig
from tests.fakes.tls import Heard, found, head, peer

NAME = "t/objects/6f3a/frame"
CONTENT = b"sealed" * 100
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hidden-secret"}


def bucket(endpoint: str, tmp_path: Path, authority: bytes | None = None) -> Bucket:
    said = StoreConfig(kind="s3", endpoint=endpoint, bucket="sealed")
    said.check()
    return Bucket(said, Identity.INGEST, Credentials(tmp_path / "none", KEYS), authority)


def answer(status: int, code: str = "", more: str = "") -> bytes:
    """Return an answer as S3 stores give them."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>" if code else ""
    heads = f'ETag: "1"\r\nConnection: close\r\nContent-Length: {len(body)}\r\n'
    return f"HTTP/1.1 {status} X\r\n{more}{heads}\r\n{body}".encode()


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, Heard]]:
    """Run a store that gives these answers, and then the last one again and again."""
    left = list(answers)

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        length = re.search(rb"content-length: (\d+)", heard.heads[-1], re.IGNORECASE)
        want = int(length[1]) if length else 0
        while len(heard.body) < want * len(heard.heads) and (more := sock.recv(65536)):
            heard.body += more
        sock.sendall(left.pop(0) if len(left) > 1 else left[0])

    with peer(script, None) as (origin, heard):
        yield origin.replace("https", "http"), heard


def said_by(error: BaseException) -> str:
    """Return what the error says: one line that gives nothing away."""
    text = str(error)
    assert "\n" not in text
    for hidden in ("hidden-secret", "AKID", "6f3a"):
        assert hidden not in text
    return text


MENDED = [
    (403, "AccessDenied", "does not let us do that; put the policy"),
    (403, "InvalidAccessKeyId", "does not know our credentials"),
    (403, "SignatureDoesNotMatch", "does not know our credentials"),
    (403, "RequestTimeTooSkewed", "set the clock"),
    (403, "", "does not let us do that"),
    (401, "", "does not let us do that"),
    (404, "NoSuchBucket", "has no such bucket"),
    (301, "PermanentRedirect", "in another region; mend endpoint and region"),
    (301, "", "in another region"),
    (400, "AuthorizationHeaderMalformed", "in another region"),
    (501, "NotImplemented", "If-None-Match"),
]
PASSING = [
    (403, "ExpiredToken", "have run out; renew them"),
    (400, "ExpiredToken", "have run out; renew them"),
    (503, "SlowDown", "is overloaded"),
    (503, "", "is overloaded"),
    (500, "InternalError", "answers InternalError"),
    (502, "", "answers status502"),
    (418, "Teapot", "answers Teapot"),
]


@pytest.mark.parametrize(
    ("status", "code", "line", "kind"),
    [(*one, SetupError) for one in MENDED] + [(*one, RetryableError) for one in PASSING],
)
def test_what_a_store_says_becomes_one_line_of_who_can_act(
    tmp_path: Path, status: int, code: str, line: str, kind: type[AssentError]
) -> None:
    """A person has to mend it, or it passes; in either case nothing of the batch is told."""
    with answering(answer(status, code)) as (endpoint, _heard):
        store = bucket(endpoint, tmp_path)
        with pytest.raises(kind) as raised:
            store.create(NAME, CONTENT)
    assert line in said_by(raised.value)
    assert endpoint in str(raised.value)


@pytest.mark.parametrize("code", ["QuotaExceeded", "InsufficientCapacity"])
def test_a_store_without_room_is_a_full_disk(tmp_path: Path, code: str) -> None:
    """So uploads get 507, as with files."""
    with answering(answer(403, code)) as (endpoint, _heard):
        store = bucket(endpoint, tmp_path)
        with pytest.raises(OSError, match="no room for us") as raised:
            store.create(NAME, CONTENT)
    assert raised.value.errno == errno.EDQUOT
    said_by(raised.value)


@pytest.mark.parametrize("ask", ["get", "names", "remove"])
def test_all_other_calls_say_the_same(tmp_path: Path, ask: str) -> None:
    """Wherever it fails."""
    with answering(answer(503, "SlowDown")) as (endpoint, _heard):
        store = bucket(endpoint, tmp_path)
        with pytest.raises(RetryableError, match="is overloaded"):
            getattr(store, ask)(NAME)


def test_an_overloaded_store_is_asked_again_a_few_times(tmp_path: Path) -> None:
    """Bounded: the device waits, and comes again itself."""
    with answering(answer(503, "SlowDown")) as (endpoint, heard):
        store = bucket(endpoint, tmp_path)
        with pytest.raises(RetryableError):
            store.create(NAME, CONTENT)
    assert len(heard.heads) == 1 + RETRIES
    with answering(answer(503, "SlowDown"), answer(200)) as (endpoint, heard):
        assert bucket(endpoint, tmp_path).create(NAME, CONTENT).new
    assert len(heard.heads) == 2


def test_what_was_stored_and_whose_answer_was_lost_is_there(tmp_path: Path) -> None:
    """The second try is told that there is one of that name: true, and no failure."""
    with answering(b"", answer(412, "PreconditionFailed")) as (endpoint, _heard):
        assert not bucket(endpoint, tmp_path).create(NAME, CONTENT).new


def test_a_store_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is bounded as a whole, whatever trickles in."""
    monkeypatch.setattr("collector.store.bucket.REQUEST_SECONDS", 0.3)
    monkeypatch.setattr("collector.store.bucket.RETRY_SECONDS", 0.1)

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        for letter in b"HTTP/1.1 200":
            sock.sendall(bytes([letter]))
            time.sleep(0.1)

    with peer(script, None) as (origin, _heard):
        store = bucket(origin.replace("https", "http"), tmp_path)
        for ask in (lambda: store.create(NAME, CONTENT), lambda: store.get(NAME)):
            with pytest.raises(RetryableError, match="cannot be reached"):
                ask()


def test_a_store_that_is_away_is_tried_again_later(tmp_path: Path) -> None:
    """Nobody listens there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = bucket(f"http://127.0.0.1:{unused.getsockname()[1]}", tmp_path)
        with pytest.raises(RetryableError) as raised:
            store.create(NAME, CONTENT)
    assert "cannot be reached; it is tried again later" in said_by(raised.value)


# --- to whom ----------------------------------------------------------------------------------


def test_each_object_is_created_and_signed_for_by_its_content(tmp_path: Path) -> None:
    """`If-None-Match: *`, and a signature over the SHA-256 of the bytes, which the store checks."""
    with answering(answer(200)) as (endpoint, heard):
        bucket(endpoint, tmp_path).create(NAME, CONTENT)
    [asked] = heard.heads
    lines = asked.decode().lower().split("\r\n")
    assert lines[0] == f"put /sealed/{NAME} http/1.1"
    assert "if-none-match: *" in lines
    assert f"x-amz-content-sha256: {hashlib.sha256(CONTENT).hexdigest()}" in lines
    assert "authorization: aws4-hmac-sha256 credential=akid/" in asked.decode().lower()
    assert "hidden-secret" not in asked.decode()
    assert bytes(heard.body) == CONTENT


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_store_that_sends_elsewhere_is_not_followed(tmp_path: Path, status: int) -> None:
    """No byte of a batch goes where the configuration does not say."""
    with answering(answer(200)) as (other, elsewhere):
        to = f"Location: {other}/sealed/{NAME}\r\n"
        with answering(answer(status, "", to)) as (endpoint, _heard):
            store = bucket(endpoint, tmp_path)
            with pytest.raises((SetupError, RetryableError)):
                store.create(NAME, CONTENT)
    assert elsewhere.heads == []


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
        *("HTTP_PROXY", "http_proxy", "ALL_PROXY"),
    ],
)
def test_nothing_in_the_environment_sends_a_batch_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The S3 client would read it."""
    with answering(answer(200)) as (other, elsewhere), answering(answer(200)) as (endpoint, heard):
        monkeypatch.setenv(name, other)
        bucket(endpoint, tmp_path).create(NAME, CONTENT)
    assert (len(heard.heads), elsewhere.heads) == (1, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_UNSIGNED_PAYLOAD", "true"),
        ("AWS_ACCESS_KEY_ID", "OTHER"),
        ("AWS_BUCKET", "other"),
        ("AWS_CONDITIONAL_PUT", "disabled"),
    ],
)
def test_nothing_in_the_environment_takes_the_signature_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Nor the condition, nor the bucket."""
    monkeypatch.setenv(name, value)
    with answering(answer(200)) as (endpoint, heard):
        bucket(endpoint, tmp_path).create(NAME, CONTENT)
    text = heard.heads[0].decode().lower()
    assert "credential=akid/" in text
    assert hashlib.sha256(CONTENT).hexdigest() in text
    assert "if-none-match: *" in text
    assert text.startswith("put /sealed/")


# --- TLS ----------------------------------------------------------------------------------------


def test_a_certificate_of_nobody_known_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Self-signed; and no variable lets it through."""
    for name in ("AWS_ALLOW_INVALID_CERTIFICATES", "ALLOW_INVALID_CERTIFICATES", "AWS_ALLOW_HTTP"):
        monkeypatch.setenv(name, "true")
    house = found(tmp_path / "house")
    with peer(head, house) as (origin, heard):
        store = bucket(origin, tmp_path)
        with pytest.raises(SetupError) as raised:
            store.create(NAME, CONTENT)
    assert "has a certificate of nobody known; name its authority" in said_by(raised.value)
    assert heard.heads == []


def test_a_private_authority_is_named_in_a_file(tmp_path: Path) -> None:
    """Then its certificates count; for the name that they are for, and no other."""

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(answer(200))

    house = found(tmp_path / "house")
    with peer(script, house) as (origin, _heard):
        assert bucket(origin, tmp_path, house.authority.pem).create(NAME, b"").new
    wrong = found(tmp_path / "wrong", hosts=("store.example",))
    with peer(script, wrong) as (origin, heard):
        store = bucket(origin, tmp_path, wrong.authority.pem)
        with pytest.raises(SetupError, match="a certificate that is not valid for it"):
            store.create(NAME, CONTENT)
    assert heard.heads == []


def test_an_authority_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    """Before anything is asked."""
    with pytest.raises(SetupError, match="is not usable"):
        bucket("https://127.0.0.1:1", tmp_path, b"nonsense")


def test_a_place_that_does_not_speak_tls_is_said(tmp_path: Path) -> None:
    """As when http is meant."""

    def script(sock: socket.socket, _heard: Heard) -> None:
        sock.recv(65536)
        sock.sendall(answer(400))

    with peer(script, None) as (origin, _heard):
        store = bucket(origin, tmp_path)
        with pytest.raises(SetupError, match="does not speak TLS there"):
            store.create(NAME, CONTENT)
