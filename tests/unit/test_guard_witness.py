"""The witness cosigns a log that only grows, remembers before it signs, and refuses the rest."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.database import StorageError, pragma
from guard.witness import Accept, Cosigned, Refuse, Submission, Witness, judge, parse_submission
from tests.fakes.organisation import LOG_NAME, NOW, WITNESS_NAME, Organisation, ed25519, wall
from wire.errors import MalformedError
from wire.tlog import Checkpoint, Tree, leaf_hash, sign_checkpoint, verify_cosignature


@pytest.fixture
def acme() -> Organisation:
    organisation = Organisation()
    for number in range(20):
        organisation.tree.append(leaf_hash(b"%d" % number))
    return organisation


@pytest.fixture
def witness(acme: Organisation, tmp_path: Path) -> Iterator[Witness]:
    opened = Witness(tmp_path / "witness.sqlite", WITNESS_NAME, acme.witness)
    yield opened
    opened.close()


def submit(acme: Organisation, old: int, new: int) -> Submission:
    return Submission(old=old, proof=acme.tree.consistency(old, new), note=acme.checkpoint(new))


def add(witness: Witness, acme: Organisation, submission: Submission) -> Cosigned | Refuse:
    return witness.add(submission, acme.log_key, wall(NOW))


def test_a_log_that_grew_is_cosigned(acme: Organisation, witness: Witness) -> None:
    """From nothing to 5 leaves to 20: each head gets a cosignature/v1 line that verifies."""
    for old, new in ((0, 5), (5, 5), (5, 20)):
        answer = add(witness, acme, submit(acme, old, new))
        assert isinstance(answer, Cosigned)
        note = acme.checkpoint(new) + answer.line
        assert verify_cosignature(note, acme.witness_key) == int(NOW.timestamp())


def test_a_log_that_was_rolled_back_is_refused_with_the_size_last_seen(
    acme: Organisation, witness: Witness
) -> None:
    """409 with 20, whatever older size the log says to have been at."""
    add(witness, acme, submit(acme, 0, 20))
    refusal = Refuse(status=409, why="another size was cosigned last", size=20)
    for old, new in ((0, 10), (5, 10), (10, 10), (0, 20)):
        assert add(witness, acme, submit(acme, old, new)) == refusal
    assert isinstance(add(witness, acme, submit(acme, 20, 20)), Cosigned)


def test_a_split_log_is_refused(acme: Organisation, witness: Witness) -> None:
    """The same size with another root, and a longer tree that does not contain the old one."""
    add(witness, acme, submit(acme, 0, 10))
    other = Organisation(log=acme.log, witness=acme.witness)
    for number in range(20):
        other.tree.append(leaf_hash(b"other %d" % number))
    same_size = add(witness, acme, Submission(old=10, proof=(), note=other.checkpoint(10)))
    assert same_size == Refuse(status=409, why="two roots of one size: the log was split", size=10)
    longer = Submission(old=10, proof=other.tree.consistency(10, 20), note=other.checkpoint())
    assert isinstance(answer := add(witness, acme, longer), Refuse)
    assert answer.status == 422


def test_a_proof_is_needed_and_none_too_many(acme: Organisation, witness: Witness) -> None:
    """Empty, cut, lengthened or superfluous proofs: 422."""
    first = Submission(old=0, proof=(bytes(32),), note=acme.checkpoint(7))
    assert isinstance(answer := add(witness, acme, first), Refuse)
    assert answer.status == 422
    add(witness, acme, submit(acme, 0, 7))
    proof = acme.tree.consistency(7, 20)
    for wrong in ((), proof[:-1], (*proof, bytes(32)), (b"short",)):
        answer = add(witness, acme, Submission(old=7, proof=wrong, note=acme.checkpoint()))
        assert isinstance(answer, Refuse)
        assert answer.status == 422


def test_who_is_not_the_policys_log_is_told_so(acme: Organisation) -> None:
    """404 for another origin, 403 for another key, 400 for what is no checkpoint."""
    stranger = ed25519()
    head = Checkpoint(origin="other.example/log", size=1, root=bytes(32))
    for note, status in (
        (sign_checkpoint(head, stranger), 404),
        (acme.checkpoint(key=stranger), 403),
        (f"{LOG_NAME}\n", 400),
        (f"{LOG_NAME}\nnot a size\n\n\u2014 x AAAA\n", 403),
    ):
        verdict = judge(Submission(old=0, proof=(), note=note), None, acme.log_key)
        assert isinstance(verdict, Refuse)
        assert verdict.status in (status, 400)
        if status != 403:
            assert verdict.status == status


def test_an_old_size_beyond_the_new_one_is_a_bad_request(acme: Organisation) -> None:
    """400, as tlog-witness asks for."""
    verdict = judge(Submission(old=21, proof=(), note=acme.checkpoint()), None, acme.log_key)
    assert isinstance(verdict, Refuse)
    assert verdict.status == 400


def test_an_empty_log_may_be_cosigned_once_it_is_signed(acme: Organisation) -> None:
    """Size 0 is a size."""
    acme.tree = Tree()
    verdict = judge(Submission(old=0, proof=(), note=acme.checkpoint()), None, acme.log_key)
    assert isinstance(verdict, Accept)


def test_the_memory_survives_and_is_written_before_the_signature(
    acme: Organisation, tmp_path: Path
) -> None:
    """A witness that dies while it signs still knows the size it was about to sign."""

    class DyingWitness(Witness):
        pass

    path = tmp_path / "witness.sqlite"
    dying = DyingWitness(path, WITNESS_NAME, None)  # type: ignore[arg-type]  # no key: cannot sign
    with pytest.raises(TypeError):
        add(dying, acme, submit(acme, 0, 20))
    dying.close()
    again = Witness(path, WITNESS_NAME, acme.witness)
    seen = again.last_seen(acme.log_key)
    assert seen is not None
    assert seen.size == 20
    assert isinstance(add(again, acme, submit(acme, 0, 10)), Refuse)
    assert isinstance(add(again, acme, submit(acme, 20, 20)), Cosigned)
    again.close()


def test_what_cannot_be_remembered_is_not_cosigned(acme: Organisation, witness: Witness) -> None:
    """The write comes first; when it fails, no signature leaves."""
    pragma(witness._engine, "query_only=ON")  # noqa: SLF001 - to break what is inside
    with pytest.raises(StorageError):
        add(witness, acme, submit(acme, 0, 20))
    pragma(witness._engine, "query_only=OFF")  # noqa: SLF001
    assert witness.last_seen(acme.log_key) is None


def test_of_two_submissions_at_once_one_is_told_to_try_again(
    acme: Organisation, witness: Witness
) -> None:
    """Checking and remembering are one step, so no race rolls the size back."""
    answers: list[Cosigned | Refuse] = []
    start = threading.Barrier(8)

    def race(size: int) -> None:
        start.wait()
        answers.append(add(witness, acme, submit(acme, 0, size)))

    threads = [threading.Thread(target=race, args=(size,)) for size in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Cosigned) for answer in answers) == 1


def test_the_request_of_the_specification_is_understood(acme: Organisation) -> None:
    """Old size, proof lines, empty line, note: the body as C2SP draws it."""
    proof = acme.tree.consistency(5, 20)
    lines = "".join(f"{base64.b64encode(step).decode()}\n" for step in proof)
    body = f"old 5\n{lines}\n{acme.checkpoint()}"
    assert parse_submission(body.encode()) == submit(acme, 5, 20)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 5\n",
        b"old 05\n\nx\n",
        b"old -1\n\nx\n",
        b"new 5\n\nx\n",
        b"old five\n\nx\n",
        b"old 5\n!!\n\nx\n",
        b"\xff\n\n",
        b"old 5\n" + b"AAAA\n" * 64 + b"\nx\n",
    ],
)
def test_a_body_in_another_form_is_refused(body: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(MalformedError):
        parse_submission(body)
