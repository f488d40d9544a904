"""The age syntax: strict in, canonical out."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.age import (
    Stanza,
    decode_base64,
    decode_header,
    decode_identity,
    decode_recipient,
    encode_base64,
    encode_header,
    encode_identity,
    encode_recipient,
    encode_stanzas,
)
from wire.errors import MalformedError
from wire.xwing import public_key_of

WORD = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
STANZAS = st.lists(
    st.builds(
        lambda words, body: Stanza(words=tuple(words), body=body),
        st.lists(WORD, min_size=1, max_size=3),
        st.binary(max_size=200),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


@given(STANZAS, st.binary(min_size=32, max_size=32))
def test_a_header_reads_back_as_it_was_written(stanzas: tuple[Stanza, ...], mac: bytes) -> None:
    """Whatever the stanzas: parsed, they are the same, and the MAC covers the same bytes."""
    covered = encode_stanzas(stanzas)
    header = decode_header(encode_header(covered, mac))
    assert header.stanzas == stanzas
    assert header.covered == covered
    assert header.mac == mac


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("another version", b"age-encryption.org/v2\n-> a\n\n--- " + b"A" * 43 + b"\n"),
        ("no stanza", b"age-encryption.org/v1\n--- " + b"A" * 43 + b"\n"),
        ("two spaces", b"age-encryption.org/v1\n-> a  b\n\n--- " + b"A" * 43 + b"\n"),
        ("no last short line", b"age-encryption.org/v1\n-> a\n--- " + b"A" * 43 + b"\n"),
        ("padding", b"age-encryption.org/v1\n-> a\nQQ==\n--- " + b"A" * 43 + b"\n"),
        ("stray bits", b"age-encryption.org/v1\n-> a\nQR\n--- " + b"A" * 43 + b"\n"),
        ("short MAC", b"age-encryption.org/v1\n-> a\n\n--- AAAA\n"),
        ("no line feed", b"age-encryption.org/v1\n-> a\n\n--- " + b"A" * 43),
        ("bytes behind", b"age-encryption.org/v1\n-> a\n\n--- " + b"A" * 43 + b"\nx\n"),
        ("carriage return", b"age-encryption.org/v1\r\n-> a\n\n--- " + b"A" * 43 + b"\n"),
    ],
)
def test_a_header_in_another_form_is_refused(why: str, data: bytes) -> None:
    """Each is refused, so no two headers mean the same."""
    with pytest.raises(MalformedError):
        decode_header(data)


@given(st.binary(max_size=100))
def test_base64_has_one_form(data: bytes) -> None:
    """Encoding and decoding are inverse."""
    assert decode_base64(encode_base64(data)) == data


def test_keys_read_back_as_they_were_written() -> None:
    """Recipient and identity survive their text form, in either case of letters."""
    seed = secrets.token_bytes(32)
    public = public_key_of(seed)
    assert decode_identity(encode_identity(seed)) == seed
    assert decode_identity(encode_identity(seed).lower()) == seed
    assert decode_recipient(encode_recipient(public)) == public


def test_a_mistyped_key_is_refused() -> None:
    """One wrong letter is found by the checksum."""
    text = encode_identity(bytes(32))
    wrong = text[:-1] + ("Q" if text[-1] != "Q" else "P")
    for bad in (wrong, text[:-1], "", "age1abc", text.lower()[:-1] + text[-1]):
        with pytest.raises(MalformedError):
            decode_identity(bad)


def test_a_recipient_is_no_identity() -> None:
    """A public key where a private one belongs is refused by its prefix."""
    with pytest.raises(MalformedError):
        decode_identity(encode_recipient(public_key_of(bytes(32))))
