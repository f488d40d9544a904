"""The log: one tree over all leaves, whoever wrote them, and never a second history."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete

from base.errors import SetupError
from collector import log as log_module
from collector.index import Index
from collector.index.tables import checkpoints, leaves, salts
from collector.log import Log, append
from tests.conftest import NewPlace
from tests.fakes.indexes import Place
from wire.collector_http import verify_logged
from wire.ids import WallInstant
from wire.leaf import Kind
from wire.tile import Tile, parse_tile_name, verified_entries
from wire.tlog import verify_checkpoint, verify_consistency

AT = WallInstant(1)
NAME = "log.example/acme"


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def place(tmp_path: Path, new_place: NewPlace) -> Place:
    return new_place(tmp_path)


@pytest.fixture
def index(place: Place) -> Iterator[Index]:
    with closing(place.open()) as opened:
        yield opened


@pytest.fixture
def log(index: Index, key: Ed25519PrivateKey) -> Log:
    return Log(index, key, NAME)


def add(index: Index, *payloads: bytes) -> list[int]:
    with index.writing() as connection:
        return [append(connection, Kind.BATCH, payload, AT) for payload in payloads]


def test_every_leaf_has_a_proof_from_the_moment_it_is_committed(index: Index, log: Log) -> None:
    """And it stays the same proof when the log grows."""
    early = {}
    for n in range(20):
        (number,) = add(index, b"%d" % n)
        with index.reading() as connection:
            early[number] = log.logged(log.leaf(connection, number))
    for number, logged in early.items():
        verify_logged(logged, Kind.BATCH, b"%d" % number, log.verifier_key)
        with index.reading() as connection:
            assert log.logged(log.leaf(connection, number)) == logged


def test_the_tiles_hold_the_whole_log(index: Index, log: Log) -> None:
    """Full and partial, of entries and of hashes; a tile that is not there yet is none."""
    add(index, *(b"%d" % n for n in range(300)))
    head = verify_checkpoint(log.checkpoint(), log.verifier_key)
    with index.reading() as connection:
        stored = [log.leaf(connection, number).entry for number in range(300)]
    assert verified_entries(head, lambda name: log.tile(parse_tile_name(name))) == stored
    assert (
        log.tile(Tile(level=0, index=1, width=10))
        == log.tile(parse_tile_name("tile/0/001.p/44"))[:320]
    )
    for absent in (
        "tile/0/001",
        "tile/0/001.p/45",
        "tile/entries/001.p/45",
        "tile/1/000.p/2",
        "tile/5/000",
    ):
        with pytest.raises(ValueError, match=r"the (log|tree)"):
            log.tile(parse_tile_name(absent))


def test_a_leaf_that_was_rolled_back_never_was(index: Index, log: Log) -> None:
    """What is not committed is in no tree and no checkpoint."""
    add(index, b"one")
    before = log.checkpoint()

    def rolled_back() -> None:
        with index.writing() as connection:
            append(connection, Kind.BATCH, b"two", AT)
            assert log.checkpoint() == before
            raise InterruptedError

    with pytest.raises(InterruptedError):
        rolled_back()
    assert log.checkpoint() == before
    assert add(index, b"three") == [1]


def test_leaves_of_another_process_are_taken_up(index: Index, log: Log, place: Place) -> None:
    """The command line writes halts and policies beside the running server."""
    add(index, b"one")
    assert verify_checkpoint(log.checkpoint(), log.verifier_key).size == 1
    other = place.open()
    add(other, b"two")
    other.close()
    assert verify_checkpoint(log.checkpoint(), log.verifier_key).size == 2


def test_a_restart_continues_the_same_log(
    index: Index, log: Log, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree is rebuilt from the leaves, in chunks; the note is the same to the byte."""
    add(index, *(b"%d" % n for n in range(25)))
    note = log.checkpoint()
    monkeypatch.setattr(log_module, "_CHUNK", 10)
    assert Log(index, key, NAME).checkpoint() == note


def test_each_size_is_consistent_with_every_later_one(index: Index, log: Log) -> None:
    """What agents and the witness check."""
    add(index, *(b"%d" % n for n in range(9)))
    heads = [verify_checkpoint(log.checkpoint(size), log.verifier_key) for size in range(1, 10)]
    for old in heads:
        for new in heads[old.size - 1 :]:
            verify_consistency(
                old=old.size,
                new=new.size,
                proof=log.consistency(old.size, new.size),
                old_root=old.root,
                new_root=new.root,
            )


def test_an_erased_salt_makes_no_proof_and_changes_no_root(index: Index, log: Log) -> None:
    """The commitment stays, what it was about is gone."""
    add(index, b"one", b"two")
    note = log.checkpoint()
    with index.writing() as connection:
        connection.execute(delete(salts).where(salts.c.leaf == 0))
    with index.reading() as connection, pytest.raises(ValueError, match="erased"):
        log.logged(log.leaf(connection, 0))
    assert log.checkpoint() == note


def test_an_index_from_an_old_backup_does_not_start_a_second_history(
    index: Index, log: Log, key: Ed25519PrivateKey, place: Place
) -> None:
    """What a witness cosigned has to be there: shorter or different is refused."""
    add(index, b"one")
    index.close()
    backup = place.copy()
    add(index, b"two")
    note = log.checkpoint()
    old = backup.open()
    with old.writing() as connection:
        connection.execute(
            checkpoints.insert().values(
                size=2, note=note, witnessed_at=1, last_note=note, last_at=AT
            )
        )
    with pytest.raises(SetupError, match="restore the newest copy"):
        Log(old, key, NAME)
    add(old, b"another")
    with pytest.raises(SetupError, match="restore the newest copy"):
        Log(old, key, NAME)
    old.close()


def test_a_missing_leaf_is_noticed(index: Index, key: Ed25519PrivateKey) -> None:
    """A damaged index is not served."""
    add(index, b"one", b"two", b"three")
    with index.writing() as connection:
        connection.execute(delete(salts))
        connection.execute(delete(leaves).where(leaves.c.number == 1))
    with pytest.raises(SetupError, match="leaf 1 of the log is missing"):
        Log(index, key, NAME)


def test_many_threads_append_and_prove_at_once(index: Index, log: Log) -> None:
    """Numbers are given once, and every proof holds."""
    numbers: list[int] = []

    def work(start: int) -> None:
        for n in range(10):
            payload = b"%d" % (start + n)
            (number,) = add(index, payload)
            numbers.append(number)
            with index.reading() as connection:
                logged = log.logged(log.leaf(connection, number))
            verify_logged(logged, Kind.BATCH, payload, log.verifier_key)

    threads = [threading.Thread(target=work, args=(n * 100,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(40))
