"""The second lock opens for one thing only; every other request is refused by name."""

import msgspec
import pytest

from guard.keys import Found, Missing
from guard.release import Outcome, Refusal, Refused, Released, release
from guard.trust import PolicySet
from tests.fakes.organisation import (
    NOW,
    READER,
    Organisation,
    PolicyFolder,
    Sealed,
    ed25519,
    wall,
)
from wire.category import Category
from wire.errors import NotForUsError, WireError
from wire.frame import core_hash, split
from wire.grant import AccessGrant, AccessRequest, approve, longest_grant
from wire.guard_http import LoggedBatch, ReleaseRequest
from wire.ids import SubjectId, WallInstant, key_id
from wire.leaf import Kind, entry
from wire.opening import open_body, open_released
from wire.sealing import new_identity, recipient_of
from wire.tlog import Tree, leaf_hash
from wire.xwing import public_key_of

ACME = Organisation()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> PolicyFolder:
    return ACME.publish(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def acme() -> Organisation:
    ACME.tree = Tree()
    ACME.tree.append(leaf_hash(b"something before\n"))
    return ACME


def policy_set(published: PolicyFolder) -> PolicySet:
    return published.policy_set()


def has_key(subject: SubjectId, category: Category, month: str) -> Found | Missing:
    if (subject, category, month) != (ACME.subject, Category.KEYS, "2027-03"):
        return Missing.NEVER_MADE
    name = key_id(public_key_of(ACME.guard_seed))
    return Found(seed=ACME.guard_seed, key_id=name)


def ask(
    published: PolicyFolder,
    grant: AccessGrant,
    *batches: LoggedBatch,
    checkpoint: str | None = None,
    caller: str = READER,
    now: WallInstant | None = None,
    find_key: object = has_key,
) -> tuple[Outcome, ...] | Refused:
    note = checkpoint if checkpoint is not None else ACME.cosigned(ACME.checkpoint())
    return release(
        ReleaseRequest(grant=grant, checkpoint=note, batches=batches),
        caller=caller,
        policy_set=policy_set(published),
        find_key=find_key,  # type: ignore[arg-type]  # tests pass functions of this shape
        now=now or wall(NOW),
    )


def refusal(outcome: tuple[Outcome, ...] | Refused) -> Refusal:
    """Return the name of the one refusal, of the request or of its only batch."""
    if isinstance(outcome, Refused):
        return outcome.refusal
    (only,) = outcome
    assert isinstance(only, Refused)
    return only.refusal


def logged(acme: Organisation, published: PolicyFolder) -> tuple[Sealed, AccessGrant, LoggedBatch]:
    sealed, grant = acme.seal(published.digest), acme.grant()
    return sealed, grant, acme.log_release(sealed, grant, acme.recipient)


def test_a_logged_release_opens_for_the_reader_and_for_nobody_else(
    acme: Organisation, published: PolicyFolder
) -> None:
    """All ten checks pass; what comes out is sealed to the grant's recipient."""
    sealed, grant, batch = logged(acme, published)
    outcome = ask(published, grant, batch)
    assert isinstance(outcome, tuple)
    (released,) = outcome
    assert isinstance(released, Released)
    parts = split(sealed.frame)
    digest = core_hash(parts.core)
    header = open_released(released.sealed, acme.identity, digest)
    assert open_body(header, parts.body, acme.identity, digest)
    with pytest.raises(NotForUsError):
        open_released(released.sealed, new_identity(), digest)


# --- 1: the policy ------------------------------------------------------------------------


def test_an_expired_policy_releases_nothing(acme: Organisation, published: PolicyFolder) -> None:
    """Signatures are good for 90 days; after that somebody has to confirm."""
    _sealed, grant, batch = logged(acme, published)
    later = wall(NOW) + 91 * 86_400 * 10**9
    assert refusal(ask(published, grant, batch, now=WallInstant(later))) is Refusal.POLICY_INVALID


def test_a_policy_with_one_signature_releases_nothing(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Also when it lies in the guard's own folder."""
    _sealed, grant, batch = logged(acme, published)
    whole = policy_set(published)
    targets = msgspec.json.decode(whole.targets)
    targets["signatures"].pop()
    halved = msgspec.structs.replace(whole, targets=msgspec.json.encode(targets))
    outcome = release(
        ReleaseRequest(grant=grant, checkpoint=acme.cosigned(acme.checkpoint()), batches=(batch,)),
        caller=READER,
        policy_set=halved,
        find_key=has_key,
        now=wall(NOW),
    )
    assert refusal(outcome) is Refusal.POLICY_INVALID


# --- 2: the grant -------------------------------------------------------------------------


def grants_refused(acme: Organisation) -> dict[str, AccessGrant]:
    good = acme.grant()
    stranger = ed25519()
    return {
        "no approval": AccessGrant(request=good.request, approvals=()),
        "one approval of two": acme.grant(approvers=("Ada",)),
        "the same approver twice": acme.grant(approvers=("Ada", "Ada")),
        "an approver whom the policy does not name": AccessGrant(
            request=good.request,
            approvals=(*good.approvals, approve(good.request, "Mallory", stranger)),
        ),
        "an approval by another key": AccessGrant(
            request=good.request,
            approvals=(good.approvals[0], approve(good.request, "Grace", stranger)),
        ),
        "a request changed after approval": AccessGrant(
            request=good.request.replace(b"2027-03-31", b"2027-12-31"), approvals=good.approvals
        ),
        "expired": acme.grant(acme.request(expires_at=wall(NOW))),
        "for longer than a grant may last": acme.grant(
            acme.request(expires_at=WallInstant(longest_grant(wall(NOW)) + 1))
        ),
        "another programme": acme.grant(acme.request(programme="other")),
        "another purpose": acme.grant(acme.request(purpose="marketing")),
        "a prohibited purpose": acme.grant(acme.request(purpose="performance-evaluation")),
        "a recipient of nobody's": acme.grant(acme.request(recipient=recipient_of(new_identity()))),
        "days that are none": acme.grant(acme.request(first_day="2027-3-1")),
        "not a request at all": AccessGrant(request=b"{}", approvals=good.approvals),
    }


@pytest.mark.parametrize("case", sorted(grants_refused(Organisation())))
def test_a_grant_that_is_not_approved_as_it_must_be_opens_nothing(
    acme: Organisation, published: PolicyFolder, case: str
) -> None:
    """The guard checks each approval itself; a logged release changes nothing about that."""
    grant = grants_refused(acme)[case]
    batch = acme.log_release(acme.seal(published.digest), grant, acme.recipient)
    assert refusal(ask(published, grant, batch)) is Refusal.GRANT_REFUSED


# --- 3 and 4: the caller and the checkpoint -----------------------------------------------


def test_another_reader_cannot_use_the_grant(acme: Organisation, published: PolicyFolder) -> None:
    """The certificate has to name the reader whom the grant names."""
    _sealed, grant, batch = logged(acme, published)
    outcome = ask(published, grant, batch, caller="other-team")
    assert refusal(outcome) is Refusal.WRONG_READER


def test_a_checkpoint_that_this_guard_did_not_cosign_opens_nothing(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Signed by the log is not enough: nobody has seen that the log only grew."""
    _sealed, grant, batch = logged(acme, published)
    bare = ask(published, grant, batch, checkpoint=acme.checkpoint())
    assert refusal(bare) is Refusal.CHECKPOINT_FOREIGN
    other = acme.cosigned(acme.checkpoint(), key=ed25519())
    assert refusal(ask(published, grant, batch, checkpoint=other)) is Refusal.CHECKPOINT_FOREIGN


def test_a_checkpoint_of_another_log_opens_nothing(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Also when it is well formed and of the same name."""
    _sealed, grant, batch = logged(acme, published)
    foreign = acme.cosigned(acme.checkpoint(key=ed25519()))
    assert refusal(ask(published, grant, batch, checkpoint=foreign)) is Refusal.CHECKPOINT_FOREIGN
    assert refusal(ask(published, grant, batch, checkpoint="")) is Refusal.CHECKPOINT_FOREIGN


# --- 5 and 6: the core --------------------------------------------------------------------


def test_a_core_in_another_encoding_is_refused(acme: Organisation, published: PolicyFolder) -> None:
    """There is one way to write a core."""
    _sealed, grant, batch = logged(acme, published)
    for core in (b"", batch.core + b"\0", batch.core[:-1]):
        changed = msgspec.structs.replace(batch, core=core)
        assert refusal(ask(published, grant, changed)) is Refusal.CORE_MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "other"},
        {"programme": "other"},
        {"purpose": "marketing"},
        {"category": Category.SCREEN},
        {"day": "2027-02-28"},
        {"day": "2027-04-01"},
        {"expires": "2027-03-14"},
        {"recipients": (key_id(public_key_of(bytes(32))),)},
    ],
    ids=lambda changes: "-".join(map(str, changes)) + "=" + str(*changes.values())[:10],
)
def test_a_batch_outside_the_grant_is_refused(
    acme: Organisation, published: PolicyFolder, changes: dict[str, object]
) -> None:
    """Other tenant, programme, purpose, category, day or recipient, or kept for too long."""
    sealed = acme.seal(published.digest)
    outside = _with_core(sealed, **changes)
    grant = acme.grant()
    batch = acme.log_release(outside, grant, acme.recipient)
    assert refusal(ask(published, grant, batch)) is Refusal.NOT_COVERED


def test_the_first_and_the_last_day_of_a_grant_are_covered(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Both ends are included."""
    grant = acme.grant()
    batches = [
        acme.log_release(acme.seal(published.digest, day=day), grant, acme.recipient)
        for day in ("2027-03-01", "2027-03-31")
    ]
    refreshed = [
        msgspec.structs.replace(b, proof=acme.tree.inclusion(b.index, acme.tree.size))
        for b in batches
    ]
    outcome = ask(published, grant, *refreshed)
    assert isinstance(outcome, tuple)
    assert all(isinstance(one, Released) for one in outcome)


# --- 7 and 8: the log ---------------------------------------------------------------------


def test_a_release_that_is_not_in_the_log_is_refused(
    acme: Organisation, published: PolicyFolder
) -> None:
    """No log, no key: a right entry with a proof for something else does not do."""
    sealed, grant = acme.seal(published.digest), acme.grant()
    elsewhere = Tree()
    real, acme.tree = acme.tree, elsewhere
    batch = acme.log_release(sealed, grant, acme.recipient)
    acme.tree = real
    assert refusal(ask(published, grant, batch)) is Refusal.NOT_IN_LOG
    borrowed = msgspec.structs.replace(batch, index=0, proof=real.inclusion(0, real.size))
    assert refusal(ask(published, grant, borrowed)) is Refusal.NOT_IN_LOG


def test_a_release_logged_after_the_checkpoint_is_refused(
    acme: Organisation, published: PolicyFolder
) -> None:
    """What counts is what the witness has seen."""
    before = acme.cosigned(acme.checkpoint())
    _sealed, grant, batch = logged(acme, published)
    assert refusal(ask(published, grant, batch, checkpoint=before)) is Refusal.NOT_IN_LOG


def test_the_leaf_of_one_release_opens_no_other(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Not another batch, not under another grant, not to another recipient."""
    _sealed, grant, batch = logged(acme, published)
    other = acme.log_release(acme.seal(published.digest), grant, acme.recipient)
    swapped = msgspec.structs.replace(
        other, entry=batch.entry, salt=batch.salt, index=batch.index, proof=batch.proof
    )
    assert refusal(ask(published, grant, swapped)) is Refusal.LEAF_OF_ANOTHER
    renamed = msgspec.structs.replace(batch, batch_hash=other.batch_hash)
    assert refusal(ask(published, grant, renamed)) is Refusal.LEAF_OF_ANOTHER
    second = acme.grant(acme.request(request_id="r-2"))
    assert refusal(ask(published, second, batch)) is Refusal.LEAF_OF_ANOTHER
    to_other = acme.log_release(_sealed, grant, recipient_of(new_identity()))
    assert refusal(ask(published, grant, to_other)) is Refusal.LEAF_OF_ANOTHER


def test_a_leaf_of_another_kind_announces_no_release(
    acme: Organisation, published: PolicyFolder
) -> None:
    """The entry that says "batch received" is in the log too, and does not do."""
    _sealed, grant, batch = logged(acme, published)
    leaf = entry(Kind.BATCH, b"x", batch.salt)
    index = acme.tree.append(leaf_hash(leaf))
    other = msgspec.structs.replace(
        batch, entry=leaf, index=index, proof=acme.tree.inclusion(index, acme.tree.size)
    )
    assert refusal(ask(published, grant, other)) is Refusal.LEAF_OF_ANOTHER


# --- 9 and 10: the key and the shelf ------------------------------------------------------


def test_an_erased_key_opens_nothing_for_ever(acme: Organisation, published: PolicyFolder) -> None:
    """Erasure needs no touch to any batch."""
    _sealed, grant, batch = logged(acme, published)
    outcome = ask(published, grant, batch, find_key=lambda *_: Missing.ERASED)
    assert refusal(outcome) is Refusal.KEY_ERASED


def test_a_key_that_the_core_does_not_name_is_not_tried(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Never made, or another one than the core says."""
    _sealed, grant, batch = logged(acme, published)
    never = ask(published, grant, batch, find_key=lambda *_: Missing.NEVER_MADE)
    assert refusal(never) is Refusal.KEY_UNKNOWN
    other = Found(seed=bytes(32), key_id=key_id(public_key_of(bytes(32))))
    assert refusal(ask(published, grant, batch, find_key=lambda *_: other)) is Refusal.KEY_UNKNOWN


def test_the_shelf_of_another_batch_is_refused(acme: Organisation, published: PolicyFolder) -> None:
    """A shelf fits one core, so a logged release of one batch never opens another."""
    _sealed, grant, batch = logged(acme, published)
    other = split(acme.seal(published.digest).frame)
    for shelf in (other.shelf, b"", batch.shelf[:-1]):
        changed = msgspec.structs.replace(batch, shelf=shelf)
        assert refusal(ask(published, grant, changed)) is Refusal.SHELF_FORGED


def test_one_bad_batch_does_not_stop_the_others(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Each batch has an answer of its own, in the order asked."""
    _sealed, grant, batch = logged(acme, published)
    bad = msgspec.structs.replace(batch, shelf=b"")
    outcome = ask(published, grant, bad, batch, bad)
    assert isinstance(outcome, tuple)
    assert [type(one) for one in outcome] == [Refused, Released, Refused]


def test_everything_the_collector_has_and_the_readers_key_open_nothing(
    acme: Organisation, published: PolicyFolder
) -> None:
    """Two locks: frame, log, receipts and the reader's identity without the guard's part."""
    sealed = acme.seal(published.digest)
    parts = split(sealed.frame)
    digest = core_hash(parts.core)
    for header in (parts.shelf, parts.body, parts.core):
        with pytest.raises(WireError):
            open_body(header, parts.body, acme.identity, digest)
        with pytest.raises(NotForUsError):
            open_released(header, acme.identity, digest)
    assert b"age-encryption.org" not in sealed.frame


def _with_core(sealed: Sealed, **changes: object) -> Sealed:
    """Return the frame with another core; its signature no longer holds, which is not checked."""
    from wire.frame import encode_core, join_unsigned, trailer  # noqa: PLC0415

    parts = split(sealed.frame)
    core = encode_core(msgspec.structs.replace(sealed.core, **changes))
    frame = join_unsigned(core, parts.shelf, parts.body) + trailer(1, parts.signature)
    return Sealed(frame=frame, core=sealed.core, consent=sealed.consent)


def test_the_request_of_the_specification_is_what_the_guard_reads(
    acme: Organisation, published: PolicyFolder
) -> None:
    """The JSON of guard-http-v1 survives writing and reading."""
    _sealed, grant, batch = logged(acme, published)
    asked = ReleaseRequest(grant=grant, checkpoint="x\n", batches=(batch,))
    assert msgspec.json.decode(msgspec.json.encode(asked), type=ReleaseRequest) == asked
    assert isinstance(msgspec.json.decode(grant.request, type=AccessRequest), AccessRequest)
