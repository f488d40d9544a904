"""What lies in the library is believed file by file, and what is wrong with it is said."""

from pathlib import Path

import pytest

from reader.library import Kept, Library, SpoiltFileError
from reader.opening import Fault, FaultError, Opened
from reader.progress import looked_at, opening_again
from reader.verify import Opener, Report
from tests.fakes.organisation import (
    ANOTHER_ID,
    NOW,
    Organisation,
    Sealed,
    public_key_of_identity,
    raw,
)
from wire.category import Category
from wire.collector_http import KeptConsent
from wire.frame import core_hash, split
from wire.ids import BatchHash, PolicyDigest
from wire.shelf import reseal, unshelve

ACME = Organisation()
POLICY = PolicyDigest(bytes(32))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def keep(library: Library, sealed: Sealed, *, consent: bool = True, release: bool = True) -> None:
    """Put *sealed* into the library as `fetch` would, or with something left out."""
    library.keep_frame(sealed.hash, sealed.frame)
    if consent:
        kept = KeptConsent(
            record=sealed.consent.record,
            signature=sealed.consent.signature,
            device_key=raw(ACME.device),
        )
        library.keep_consent(sealed.core.grant, kept)
    if release:
        parts = split(sealed.frame)
        digest = core_hash(parts.core)
        header = unshelve(parts.shelf, ACME.guard_seed, digest)
        own = reseal(header, public_key_of_identity(ACME.identity), digest)
        library.keep_release(sealed.hash, Kept(access=bytes(32), released=own))


def opener(library: Library) -> Opener:
    return Opener(library=library, identity=ACME.identity, today=NOW.date())


def report(library: Library) -> Report:
    figures = Report()
    for batch, result in opener(library).each():
        figures.add(batch, result)
    return figures


def test_a_batch_without_a_grant_is_refused_even_if_it_was_released(library: Library) -> None:
    """I10: the guard let go of it, our key opens it, and still it is not believed."""
    good, bad = (
        ACME.seal(POLICY),
        ACME.seal(POLICY, consent=ACME.consent(POLICY, record_id=ANOTHER_ID)),
    )
    keep(library, good)
    keep(library, bad, consent=False)
    figures = report(library)
    assert figures.faults == {Fault.NO_CONSENT: [bad.hash.hex()]}
    assert figures.refused == 1
    assert figures.opened[Category.KEYS].batches == 1
    with pytest.raises(FaultError):
        opener(library).open(bad.hash)


def test_a_batch_under_another_policy_than_agreed_is_refused(library: Library) -> None:
    """I10, the other half: the policy that the record names is the one of the core."""
    other = ACME.consent(PolicyDigest(b"p" * 32))
    sealed = ACME.seal(POLICY, consent=other)
    keep(library, sealed)
    assert report(library).faults == {Fault.NOT_CONSENTED: [sealed.hash.hex()]}


def test_what_waits_for_release_is_no_fault(library: Library) -> None:
    """It is counted, and refused by nobody."""
    keep(library, ACME.seal(POLICY), release=False)
    figures = report(library)
    assert list(figures.faults) == [Fault.NOT_RELEASED]
    assert figures.refused == 0


def test_a_changed_file_is_found(library: Library, tmp_path: Path) -> None:
    """Every file of the library is checked again at each opening."""
    sealed = ACME.seal(POLICY)
    keep(library, sealed)
    path = tmp_path / f"frames/{sealed.hash.hex()}.frame"
    flipped = sealed.frame[:-1] + bytes([sealed.frame[-1] ^ 1])
    for content in (sealed.frame[:-1], b"", flipped, b"x" * 100):
        path.write_bytes(content)
        assert list(report(library).faults) == [Fault.NOT_SIGNED]
    path.write_bytes(ACME.seal(POLICY).frame)
    assert list(report(library).faults) != []


def test_a_spoilt_record_is_said_and_not_taken_for_absence(
    library: Library, tmp_path: Path
) -> None:
    """Unreadable is an error; only what is not there is not there."""
    sealed = ACME.seal(POLICY)
    keep(library, sealed)
    (tmp_path / f"consents/{sealed.core.grant.hex()}.json").write_text("{")
    with pytest.raises(SpoiltFileError):
        opener(library).open(sealed.hash)
    assert library.release(BatchHash(bytes(32))) is None


def test_figures_count_events_people_and_the_span(library: Library) -> None:
    """What the table shows is the sum of what was opened."""
    for _ in range(2):
        keep(library, ACME.seal(POLICY))
    figures = report(library)
    total = figures.opened[Category.KEYS]
    assert (total.batches, total.events, len(figures.subjects)) == (2, 2, 1)
    assert total.first == total.last
    assert all(isinstance(result, Opened) for _, result in opener(library).each())


def test_a_long_look_says_on_a_terminal_how_far_it_is_and_nowhere_else(
    library: Library, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand batches take a while; what is asked for as JSON stays that alone."""
    sealed = ACME.seal(POLICY)
    keep(library, sealed)

    def look(*, shown: bool) -> str:
        assert [batch for batch, _ in looked_at(opener(library), shown=shown)] == [sealed.hash]
        with opening_again(opener(library), 1, shown=shown) as again:
            assert isinstance(again(sealed.hash), Opened)
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    assert look(shown=True) == ""  # a file, or a pipe
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    assert look(shown=False) == ""
    said = look(shown=True)
    assert "batches" in said
    assert "openings" in said
    assert "1/1" in said
