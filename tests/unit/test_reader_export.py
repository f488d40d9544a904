"""What leaves the reader: lines in order of time, pictures as they were, and a plain warning."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from backports import zstd
from PIL import Image

from base.errors import SetupError
from reader.export.jsonl import export
from reader.opening import Opened, open_batch
from reader.pictures import Canvas, to_png
from tests.fakes.organisation import NOW, Organisation, Sealed, public_key_of_identity, raw, wall
from wire.category import Category
from wire.collector_http import KeptConsent
from wire.consent_record import decode_record
from wire.errors import MalformedError
from wire.event import Event, Frame, Key, Rectangle, Still
from wire.frame import core_hash, split
from wire.ids import BatchHash, BootInstant, PolicyDigest, WallInstant
from wire.shelf import reseal, unshelve

POLICY = PolicyDigest(bytes(32))
ACME = Organisation()
SECOND = 1_000_000_000


def rectangle(x: int, y: int, width: int, height: int, bgr: bytes) -> Rectangle:
    pixels = zstd.compress(bgr * (width * height))
    return Rectangle(x=x, y=y, width=width, height=height, pixels=pixels)


def frame(at: int, *rectangles: Rectangle, key: bool = False, width: int = 4) -> Frame:
    return Frame(
        at=BootInstant(at),
        sequence=at // SECOND,
        key=key,
        left=10,
        top=20,
        width=width,
        height=3,
        rectangles=rectangles,
    )


def press(at: int, sequence: int = 0) -> Key:
    return Key(at=BootInstant(at), sequence=sequence, pressed=True, kind="letter")


def still(of: float, since: float, until: float) -> Still:
    """Return what a sensor says of a picture, in seconds."""
    of_, since_, until_ = (BootInstant(round(each * SECOND)) for each in (of, since, until))
    return Still(at=until_, of=of_, since=since_)


def opener(*batches: Sealed) -> Callable[[BatchHash], Opened]:
    def opened(name: BatchHash) -> Opened:
        (sealed,) = (one for one in batches if one.hash == name)
        parts = split(sealed.frame)
        digest = core_hash(parts.core)
        header = unshelve(parts.shelf, ACME.guard_seed, digest)
        return open_batch(
            sealed.frame,
            name,
            KeptConsent(
                record=sealed.consent.record,
                signature=sealed.consent.signature,
                device_key=raw(ACME.device),
            ),
            reseal(header, public_key_of_identity(ACME.identity), digest),
            identity=ACME.identity,
            today=NOW.date(),
        )

    return opened


def screens(*events: Event) -> Sealed:
    consent = ACME.consent(POLICY, category=Category.SCREEN, level="window")
    return ACME.seal(POLICY, events, consent=consent, category=Category.SCREEN, level="window")


def run(out: Path, *batches: Sealed) -> list[dict[str, object]]:
    export([one.hash for one in batches], opener(*batches), out, wall(NOW))
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def test_events_come_out_in_order_of_time_with_the_wall_clock(tmp_path: Path) -> None:
    """Across batches that overlap; each line says whose, of which batch, and when."""
    first = ACME.seal(POLICY, tuple(press(second * SECOND) for second in (5, 7, 9)))
    second = ACME.seal(POLICY, tuple(press(second * SECOND) for second in (6, 8, 20)))
    third = ACME.seal(POLICY, tuple(press(second * SECOND) for second in (12, 13)))
    lines = run(tmp_path / "out", third, second, first)
    at = [line["wall_ns"] for line in lines]
    assert at == sorted(at)  # type: ignore[type-var]  # they are numbers
    assert len(lines) == 8
    assert lines[0]["time"] == "2027-03-15T12:00:00.000000Z"  # boot 5 s is the opening's instant
    assert lines[0]["batch"] == first.hash.hex()
    assert lines[0]["subject"] == ACME.subject.hex()
    assert lines[0]["type"] == "key"
    assert lines[0]["kind"] == "letter"
    assert lines[1]["batch"] == second.hash.hex()


def test_pictures_are_drawn_again_lossless(tmp_path: Path) -> None:
    """A key frame on black, then only what changed."""
    batch = screens(
        frame(5 * SECOND, rectangle(0, 0, 4, 3, b"\x10\x20\x30"), key=True),
        frame(6 * SECOND, rectangle(1, 1, 2, 1, b"\xff\x00\x00")),
        frame(7 * SECOND, key=True),
    )
    lines = run(tmp_path / "out", batch)
    pictures = [Image.open(tmp_path / "out" / str(line["image"])) for line in lines]
    assert [picture.size for picture in pictures] == [(4, 3)] * 3
    assert pictures[0].getpixel((1, 1)) == (0x30, 0x20, 0x10)
    assert pictures[1].getpixel((1, 1)) == (0, 0, 0xFF)
    assert pictures[1].getpixel((0, 0)) == (0x30, 0x20, 0x10)
    assert pictures[2].getcolors() == [(12, (0, 0, 0))]
    assert "rectangles" not in lines[0]
    assert (lines[0]["left"], lines[0]["top"]) == (10, 20)


def test_each_action_names_the_picture_that_was_there_before_it_or_says_why_not(
    tmp_path: Path,
) -> None:
    """Across batches and categories; a picture of an earlier batch may still be true."""
    first = screens(frame(5 * SECOND, key=True))
    second = screens(still(5, 5, 30), frame(31 * SECOND, key=True), still(70, 70, 71))
    keys = ACME.seal(POLICY, tuple(press(at * SECOND) for at in (4, 20, 31, 50, 71)))
    lines = run(tmp_path / "out", keys, second, first)
    images = [line["image"] for line in lines if line["type"] == "frame"]
    told = [(line["frame"], line.get("frame_missing")) for line in lines if line["type"] == "key"]
    assert told == [
        (None, "no-picture"),
        (images[0], None),
        (None, "screen-changed"),  # at the very time of a picture: the one before it is too old
        (None, "screen-changed"),
        (None, "picture-not-here"),
    ]
    stayed = [line for line in lines if line["type"] == "still"]
    assert [line["image"] for line in stayed] == [images[0], None]
    assert stayed[0]["since"] == "2027-03-15T12:00:00.000000Z"
    assert all((tmp_path / "out" / str(image)).exists() for image in images)


def test_a_picture_of_another_running_of_the_clock_is_no_picture(tmp_path: Path) -> None:
    """After a restart the boot clock counts from zero again: same instant, another day."""
    yesterday = screens(frame(5 * SECOND, key=True))
    today = ACME.seal(POLICY, (press(5 * SECOND + SECOND // 20),))

    def opened(name: BatchHash) -> Opened:
        found = opener(yesterday, today)(name)
        if name != yesterday.hash:
            return found
        opening = found.batch.opening
        moved = msgspec.structs.replace(opening, wall=WallInstant(opening.wall - 3600 * SECOND))
        return replace(found, batch=msgspec.structs.replace(found.batch, opening=moved))

    export([yesterday.hash, today.hash], opened, tmp_path / "out", wall(NOW))
    lines = [json.loads(line) for line in (tmp_path / "out/events.jsonl").read_text().splitlines()]
    assert [(line["type"], line.get("frame_missing")) for line in lines] == [
        ("frame", None),
        ("key", "no-picture"),
    ]


def test_the_index_says_whose_it_is_and_until_when_it_may_be_kept(tmp_path: Path) -> None:
    """One entry a batch, with the consent that allowed it."""
    batch = ACME.seal(POLICY)
    run(tmp_path / "out", batch)
    (entry,) = json.loads((tmp_path / "out/index.json").read_text())["batches"]
    assert entry["batch"] == batch.hash.hex()
    assert entry["keep_until"] == "2027-06-13"
    assert entry["consent_record"] == batch.core.grant.hex()
    assert entry["consent_id"] == decode_record(batch.consent.record).record_id
    assert entry["subject"] == ACME.subject.hex()
    assert entry["events"] == 1


def test_plaintext_is_called_plaintext_and_is_its_owners_alone(tmp_path: Path) -> None:
    """A warning for whoever finds the folder; 0700 and 0600 throughout."""
    run(tmp_path / "out", screens(frame(5 * SECOND, key=True)))
    warning = (tmp_path / "out/PLAINTEXT.txt").read_text()
    assert "train-computer-use" in warning
    for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_an_export_never_goes_into_a_folder_that_holds_something(tmp_path: Path) -> None:
    """Two exports mixed would be neither."""
    (tmp_path / "file").write_text("x")
    batch = ACME.seal(POLICY)
    with pytest.raises(SetupError):
        export([batch.hash], opener(batch), tmp_path, wall(NOW))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    "bad",
    [
        frame(1, rectangle(3, 0, 2, 1, b"abc"), key=True),
        frame(1, rectangle(-1, 0, 2, 1, b"abc"), key=True),
        frame(1, rectangle(0, 3, 1, 1, b"abc"), key=True),
        frame(1, Rectangle(x=0, y=0, width=1, height=1, pixels=b"not zstd"), key=True),
        frame(1, Rectangle(x=0, y=0, width=1, height=1, pixels=zstd.compress(b"abcd")), key=True),
        frame(
            1,
            Rectangle(x=0, y=0, width=1, height=1, pixels=zstd.compress(bytes(100 << 20))),
            key=True,
        ),
        frame(1, key=True, width=1 << 30),
        frame(1, key=True, width=0),
        frame(1),
    ],
)
def test_a_picture_that_a_device_made_up_is_refused(bad: Frame) -> None:
    """Outside, too much, too little, too large, or on a picture that is not there."""
    with pytest.raises(MalformedError):
        Canvas().draw(bad)


def test_png_is_png() -> None:
    """As any viewer expects."""
    assert to_png(Image.new("RGB", (1, 1))).startswith(b"\x89PNG\r\n\x1a\n")
