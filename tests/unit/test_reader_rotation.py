"""A reader changes its key, from `keys rotate` to the last release, over real doors.

Collector, guard and reader are the real ones; a device without a desktop seals.
"""

import errno
import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import pytest

from base.command import outcome
from base.durable import replace
from base.errors import ExitCode, RejectedError
from base.paths import paths_for
from base.pki import Role, client_uri
from collector import enrol
from governance.files import read_recipient
from governance.recipients import revoked, rotated
from reader.__main__ import cli
from reader.fetch import Collector, Guard
from reader.keys import all_keys, entry, make_keys, of_period
from reader.library import Library
from reader.premises import Premises, connect
from tests.fakes.device import Device, today
from tests.fakes.organisation import READER
from tests.fakes.site import TENANT, Site, collector_site
from wire.category import Category
from wire.collector_http import ReleaseOrder
from wire.errors import WireError
from wire.event import Key
from wire.frame import split
from wire.grant import AccessGrant, SignedConsent, decode_request
from wire.guard_http import LoggedBatch, ReleaseRequest
from wire.ids import BatchHash, BootInstant
from wire.narrowing import widened
from wire.policy import KeyState, Policy
from wire.recipients import id_of


@dataclass(kw_only=True)
class Acme:
    """A site, a device that agreed once, under the first policy, and a reader."""

    site: Site
    device: Device
    consent: SignedConsent
    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def premises(self) -> Premises:
        return Premises(paths_for("reader"))

    def publishes(self, policy: Policy) -> None:
        """Put *policy* in force everywhere; the device goes on under its first consent."""
        self.site.publishes(**{k: getattr(policy, k) for k in ("version", "recipients")})
        self.device.document = self.device.door.request("GET", "/v1/policy/policy.json").body

    def sends(self) -> str:
        """Seal what was typed under the policy in force, and hand it in; return its name."""
        typed = Key(at=BootInstant(1), sequence=1, pressed=True, kind="letter")
        key = self.device.guard_key(Category.KEYS)
        return self.device.upload(self.device.seal(self.consent, key, typed)).hex()

    def reads(self, *words: object) -> tuple[int, str]:
        """Run a command of the reader; return its exit code and what it said."""
        line = [str(word) for word in words]
        code = outcome(cli, "assent-reader", line, refusals=(WireError,))
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def requests(self, *words: object) -> list[Path]:
        """Ask for today; return the requests, the newest key's first."""
        out = self.folder / "request.json"
        for path in self.folder.glob("request*.json"):
            path.unlink()
        asked = ("--programme", "pilot", "--category", "keys", "--why", "training")
        days = ("--from", today(), "--to", today())
        code, said = self.reads("request", *asked, *days, *words, "--out", out)
        assert code == ExitCode.DONE, said
        return [out, *sorted(p for p in self.folder.glob("request.*.json") if p != out)]

    def grant(self, request: Path) -> Path:
        """Have a request approved by both approvers."""
        path = self.folder / f"grant-{request.name}"
        asked = decode_request(request.read_bytes())
        path.write_bytes(msgspec.json.encode(self.site.org.grant(asked)))
        return path

    def opened(self) -> int:
        code, said = self.reads("open", "--json")
        assert code == ExitCode.DONE, said
        found: dict[str, dict[str, int]] = json.loads(said)["opened"]
        return found.get("keys", {}).get("batches", 0)


@pytest.fixture
def acme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Acme]:
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("reader.__main__.become_undumpable", lambda: None)
    premises = Premises(paths_for("reader"))
    make_keys(premises, READER, datetime.now(UTC).date())
    first = read_recipient(premises.entry_file)
    with collector_site(tmp_path / "site", recipients=(first,)) as site:
        connects(site, premises)
        device = Device(tmp_path / "ada", site.enrolment_file()).enrol()
        consent = device.agree(Category.KEYS)
        yield Acme(site=site, device=device, consent=consent, folder=tmp_path, capsys=capsys)
        device.door.close()


def connects(site: Site, premises: Premises) -> None:
    """Certify the reader at collector and guard, and say to it where they are."""
    csr = premises.request_file.read_bytes()
    registry, now = site.collector.registry, site.collector.now()
    with site.collector.index.writing() as connection:
        ours = enrol.certify_reader(connection, registry, csr, READER, now)
    theirs = site.guard.authority.certify(csr, client_uri(TENANT, Role.READER, READER))
    for peer, origin, pin, authority, certificate in (
        *(
            ("collector", site.origin, site.premises.tls_pin(), site.premises.trusted_pem(), c)
            for c in [ours.certificate.encode()]
        ),
        ("guard", site.guard.origin, site.guard.pin, site.guard.authority.pem.decode(), theirs),
    ):
        connect(
            premises,
            peer,
            origin=origin,
            pins=(pin,),
            authority=authority.encode(),
            certificate=certificate,
        )


def rotates(acme: Acme) -> Policy:
    """Make a new key, and put it into the next policy."""
    code, said = acme.reads("keys", "rotate")
    assert code == ExitCode.DONE, said
    next_one = rotated(acme.site.policy, read_recipient(acme.premises.entry_file))
    acme.publishes(next_one)
    return next_one


def test_what_was_sealed_to_either_key_is_opened_until_a_key_is_revoked(acme: Acme) -> None:
    """Sealed with the old key, rotated, sealed with the new one; then revoked, then nothing."""
    first, before = acme.sends(), acme.site.policy
    after = rotates(acme)
    assert not any(widened(before, after).values())  # the consent of then still holds
    acme.sends()
    newer, older = acme.requests()
    new, old = all_keys(acme.premises)
    assert [decode_request(p.read_bytes()).recipient for p in (newer, older)] == [
        new.recipient,
        old.recipient,
    ]

    code, said = acme.reads("fetch", "--grant", acme.grant(newer), "--json")
    tally = json.loads(said)
    assert (code, tally["released"], tally["other_key"]) == (ExitCode.DONE, 1, 1)
    assert acme.opened() == 1
    code, said = acme.reads("fetch", "--grant", acme.grant(older), "--json")
    assert (code, json.loads(said)["released"]) == (ExitCode.DONE, 1)
    assert acme.opened() == 2
    facts = json.loads(acme.reads("keys", "list", "--json")[1])
    assert [(one["id"], one["batches"]) for one in facts] == [(new.id, 1), (old.id, 1)]

    ended = revoked(acme.site.policy, old.id)
    assert not any(widened(before, ended).values())
    acme.publishes(ended)
    Library(acme.premises.paths.state).drop(BatchHash(bytes.fromhex(first)))
    code, said = acme.reads("fetch", "--grant", acme.grant(older))
    assert code == ExitCode.REJECTED, said
    assert "revoked" in said
    assert acme.opened() == 1
    acme.sends()  # the newer key goes on
    assert acme.reads("fetch", "--grant", acme.grant(newer))[0] == ExitCode.DONE
    assert acme.opened() == 2


def test_collector_and_guard_each_refuse_a_grant_for_a_revoked_key(acme: Acme) -> None:
    """The reader's program refuses first; whoever leaves that out gets no further."""
    name = acme.sends()
    rotates(acme)
    grant = msgspec.json.decode(acme.grant(acme.requests()[1]).read_bytes(), type=AccessGrant)
    order = ReleaseOrder(grant=grant, batches=(bytes.fromhex(name),))
    collector, guard = Collector(acme.premises), Guard(acme.premises)
    with closing(collector), closing(guard):
        logged = collector.releases(order)
        parts = split(collector.frame(BatchHash(bytes.fromhex(name))) or b"")
        (one,) = logged.releases
        asked = ReleaseRequest(
            grant=grant,
            checkpoint=logged.checkpoint,
            batches=(
                LoggedBatch(
                    core=parts.core,
                    shelf=parts.shelf,
                    **{each: getattr(one, each) for each in one.__struct_fields__},
                ),
            ),
        )
        assert guard.release(asked).batches[0].released is not None
        acme.publishes(revoked(acme.site.policy, all_keys(acme.premises)[1].id))
        with pytest.raises(RejectedError, match=r"grant-refused.*revoked"):
            collector.releases(order)
        with pytest.raises(RejectedError, match="revoked"):
            guard.release(asked)


def test_a_batch_sealed_to_the_old_key_is_not_released_to_the_new_one(acme: Acme) -> None:
    """Nobody re-seals across keys: what the device sealed to is what counts."""
    acme.sends()
    rotates(acme)
    code, said = acme.reads("fetch", "--grant", acme.grant(acme.requests()[0]), "--json")
    tally = json.loads(said)
    assert (code, tally["released"], tally["other_key"]) == (ExitCode.DONE, 0, 1)
    assert acme.opened() == 0


def test_new_batches_are_not_sealed_to_a_key_that_only_opens(acme: Acme) -> None:
    """From the policy on; and an old key gets nothing new by a grant of its own."""
    rotates(acme)
    acme.sends()
    old = all_keys(acme.premises)[1]
    (only,) = acme.requests("--key", old.id[:8])
    assert decode_request(only.read_bytes()).recipient == old.recipient
    code, said = acme.reads("fetch", "--grant", acme.grant(only), "--json")
    tally = json.loads(said)
    assert (code, tally["released"], tally["other_key"]) == (ExitCode.DONE, 0, 1)


def test_a_destroyed_key_opens_nothing_and_the_command_says_what(acme: Acme) -> None:
    """It names the batches here first, asks, and never takes the key in use."""
    acme.sends()
    rotates(acme)
    acme.reads("fetch", "--grant", acme.grant(acme.requests()[1]))
    assert acme.opened() == 1
    new, old = all_keys(acme.premises)
    code, said = acme.reads("keys", "destroy", new.id, "--yes")
    assert (code, "key in use" in said) == (ExitCode.SETUP, True)
    code, said = acme.reads("keys", "destroy", old.id)
    assert (code != ExitCode.DONE, "1 batches here, 1 of them released" in said) == (True, True)
    assert acme.opened() == 1
    code, said = acme.reads("keys", "destroy", old.id, "--yes")
    assert code == ExitCode.DONE, said
    assert [key.id for key in all_keys(acme.premises)] == [new.id]
    assert old.identity not in "".join(
        path.read_text() for path in acme.premises.paths.config.rglob("*.*") if path.is_file()
    )
    code, said = acme.reads("open", "--json")
    assert json.loads(said)["opened"] == {}


def test_before_its_policy_a_new_key_changes_nothing(acme: Acme) -> None:
    """Devices go on sealing to the old one, and it goes on opening."""
    assert acme.reads("keys", "rotate")[0] == ExitCode.DONE
    acme.sends()
    old = acme.requests()[1]
    assert acme.reads("fetch", "--grant", acme.grant(old))[0] == ExitCode.DONE
    assert acme.opened() == 1
    assert acme.site.policy.recipients[0].state is KeyState.SEALED_TO


def test_what_the_policy_is_to_say_follows_from_the_identities(acme: Acme) -> None:
    """The entry names the key before it, and its holder's word; the old identity is kept."""
    before = acme.premises.identity()
    code, said = acme.reads("keys", "rotate", "--json")
    assert code == ExitCode.DONE
    new, old = all_keys(acme.premises)
    made = read_recipient(acme.premises.entry_file)
    assert old.identity == before != new.identity
    assert (made.key, made.follows) == (new.recipient, old.id)
    assert old.id == id_of(old.recipient)
    assert json.loads(said)["key"] == new.id
    for path in (old.path, new.path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_days_that_are_none_are_one_line(acme: Acme) -> None:
    """A damaged keys.json is said, and deleting it costs the days alone."""
    file = acme.premises.dates_file
    for text in ('{"made_on":{"ab":"yesterday"}}', '{"made_on":', "[]", '{"other":1}'):
        file.write_text(text)
        code, said = acme.reads("keys", "list")
        assert (code, "delete it" in said) == (ExitCode.SETUP, True), said
    file.write_text('{"version":99}')
    code, said = acme.reads("keys", "list")
    assert (code, "later version" in said) == (ExitCode.SETUP, True), said
    file.unlink()
    assert acme.reads("keys", "rotate")[0] == ExitCode.DONE
    assert len(acme.requests()) == 2


def test_a_period_asks_for_the_keys_that_it_may_need(acme: Acme) -> None:
    """None that was made later, none that was replaced long before; at least one."""

    def asked(first: str, last: str) -> list[str]:
        return [key.id for key in of_period(keys, first, last)]

    assert acme.reads("keys", "rotate")[0] == ExitCode.DONE
    new, old = all_keys(acme.premises)
    made = '{{"made_on":{{"{}":"2027-01-01","{}":"2027-03-01"}}}}'
    acme.premises.dates_file.write_text(made.format(old.id, new.id))
    keys = all_keys(acme.premises)
    assert asked("2027-01-15", "2027-01-31") == [old.id]
    assert asked("2027-02-15", "2027-03-15") == [new.id, old.id]
    assert asked("2027-04-01", "2027-04-30") == [new.id, old.id]  # the policy may have come late
    assert asked("2027-06-01", "2027-06-30") == [new.id]
    assert asked("2026-06-01", "2026-06-30") == []


def test_a_crash_in_a_rotation_leaves_the_old_key_in_use_or_the_new_one_beside_it(
    acme: Acme, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write of it: one identity at least opens what the last policy seals to."""
    before = all_keys(acme.premises)[0]
    for number in range(1, 7):
        with monkeypatch.context() as patch:
            patch.setattr("reader.keys.replace", partial(fails_at, number, itertools.count(1)))
            acme.reads("keys", "rotate")
        keys = all_keys(acme.premises)
        assert before.identity in {key.identity for key in keys}
        assert entry(acme.premises).key == keys[0].recipient


def fails_at(
    number: int, writes: Iterator[int], path: Path, data: bytes, *, mode: int = 0o600
) -> None:
    """Write like `replace`, but for the write of that number."""
    if next(writes) == number:
        raise OSError(errno.EIO, "input/output error")
    replace(path, data, mode=mode)
