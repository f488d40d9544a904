"""Plaintext in both directions, padding, and bytes that are no batch."""

import msgspec
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from wire.batch import Batch, Gap, Opening, decode_batch, encode_batch, padded_bytes
from wire.category import Category
from wire.errors import MalformedError
from wire.event import (
    Button,
    Event,
    Focus,
    Frame,
    Key,
    Move,
    Rectangle,
    Scroll,
    Still,
    begins_at,
    category_of,
)
from wire.ids import BootInstant, CoreHash, WallInstant

AT = BootInstant(1_000)
ONE_OF_EACH: tuple[Event, ...] = (
    Key(at=AT, sequence=1, pressed=True, kind="letter", text="a", code=38),
    Move(at=AT, sequence=2, x=-3, y=4),
    Button(at=AT, sequence=3, x=1, y=2, button=1, pressed=True),
    Scroll(at=AT, sequence=4, x=1, y=2, dx=0, dy=-1),
    Frame(
        at=AT,
        sequence=5,
        key=True,
        left=0,
        top=0,
        width=2,
        height=1,
        rectangles=(Rectangle(x=0, y=0, width=2, height=1, pixels=b"123456"),),
    ),
    Still(at=BootInstant(AT + 7), sequence=7, of=AT, since=BootInstant(AT + 2)),
    Focus(at=AT, sequence=6, process="xterm", window_class="XTerm", x=0, y=0, width=9, height=9),
)


def batch_of(*events: Event) -> Batch:
    opening = Opening(
        core_hash=CoreHash(bytes(32)),
        wall=WallInstant(5),
        boot=AT,
        level="classes",
        counters={"seen": 2},
        gaps=(Gap(since=AT, until=AT, why="paused"),),
    )
    return Batch(opening=opening, events=events)


def test_every_kind_of_event_reads_back_as_it_was_written() -> None:
    """A batch that was encoded is the batch that is decoded."""
    assert decode_batch(encode_batch(batch_of(*ONE_OF_EACH))) == batch_of(*ONE_OF_EACH)


def test_every_kind_of_event_has_a_category() -> None:
    """The four categories are all in use, and none is missing."""
    assert {category_of(event) for event in ONE_OF_EACH} == set(Category)


def test_an_event_begins_at_its_instant_but_a_still_picture_before_it() -> None:
    """What is said of a span of time needs a yes for all of it."""
    assert {begins_at(event) - AT for event in ONE_OF_EACH} == {0, 2}


def test_any_msgpack_and_zstd_reads_a_batch() -> None:
    """A stranger needs no code of ours: stock zstd, then one msgpack array."""
    plain = zstd.decompress(encode_batch(batch_of(*ONE_OF_EACH)))
    records = msgspec.msgpack.decode(plain)
    assert [record[0] for record in records][:2] == ["opening", "key"]


@given(st.integers(min_value=2, max_value=1 << 33))
def test_padding_costs_at_most_an_eighth_and_hides_the_length(length: int) -> None:
    """Padmé: never shorter, at most 12 % longer, and few different sizes."""
    padded = padded_bytes(length)
    assert length <= padded <= length * 1.12 + 1
    assert padded_bytes(padded) == padded


@given(st.binary(max_size=300))
def test_the_encoded_size_is_a_padded_size(text: bytes) -> None:
    """What is sealed always has one of the few sizes."""
    data = encode_batch(batch_of(Key(at=AT, pressed=True, kind="letter", text=text.hex())))
    assert len(data) == padded_bytes(len(data))


def _plain(*records: object) -> bytes:
    packed = zstd.compress(msgspec.msgpack.encode(records))
    return packed + b"\x50\x2a\x4d\x18\0\0\0\0"


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("empty", b""),
        ("not zstd", b"hello"),
        ("no padding frame", zstd.compress(msgspec.msgpack.encode(()))),
        ("no opening record", _plain()),
        ("unknown record", _plain(["thing", 1])),
        ("event before the opening", _plain(["move", 1, 2, 3, 4])),
        ("cut short", encode_batch(batch_of())[:20]),
        ("padding of ones", encode_batch(batch_of())[:-1] + b"\x01"),
        ("a bomb", zstd.compress(bytes(80 << 20)) + b"\x50\x2a\x4d\x18\0\0\0\0"),
    ],
)
def test_what_is_no_batch_is_refused(why: str, data: bytes) -> None:
    """Each is refused with a reason, none decodes to something."""
    with pytest.raises(MalformedError):
        decode_batch(data)
