"""The guard over real TLS: who may ask what, and what they are told."""

import base64
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from base.door import ClientRefusedError
from base.https import OneDoor
from base.pki import Role
from base.places import SHARE
from guard.app import LARGE_AT_ONCE, LARGEST_BODY_BYTES
from guard.halt import Halts
from guard.release import Refusal, release
from tests.fakes.organisation import (
    MONTH,
    NOW,
    READER,
    Organisation,
    PolicyFolder,
    raw,
    wall,
)
from tests.fakes.served import ServedGuard, StoppedClock, found_guard, serve_guard, utc
from wire.category import Category
from wire.errors import ForgedError
from wire.frame import core_hash, split
from wire.guard_http import (
    KeyAnswer,
    KeyRequest,
    ReleaseAnswers,
    ReleaseRequest,
    verify_key,
)
from wire.opening import open_body, open_released
from wire.tlog import leaf_hash, verify_cosignature

ACME = Organisation()


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGuard]:
    with serve_guard(found_guard(tmp_path_factory.mktemp("guard"), ACME)) as served:
        yield served


@pytest.fixture(scope="module")
def published(guard: ServedGuard, tmp_path_factory: pytest.TempPathFactory) -> PolicyFolder:
    folder = ACME.publish(tmp_path_factory.mktemp("policy"))
    guard.trust(folder)
    return folder


@pytest.fixture
def collector(guard: ServedGuard, published: PolicyFolder) -> Iterator[OneDoor]:
    door = guard.door(Role.COLLECTOR, "main")
    yield door
    door.close()


@pytest.fixture
def reader(guard: ServedGuard, published: PolicyFolder) -> Iterator[OneDoor]:
    door = guard.door(Role.READER, READER)
    yield door
    door.close()


def key_request(**changes: object) -> KeyRequest:
    request = KeyRequest(subject=ACME.subject, category=Category.KEYS, month=MONTH)
    return msgspec.structs.replace(request, **changes)


def post(door: OneDoor, path: str, message: object) -> tuple[int, dict[str, object]]:
    answer = door.request("POST", path, msgspec.json.encode(message))
    return answer.status, json.loads(answer.body)


def cosign_log(door: OneDoor, old: int) -> str:
    """Have the log's present head cosigned; return the note with the cosignature."""
    note = ACME.checkpoint()
    proof = ACME.tree.consistency(old, ACME.tree.size) if old else ()
    lines = "".join(f"{base64.b64encode(step).decode()}\n" for step in proof)
    answer = door.request("POST", "/add-checkpoint", f"old {old}\n{lines}\n{note}".encode())
    if answer.status == 409:
        assert answer.headers["content-type"].startswith("text/x.tlog.size")
        assert int(answer.body) != old
        return cosign_log(door, int(answer.body))
    assert answer.status == 200, answer.body
    return note + answer.body.decode()


def test_the_whole_way_of_a_release(
    guard: ServedGuard, published: PolicyFolder, collector: OneDoor, reader: OneDoor
) -> None:
    """Key, seal, log, cosign, release, open: over three connections, as in production."""
    answer = collector.request("POST", "/v1/keys", msgspec.json.encode(key_request()))
    key = msgspec.json.decode(answer.body, type=KeyAnswer)
    policy = ACME.policy()
    public = verify_key(key, key_request(), policy.guard.signing_key)

    keys = guard.premises.keys()
    found = keys.find(ACME.subject, Category.KEYS, MONTH)
    keys.close()
    ACME.guard_seed = found.seed  # type: ignore[union-attr]  # found, as it was just made
    sealed = ACME.seal(published.digest)
    assert public not in sealed.frame
    grant = ACME.grant()
    batch = ACME.log_release(sealed, grant, ACME.recipient)
    note = cosign_log(guard.door(None), 0)
    assert verify_cosignature(note, ACME.witness_key) == int(NOW.timestamp())

    asked = ReleaseRequest(grant=grant, checkpoint=note, batches=(batch,))
    told = reader.request("POST", "/v1/release", msgspec.json.encode(asked))
    assert told.status == 200
    (one,) = msgspec.json.decode(told.body, type=ReleaseAnswers).batches
    assert one.refused is None
    assert one.released is not None
    digest = core_hash(split(sealed.frame).core)
    header = open_released(one.released, ACME.identity, digest)
    assert open_body(header, split(sealed.frame).body, ACME.identity, digest)

    other = guard.door(Role.READER, "other-team")
    assert post(other, "/v1/release", asked)[1]["refused"] == "wrong-reader"


def test_a_refused_request_says_why_in_a_name_and_a_line(
    guard: ServedGuard, reader: OneDoor
) -> None:
    """403 with `refused` and `error`, for scripts and for people."""
    asked = ReleaseRequest(grant=ACME.grant(approvers=("Ada",)), checkpoint="", batches=())
    status, body = post(reader, "/v1/release", asked)
    assert status == 403
    assert body == {
        "refused": "grant-refused",
        "error": "1 of 2 approvals, one a party; ask the other parties' approvers",
    }


def test_a_stop_that_is_called_meanwhile_holds_for_a_release_too(
    guard: ServedGuard, reader: OneDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the release takes, nothing leaves after a halt or stop."""
    halts = Halts(guard.premises.halt_file)

    def slow(*asked: Any, **how: Any) -> Any:  # noqa: ANN401 - passed on as it is
        assert halts.stop("enough", wall(NOW))
        return release(*asked, **how)

    monkeypatch.setattr("guard.app.release", slow)
    asked = ReleaseRequest(grant=ACME.grant(), checkpoint="", batches=())
    try:
        status, body = post(reader, "/v1/release", asked)
    finally:
        assert halts.go_on()
    assert (status, "enough" in str(body["error"])) == (503, True)


def test_a_reader_does_not_fill_the_guard_s_memory_with_bodies_that_do_not_end(
    guard: ServedGuard, reader: OneDoor
) -> None:
    """Two of its bodies are read at a time; other readers are answered meanwhile."""
    files = guard.certified(Role.READER, "greedy")
    with ThreadPoolExecutor(8) as threads, contextlib.ExitStack() as open_until_the_end:
        sockets = [open_until_the_end.enter_context(opened(guard, files)) for _ in range(8)]
        taken = list(threads.map(all_of_a_body_but_its_end, sockets))
        assert taken.count(True) <= LARGE_AT_ONCE // SHARE
        assert post(reader, "/v1/release", {})[0] == 400


@contextlib.contextmanager
def opened(guard: ServedGuard, files: tuple[Path, Path]) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cadata=guard.premises.card().ca_pem)
    context.load_cert_chain(*files)
    port = int(guard.origin.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=3) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
            yield connection


def all_of_a_body_but_its_end(connection: ssl.SSLSocket) -> bool:
    """Return whether the guard has read so much."""
    head = f"POST /v1/release HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGEST_BODY_BYTES}\r\n\r\n"
    try:
        connection.sendall(head.encode())
        for _ in range((LARGEST_BODY_BYTES >> 20) - 1):
            connection.sendall(bytes(1 << 20))
    except TimeoutError:
        return False
    return True


def test_a_name_of_several_lines_is_refused_in_one(guard: ServedGuard, reader: OneDoor) -> None:
    """What a request says may not add lines to what the guard says."""
    grant = ACME.grant(approvers=("Ada",))
    forged = msgspec.structs.replace(grant.approvals[0], approver="Eve\n500 OK\n")
    grant = msgspec.structs.replace(grant, approvals=(forged,))
    _, body = post(reader, "/v1/release", ReleaseRequest(grant=grant, checkpoint="", batches=()))
    assert body["error"] == "Eve 500 OK is not an approver of this policy"


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/release"])
def test_nobody_without_a_certificate_gets_an_answer(guard: ServedGuard, path: str) -> None:
    """401; the witness is the only path that needs none."""
    assert post(guard.door(None), path, {})[0] == 401


@pytest.mark.parametrize(
    ("role", "path"), [(Role.READER, "/v1/keys"), (Role.COLLECTOR, "/v1/release")]
)
def test_a_role_reaches_its_own_path_only(guard: ServedGuard, role: Role, path: str) -> None:
    """A reader gets no keys, a collector no releases."""
    assert post(guard.door(role, "x"), path, {})[0] == 403


def test_a_device_and_another_tenant_reach_nothing(guard: ServedGuard) -> None:
    """Even with a certificate that this guard once issued."""
    for door in (
        guard.door(Role.DEVICE, "d"),
        guard.door(Role.COLLECTOR, "main", tenant="other"),
        guard.door(Role.READER, READER, tenant="other"),
    ):
        for path in ("/v1/keys", "/v1/release"):
            assert post(door, path, {})[0] == 403


@pytest.mark.parametrize(
    ("role", "path", "before"),
    [(Role.COLLECTOR, "/v1/state", 200), (Role.READER, "/v1/release", 503)],
)
def test_a_certificate_that_ends_while_its_connection_is_open_opens_nothing_more(
    tmp_path: Path, role: Role, path: str, before: int
) -> None:
    """TLS asks at the beginning alone, and a collector's connection stays open for months."""
    clock = StoppedClock(datetime.now(UTC))
    with serve_guard(found_guard(tmp_path / "guard", Organisation()), clock) as served:
        files = served.certified(role, "main", days=1 / 24)
        context = ssl.create_default_context(cadata=served.premises.card().ca_pem)
        context.load_cert_chain(*files)
        port = int(served.origin.rpartition(":")[2])
        body = msgspec.json.encode(ReleaseRequest(grant=ACME.grant(), checkpoint="", batches=()))
        asked = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        with contextlib.closing(asked):

            def answered() -> tuple[int, bytes]:
                asked.request("POST", path, body)
                answer = asked.getresponse()
                return answer.status, answer.read()

            assert answered()[0] == before
            kept = asked.sock
            clock.at += timedelta(minutes=59)
            assert answered()[0] == before
            clock.at += timedelta(minutes=2)
            status, said = answered()
            assert (status, b"has expired" in said) == (401, True)
            assert asked.sock is kept


def test_a_certificate_of_somebody_else_is_refused(guard: ServedGuard, tmp_path: Path) -> None:
    """Another authority's certificate ends the connection."""
    stranger = Organisation()
    with serve_guard(found_guard(tmp_path / "other", stranger)) as other:
        theirs = other.door(Role.COLLECTOR, "main")
        files = other.premises.paths.runtime
        card = guard.premises.card()
        door = OneDoor(
            guard.origin,
            (card.tls_pin,),
            card.ca_pem,
            files / "collector-main.pem",
            files / "collector-main.key",
        )
        with pytest.raises(ClientRefusedError):
            door.request("POST", "/v1/keys", b"{}")
        theirs.close()


def test_a_key_is_signed_for_its_request_and_for_no_other(collector: OneDoor) -> None:
    """Whoever passes it on cannot pass it off for another subject, category or month."""
    body = collector.request("POST", "/v1/keys", msgspec.json.encode(key_request())).body
    key = msgspec.json.decode(body, type=KeyAnswer)
    signing_key = base64.b64encode(raw(ACME.guard)).decode()
    verify_key(key, key_request(), signing_key)
    for other in (
        key_request(subject=bytes(16)),
        key_request(category=Category.SCREEN),
        key_request(month="2027-04"),
    ):
        with pytest.raises(ForgedError):
            verify_key(key, other, signing_key)


def test_malformed_requests_are_told_apart(collector: OneDoor, guard: ServedGuard) -> None:
    """400 for the form, 422 for the season, 404 for the path, 413 for the size."""
    assert post(collector, "/v1/keys", key_request(subject=b"short"))[0] == 400
    assert post(collector, "/v1/keys", {"subject": "", "category": "smell", "month": ""})[0] == 400
    assert post(collector, "/v1/keys", {"surprise": 1})[0] == 400
    assert post(collector, "/v1/keys", key_request(month="2027-13"))[0] == 400
    assert post(collector, "/v1/keys", key_request(month="2028-03"))[0] == 422
    assert post(collector, "/v1/key", {})[0] == 404
    assert collector.request("GET", "/v1/keys").status == 404
    assert collector.request("POST", "/v1/keys", b"x" * (65 << 10)).status == 413
    assert guard.door(None).request("POST", "/add-checkpoint", b"old").status == 400


def test_the_witness_answers_as_tlog_witness_asks(guard: ServedGuard, collector: OneDoor) -> None:
    """403, 404, 409 with a size, 422: the statuses of C2SP."""
    nobody = guard.door(None)
    ACME.tree.append(leaf_hash(b"one"))
    cosign_log(nobody, 0)
    size = ACME.tree.size

    def status(old: int, note: str) -> int:
        return nobody.request("POST", "/add-checkpoint", f"old {old}\n\n{note}".encode()).status

    assert status(size, ACME.checkpoint(key=Organisation().log)) == 403
    assert status(0, "another.example/log\n1\nAAAA\n\n\u2014 x AAAA\n") == 404
    assert status(size + 1, ACME.checkpoint()) == 400
    assert status(0, ACME.checkpoint()) == 409
    ACME.tree.append(leaf_hash(b"two"))
    assert status(size, ACME.checkpoint()) == 422


def test_an_erased_key_is_gone_for_the_running_guard_too(
    guard: ServedGuard, collector: OneDoor
) -> None:
    """`forget` runs beside the server, which answers 410 from then on."""
    request = key_request(subject=b"e" * 16)
    assert post(collector, "/v1/keys", request)[0] == 200
    keys = guard.premises.keys()
    keys.forget(b"e" * 16, None, None, 0)  # type: ignore[arg-type]  # plain values are enough here
    keys.close()
    assert post(collector, "/v1/keys", request)[0] == 410


def test_a_guard_without_a_policy_does_nothing(tmp_path: Path) -> None:
    """503 until a person has installed one."""
    acme = Organisation()
    with serve_guard(found_guard(tmp_path / "new", acme)) as fresh:
        assert post(fresh.door(Role.COLLECTOR, "main"), "/v1/keys", key_request())[0] == 503
        acme.tree.append(leaf_hash(b"x"))
        body = f"old 0\n\n{acme.checkpoint()}".encode()
        answer = fresh.door(None).request("POST", "/add-checkpoint", body)
        assert (answer.status, answer.retry_after_seconds) == (503, 60.0)


def test_a_key_for_what_the_policy_does_not_ask_for_is_refused(tmp_path: Path) -> None:
    """No key, no batch: the guard keeps to the policy by itself."""
    acme = Organisation()
    with serve_guard(found_guard(tmp_path / "g", acme)) as narrow:
        keys_only = acme.policy().categories[:1]
        narrow.trust(acme.publish(tmp_path / "p", acme.policy(categories=keys_only)))
        door = narrow.door(Role.COLLECTOR, "main")
        assert post(door, "/v1/keys", key_request())[0] == 200
        assert post(door, "/v1/keys", key_request(category=Category.SCREEN))[0] == 403


def test_an_expired_policy_hands_out_no_key_but_lets_the_log_grow(
    guard: ServedGuard, collector: OneDoor
) -> None:
    """Nothing new is sealed under it; the entries of its end can still be witnessed."""
    guard.clock.at = utc(2027, 7, 1)
    try:
        assert post(collector, "/v1/keys", key_request(month="2027-07"))[0] == 503
        ACME.tree.append(leaf_hash(b"deletion"))
        assert cosign_log(guard.door(None), 0)
    finally:
        guard.clock.at = NOW


def test_the_clock_of_the_guard_decides_on_months(guard: ServedGuard, collector: OneDoor) -> None:
    """Not the device's, and not the collector's."""
    guard.clock.at = utc(2027, 4, 2)
    try:
        assert post(collector, "/v1/keys", key_request(month="2027-05"))[0] == 200
    finally:
        guard.clock.at = NOW


def test_the_specification_names_every_refusal() -> None:
    """docs/spec/guard-http-v1.md lists each name that a reader can be told."""
    page = (Path(__file__).parents[2] / "docs/spec/guard-http-v1.md").read_text()
    for refusal in Refusal:
        assert f"`{refusal}`" in page, refusal
