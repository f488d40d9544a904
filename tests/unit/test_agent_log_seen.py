"""A log that goes back, forks or shows different things to different people is found out."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.log_seen import LATE_SECONDS, SPLIT, UNSEEN, UNWITNESSED, LogSeen, SplitError
from base.clock import NANOSECONDS
from base.errors import AssentError, RejectedError, RetryableError
from base.stored import NewerError
from tests.fakes.organisation import WITNESS_NAME, ed25519, raw
from wire.errors import ForgedError
from wire.tlog import (
    ALGORITHM_COSIGNATURE,
    ALGORITHM_ED25519,
    Checkpoint,
    Tree,
    cosign,
    leaf_hash,
    sign_checkpoint,
    verifier_key,
)

NAME = "log.example/acme"
NOW = 1_900_000_000 * NANOSECONDS
LEASE_SECONDS = 3600


def history(size: int, *, forked_at: int | None = None) -> Tree:
    """Return a log of so many leaves, of which one may be another."""
    leaves = [b"%d" % number for number in range(size)]
    if forked_at is not None:
        leaves[forked_at] = b"another"
    return Tree(map(leaf_hash, leaves))


@dataclass
class ALog:
    """A log with its key and its witness; whatever tree it is told to have, it signs."""

    tree: Tree = field(default_factory=lambda: history(100))
    key: Ed25519PrivateKey = field(default_factory=ed25519)
    witness: Ed25519PrivateKey = field(default_factory=ed25519)
    fails: AssentError | None = None

    @property
    def verifier(self) -> str:
        return verifier_key(NAME, ALGORITHM_ED25519, raw(self.key))

    @property
    def keys(self) -> tuple[str, str]:
        return self.verifier, verifier_key(WITNESS_NAME, ALGORITHM_COSIGNATURE, raw(self.witness))

    def head(self, size: int | None = None, tree: Tree | None = None) -> str:
        tree = tree or self.tree
        size = tree.size if size is None else size
        return sign_checkpoint(Checkpoint(origin=NAME, size=size, root=tree.root(size)), self.key)

    def witnessed(self, size: int | None = None, *, at: int = NOW, tree: Tree | None = None) -> str:
        note = self.head(size, tree)
        return note + cosign(note, WITNESS_NAME, self.witness, at // NANOSECONDS)

    def prove(self, old: int, new: int) -> tuple[bytes, ...] | None:
        if self.fails is not None:
            raise self.fails
        return self.tree.consistency(old, new) if new <= self.tree.size else None


@pytest.fixture
def log() -> ALog:
    return ALog()


@pytest.fixture
def seen(tmp_path: Path) -> LogSeen:
    return LogSeen(tmp_path)


def follow(seen: LogSeen, log: ALog, note: str) -> None:
    seen.follow(note, log.verifier, log.prove, NOW)


def test_a_log_that_only_grows_is_followed(seen: LogSeen, log: ALog, tmp_path: Path) -> None:
    """In any order of heads, with the proof of each, over restarts."""
    for size in (0, 1, 7, 7, 3, 64, 100, 1):
        follow(seen, log, log.head(size))
    log.tree = history(300)
    follow(LogSeen(tmp_path), log, log.head())


def test_a_log_that_was_rolled_back_is_found_out(seen: LogSeen, log: ALog) -> None:
    """It has not what it showed before, so it can prove nothing to be its beginning."""
    follow(seen, log, log.head(80))
    log.tree = history(60)
    with pytest.raises(SplitError, match=SPLIT):
        follow(seen, log, log.head())


def test_a_log_that_was_rolled_back_and_went_on_is_found_out(seen: LogSeen, log: ALog) -> None:
    """It is longer than before again, but with other leaves."""
    follow(seen, log, log.head(80))
    log.tree = history(200, forked_at=70)
    with pytest.raises(SplitError):
        follow(seen, log, log.head())


@pytest.mark.parametrize("size", [40, 80, 120])
def test_a_forked_log_is_found_out_at_any_size(seen: LogSeen, log: ALog, size: int) -> None:
    """Shorter, as long, or longer than what was seen; with the proofs of either history."""
    honest, forked = history(120), history(120, forked_at=20)
    follow(seen, log, log.head(80))
    for tree in (honest, forked):
        log.tree = tree
        with pytest.raises(SplitError):
            follow(seen, log, log.head(size, forked))


def test_leaves_after_what_was_seen_are_the_logs_own_affair(seen: LogSeen, log: ALog) -> None:
    """Nobody has seen them here, so nothing is different."""
    follow(seen, log, log.head(80))
    log.tree = history(120, forked_at=80)
    follow(seen, log, log.head())


def test_a_doubt_ends_with_its_proof_and_with_nothing_else(
    seen: LogSeen, log: ALog, tmp_path: Path
) -> None:
    """Neither with a restart nor with a good head in between; both heads are kept meanwhile."""
    honest, later = log.head(80), log.head(90)
    follow(seen, log, honest)
    real, log.tree = log.tree, history(60)
    with pytest.raises(SplitError):
        follow(seen, log, later)  # not to be proved by who has lost it
    for memory in (seen, LogSeen(tmp_path)):
        with pytest.raises(SplitError):
            follow(memory, log, log.head(50))
    (kept,) = tmp_path.glob("log-*.json")
    assert all(note.split("\n")[2] in kept.read_text() for note in (honest, later))
    log.tree = real  # restored
    follow(LogSeen(tmp_path), log, log.head())


def test_two_heads_of_one_size_are_a_doubt_for_ever(seen: LogSeen, log: ALog) -> None:
    """No proof makes one of two histories: only another log, with another key, ends that."""
    follow(seen, log, log.head(80))
    with pytest.raises(SplitError):
        follow(seen, log, log.head(80, history(80, forked_at=3)))
    with pytest.raises(SplitError):
        follow(seen, log, log.head())
    another = ALog()
    follow(seen, another, another.head(5))


@pytest.mark.parametrize("fails", [RetryableError("nobody answers"), RejectedError("revoked")])
def test_nobody_who_gives_a_proof_is_no_doubt(seen: LogSeen, log: ALog, fails: AssentError) -> None:
    """It is neither believed nor held against the log; the same is asked again."""
    follow(seen, log, log.head(10))
    log.fails = fails
    with pytest.raises(type(fails), match=str(fails)):
        follow(seen, log, log.head(20))
    log.fails = None
    log.tree = history(100, forked_at=15)
    follow(seen, log, log.head(20))


def test_what_the_log_did_not_sign_is_nothing_that_it_showed(seen: LogSeen, log: ALog) -> None:
    """Neither believed nor a doubt."""
    follow(seen, log, log.head(10))
    with pytest.raises(ForgedError):
        follow(seen, log, ALog().head(20))
    follow(seen, log, log.head(20))


def test_what_an_equivocating_log_showed_here_is_not_what_the_witness_saw(
    seen: LogSeen, log: ALog
) -> None:
    """Each history is in order for itself; there is one witness for both."""
    honest, shown_here = history(100), history(100, forked_at=50)
    log.tree = shown_here
    follow(seen, log, log.head(80))
    for tree in (shown_here, honest):
        log.tree = tree
        with pytest.raises(SplitError, match=SPLIT):
            seen.compare(log.witnessed(90, tree=honest), log.keys, log.prove, NOW)


def test_leaves_that_the_witness_is_not_shown_are_found_out(seen: LogSeen, log: ALog) -> None:
    """The witness's history ends before the fork, and stays so: then what is here is hidden."""
    follow(seen, log, log.head(80))
    before, after = NOW + NANOSECONDS, NOW + (LATE_SECONDS + 1) * NANOSECONDS
    seen.compare(log.witnessed(60, at=before), log.keys, log.prove, before)
    with pytest.raises(SplitError, match=UNSEEN):
        seen.compare(log.witnessed(60, at=after), log.keys, log.prove, after)
    seen.compare(log.witnessed(80, at=after), log.keys, log.prove, after)


def test_a_log_without_a_witness_is_not_believed_for_longer_than_a_lease(
    seen: LogSeen, log: ALog, tmp_path: Path
) -> None:
    """An old cosignature does not get younger by being shown again, nor by a restart."""
    seen.compare(log.witnessed(), log.keys, log.prove, NOW)
    last = NOW + (LEASE_SECONDS + LATE_SECONDS) * NANOSECONDS
    seen.check_witnessed(log.verifier, last, LEASE_SECONDS)
    for memory in (seen, LogSeen(tmp_path)):
        memory.compare(log.witnessed(), log.keys, log.prove, last)
        with pytest.raises(SplitError, match=UNWITNESSED):
            memory.check_witnessed(log.verifier, last + 1, LEASE_SECONDS)
        memory.check_witnessed(log.verifier, last, LEASE_SECONDS)
    seen.compare(log.witnessed(at=last), log.keys, log.prove, last)
    seen.check_witnessed(log.verifier, last + 1, LEASE_SECONDS)


def test_a_cosignature_from_the_future_counts_from_now(seen: LogSeen, log: ALog) -> None:
    """A guard whose clock is wrong cannot vouch for what is to come."""
    seen.compare(log.witnessed(at=NOW * 2), log.keys, log.prove, NOW)
    late = NOW + (LEASE_SECONDS + LATE_SECONDS) * NANOSECONDS + 1
    with pytest.raises(SplitError, match=UNWITNESSED):
        seen.check_witnessed(log.verifier, late, LEASE_SECONDS)


def test_a_head_that_another_witness_signed_is_none(seen: LogSeen, log: ALog) -> None:
    """Nor is one that none signed."""
    other = ALog(key=log.key)
    for note in (other.witnessed(), log.head()):
        with pytest.raises(ForgedError):
            seen.compare(note, log.keys, log.prove, NOW)


def test_a_new_device_believes_a_log_for_a_lease(seen: LogSeen, log: ALog) -> None:
    """Then a witness has to have seen it."""
    seen.check_witnessed(log.verifier, NOW, LEASE_SECONDS)
    with pytest.raises(SplitError, match=UNWITNESSED):
        seen.check_witnessed(log.verifier, NOW + 10**6 * NANOSECONDS, LEASE_SECONDS)


def test_nobody_waits_for_a_proof_that_does_not_come(
    seen: LogSeen, log: ALog, tmp_path: Path
) -> None:
    """Not who asks for the witness, nor who follows another head; and none of it is lost."""
    follow(seen, log, log.head(10))
    asked, comes, questions = threading.Event(), threading.Event(), []

    def drips(old: int, new: int) -> tuple[bytes, ...] | None:
        questions.append((old, new))
        asked.set()
        assert comes.wait(60)
        return log.prove(old, new)

    slow = threading.Thread(target=seen.follow, args=(log.head(20), log.verifier, drips, NOW))
    slow.start()
    meanwhile = threading.Thread(target=_look_and_follow, args=(seen, log))
    try:
        assert asked.wait(60)
        meanwhile.start()
        meanwhile.join(10)
        assert not meanwhile.is_alive()
    finally:
        comes.set()
        slow.join()
    assert questions == [(10, 20), (20, 80)], "what was proved meanwhile is what counts"
    (kept,) = tmp_path.glob("log-*.json")
    assert log.head(80).split("\n")[2] in kept.read_text()


def _look_and_follow(seen: LogSeen, log: ALog) -> None:
    seen.check_witnessed(log.verifier, NOW, LEASE_SECONDS)
    follow(seen, log, log.head(80))


class FullDisk:
    """Takes nothing."""

    def replace(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        raise OSError(28, "No space left on device")

    append = replace

    def remove(self, path: Path) -> None:
        raise AssertionError("nothing is removed")


def test_a_disk_that_takes_nothing_keeps_nobody_from_looking(
    tmp_path: Path, log: ALog, caplog: pytest.LogCaptureFixture
) -> None:
    """What was seen holds until the agent ends, and that it is not kept is said."""
    seen = LogSeen(tmp_path, FullDisk())
    follow(seen, log, log.head(80))
    assert "not kept: No space left on device" in caplog.text
    log.tree = history(60)
    with pytest.raises(SplitError):
        follow(seen, log, log.head())


def test_a_memory_of_a_later_version_is_left_as_it_is(
    seen: LogSeen, log: ALog, tmp_path: Path
) -> None:
    """The agent does not start over it."""
    follow(seen, log, log.head(80))
    (kept,) = tmp_path.glob("log-*.json")
    later = kept.read_bytes().replace(b'"version":1', b'"version":2')
    kept.write_bytes(later)
    with pytest.raises(NewerError):
        LogSeen(tmp_path)
    assert kept.read_bytes() == later
