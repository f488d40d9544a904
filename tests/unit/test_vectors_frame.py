"""The committed frames under tests/vectors/frame, each with its one expected outcome."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire.batch import decode_batch
from wire.errors import ForgedError, MalformedError, NotForUsError
from wire.frame import verify
from wire.opening import open_body
from wire.shelf import unshelve

VECTORS = sorted((Path(__file__).parents[1] / "vectors/frame").glob("*.json"))


def outcome(vector: dict[str, str]) -> str:
    """What a collector, then guard and reader together, make of the frame."""
    device = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["device"]))
    try:
        verified = verify(bytes.fromhex(vector["frame"]), device)
    except MalformedError:
        return "malformed"
    except ForgedError:
        return "forged"
    digest = verified.core_hash
    try:
        header = unshelve(verified.parts.shelf, bytes.fromhex(vector["guard_seed"]), digest)
        plaintext = open_body(header, verified.parts.body, vector["reader"], digest)
    except (NotForUsError, ForgedError, MalformedError):
        return "does-not-open"
    return "opens" if decode_batch(plaintext).opening.core_hash == digest else "another core"


def test_there_are_vectors() -> None:
    """An empty folder proves nothing."""
    assert len(VECTORS) >= 18


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_vector_has_exactly_the_outcome_it_names(path: Path) -> None:
    """The format is what these bytes say, whatever the code becomes."""
    vector = json.loads(path.read_text())
    assert outcome(vector) == vector["expect"], vector["why"]
