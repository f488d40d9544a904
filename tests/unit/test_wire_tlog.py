"""The log: RFC 6962 trees against foreign probes, notes, cosignatures, receipts."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import ForgedError, MalformedError, WireError
from wire.ids import BatchHash, CoreHash, WallInstant
from wire.leaf import Kind, batch_payload, entry
from wire.receipt import Receipt, decode_receipt, encode_receipt, verify_receipt
from wire.tlog import (
    ALGORITHM_COSIGNATURE,
    ALGORITHM_ED25519,
    EMPTY_ROOT,
    MOST_SIGNATURES,
    Checkpoint,
    Tree,
    cosign,
    leaf_hash,
    node_hash,
    parse_verifier_key,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
    verify_consistency,
    verify_cosignature,
    verify_inclusion,
)

ORIGIN = "log.example/acme"
INCLUSION_PROBES, CONSISTENCY_PROBES = 98, 98  # 196 that nobody here wrote


def by_definition(leaves: list[bytes]) -> bytes:
    """The root exactly as RFC 6962 section 2.1 defines it."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


@settings(max_examples=60)
@given(st.integers(0, 70), st.data())
def test_every_proof_of_a_tree_verifies_against_its_roots(size: int, data: st.DataObject) -> None:
    """Roots follow the definition; proofs made by the tree hold for all sizes before."""
    leaves = [leaf_hash(str(i).encode()) for i in range(size)]
    tree = Tree(leaves)
    assert tree.root() == by_definition(leaves)
    if size:
        old = data.draw(st.integers(1, size))
        verify_consistency(
            old=old,
            new=size,
            proof=tree.consistency(old, size),
            old_root=tree.root(old),
            new_root=tree.root(),
        )
        index = data.draw(st.integers(0, size - 1))
        verify_inclusion(
            leaf=leaves[index],
            index=index,
            size=size,
            proof=tree.inclusion(index, size),
            root=tree.root(),
        )


def test_what_is_said_of_the_last_leaf_is_what_is_said_of_any() -> None:
    """A receipt is made from its own leaf's tree, by the shorter of two ways."""
    tree = Tree(leaf_hash(str(i).encode()) for i in range(70))
    for size in range(1, 71):
        assert tree.of_last(size) == (tree.inclusion(size - 1, size), tree.root(size))
    for size in (-1, 0, 71):
        with pytest.raises(ValueError, match=r"leaves|leaf"):
            tree.of_last(size)


def _b64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def foreign(data: Path, kind: str, count: int) -> list[Path]:
    """Return the probes of a kind, all of them."""
    probes = sorted((data / "merkle/testdata" / kind).rglob("*.json"))
    assert len(probes) == count, f"{data / 'merkle'} is not complete"
    return probes


def test_foreign_inclusion_probes_are_judged_as_their_authors_judge_them(data_dir: Path) -> None:
    """Probes that nobody here wrote; most of them must be refused."""
    for path in foreign(data_dir, "inclusion", INCLUSION_PROBES):
        probe = json.loads(path.read_text())
        try:
            verify_inclusion(
                leaf=_b64(probe["leafHash"]),
                index=probe["leafIdx"],
                size=probe["treeSize"],
                proof=[_b64(step) for step in probe["proof"] or ()],
                root=_b64(probe["root"]),
            )
            accepted = True
        except ForgedError:
            accepted = False
        assert accepted is not probe["wantErr"], path.name


def test_foreign_consistency_probes_are_judged_as_their_authors_judge_them(data_dir: Path) -> None:
    """The same for consistency; a proof from an empty log is useless and refused."""
    for path in foreign(data_dir, "consistency", CONSISTENCY_PROBES):
        probe = json.loads(path.read_text())
        try:
            verify_consistency(
                old=probe["size1"],
                new=probe["size2"],
                proof=[_b64(step) for step in probe["proof"] or ()],
                old_root=_b64(probe["root1"]),
                new_root=_b64(probe["root2"]),
            )
            accepted = True
        except ForgedError:
            accepted = False
        assert accepted is not probe["wantErr"], path.name


def log() -> tuple[Ed25519PrivateKey, str]:
    key = Ed25519PrivateKey.generate()
    return key, verifier_key(ORIGIN, ALGORITHM_ED25519, key.public_key().public_bytes_raw())


def test_a_signed_checkpoint_reads_back_and_no_other_key_signs_it() -> None:
    """The note verifies under its log's key and under no other."""
    key, public = log()
    head = Checkpoint(origin=ORIGIN, size=3, root=hashlib.sha256(b"r").digest())
    note = sign_checkpoint(head, key)
    assert verify_checkpoint(note, public) == head
    with pytest.raises(ForgedError):
        verify_checkpoint(note, log()[1])
    with pytest.raises(ForgedError):
        verify_checkpoint(note.replace("\n3\n", "\n4\n"), public)


@pytest.mark.parametrize("note", ["", "x", "a\n1\nAAAA\n\n", "a\nb\nc\n\n\u2014 a AAAA\n"])
def test_what_is_no_note_is_refused(note: str) -> None:
    """Garbage is malformed, not a crash."""
    with pytest.raises(WireError):
        verify_checkpoint(note, log()[1])


def test_a_cosignature_is_the_witnesss_and_of_this_checkpoint() -> None:
    """Only the witness that looked can be shown to have looked, and at what, and when."""
    key, _public = log()
    head = Checkpoint(origin=ORIGIN, size=3, root=hashlib.sha256(b"r").digest())
    note = sign_checkpoint(head, key)
    witness = Ed25519PrivateKey.generate()
    raw = witness.public_key().public_bytes_raw()
    public = verifier_key("witness.example/w1", ALGORITHM_COSIGNATURE, raw)
    cosigned = note + cosign(note, "witness.example/w1", witness, 1_800_000_000)
    assert verify_cosignature(cosigned, public) == 1_800_000_000
    assert verify_checkpoint(cosigned, log_key_of(key)) == head
    with pytest.raises(ForgedError):
        verify_cosignature(note, public)
    other = sign_checkpoint(Checkpoint(origin=ORIGIN, size=4, root=head.root), key)
    with pytest.raises(ForgedError):
        verify_cosignature(other + cosigned[len(note) :], public)


def test_a_note_has_a_limit_of_signatures_and_strangers_below_it_do_no_harm() -> None:
    """C2SP signed-note: verifiers set a limit of 16 or more, and ignore unknown keys."""
    key, public = log()
    head = Checkpoint(origin=ORIGIN, size=3, root=hashlib.sha256(b"r").digest())
    note = sign_checkpoint(head, key)
    line = f"\u2014 stranger.example/w {base64.b64encode(bytes(68)).decode()}\n"
    assert MOST_SIGNATURES >= 16
    assert verify_checkpoint(note + line * (MOST_SIGNATURES - 1), public) == head
    with pytest.raises(MalformedError, match="more than 256 signatures"):
        verify_checkpoint(note + line * MOST_SIGNATURES, public)


def log_key_of(key: Ed25519PrivateKey) -> str:
    return verifier_key(ORIGIN, ALGORITHM_ED25519, key.public_key().public_bytes_raw())


def test_the_key_id_of_the_specifications_example_is_ours() -> None:
    """The verifier key that the signed-note specification prints parses."""
    name, algorithm, raw = parse_verifier_key(
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    )
    assert (name, algorithm, len(raw)) == ("example.com/foo", 1, 32)
    with pytest.raises(MalformedError):
        parse_verifier_key("example.com/bar+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")


def test_a_receipt_holds_for_its_batch_and_for_no_other() -> None:
    """Acknowledged means: these bytes, in this log."""
    key, public = log()
    batch, core, salt = BatchHash(b"b" * 32), CoreHash(b"c" * 32), b"s" * 16
    tree = Tree(leaf_hash(str(i).encode()) for i in range(5))
    index = tree.append(leaf_hash(entry(Kind.BATCH, batch_payload(batch, core), salt)))
    head = Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root())
    receipt = Receipt(
        batch_hash=batch,
        core_hash=core,
        received_at=WallInstant(1),
        salt=salt,
        index=index,
        proof=tree.inclusion(index, tree.size),
        checkpoint=sign_checkpoint(head, key),
    )
    receipt = decode_receipt(encode_receipt(receipt))
    verify_receipt(receipt, batch, core, public)
    with pytest.raises(ForgedError):
        verify_receipt(receipt, BatchHash(b"x" * 32), core, public)
    with pytest.raises(ForgedError):
        verify_receipt(receipt, batch, core, log()[1])
    with pytest.raises(MalformedError):
        decode_receipt(b"{}")


def test_a_log_entry_says_nothing_without_its_salt() -> None:
    """The same payload under two salts has nothing in common but its kind."""
    payload = batch_payload(BatchHash(b"b" * 32), CoreHash(b"c" * 32))
    first, second = entry(Kind.BATCH, payload, b"1" * 16), entry(Kind.BATCH, payload, b"2" * 16)
    assert first.split(b"\n")[0] == second.split(b"\n")[0] == b"batch"
    assert first != second
    assert payload.hex().encode() not in first
