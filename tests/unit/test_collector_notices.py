"""Told outside the workstation: a yes, a withdrawal, durably, and never content."""

import json
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select

from base.clock import NANOSECONDS
from base.https import Response
from collector.__main__ import cli
from collector.commands import proof
from collector.index.tables import notices
from collector.operators import facts
from collector.rights.notices import FIRST_WAIT_SECONDS, Messenger, untold
from tests.conftest import NewPlace
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.category import Category
from wire.collector_http import Logged, verify_logged
from wire.consent_event import ConsentEvent, SignedEvent, sign_event
from wire.grant import CONSENT_LABEL, SignedConsent, grant_hash
from wire.ids import WallInstant
from wire.leaf import Kind, event_payload
from wire.linked import CONTEXT, ConsentState

EXAMPLES: Final = Path(__file__).parents[2] / "packaging" / "examples"
LABEL: Final = "ada@acme.example"
SECOND: Final = 1_000_000_000


@pytest.fixture
def site(tmp_path: Path, new_place: NewPlace) -> Iterator[Site]:
    with collector_site(tmp_path / "site", index_url=new_place(tmp_path).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation(LABEL)


def ends(
    workstation: Workstation, signed: SignedConsent, state: ConsentState = ConsentState.WITHDRAWN
) -> SignedEvent:
    event = ConsentEvent(
        grant=grant_hash(signed), state=state, at=WallInstant(workstation.site.collector.now())
    )
    return sign_event(event, workstation.org.device)


def tells(workstation: Workstation, event: SignedEvent) -> Response:
    return workstation.door.request("POST", "/v1/consent-events", msgspec.json.encode(event))


def command(folder: Path, status: int = 0) -> Path:
    """Return a `notify_command` that keeps what it was told and ends with *status*."""
    script = folder / "notify"
    script.write_text(f'#!/bin/sh\ncat >> "{folder}/told"\nexit {status}\n', "utf-8")
    script.chmod(stat.S_IRWXU)
    return script


def told(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / "told").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def messenger(site: Site, script: Path, now: int = 0) -> Messenger:
    return Messenger(
        site.collector.index, str(script), lambda: WallInstant(site.collector.now() + now)
    )


# --- what becomes of a consent ----------------------------------------------------------


def test_a_withdrawal_is_kept_with_its_consent_and_stands_in_the_log(
    site: Site, workstation: Workstation
) -> None:
    """The device can check the leaf, and saying it twice is saying it."""
    event = ends(workstation, workstation.consents())
    first, again = tells(workstation, event), tells(workstation, event)
    logged = msgspec.json.decode(first.body, type=Logged)
    verify_logged(logged, Kind.CONSENT_EVENT, event_payload(event.event), site.policy.collector.log)
    assert (first.status, again.status, again.body) == (201, 200, first.body)


def test_what_became_of_a_consent_is_said_by_its_device_alone(
    site: Site, workstation: Workstation
) -> None:
    """Nobody withdraws for somebody else, nor says yes this way."""
    signed = workstation.consents()
    other = site.workstation()
    assert refusal(tells(other, ends(workstation, signed))) == (422, "forged")
    foreign = sign_event(
        ConsentEvent(grant=grant_hash(signed), state=ConsentState.WITHDRAWN, at=WallInstant(0)),
        other.org.device,
    )
    assert refusal(tells(other, foreign)) == (409, "consent-unknown")
    yes = ends(workstation, signed, ConsentState.GIVEN)
    assert refusal(tells(workstation, yes)) == (422, "malformed")


def test_a_withdrawal_is_taken_during_a_halt(site: Site, workstation: Workstation) -> None:
    """A no may always be said."""
    event = ends(workstation, workstation.consents())
    site.halts("stop")
    answer = tells(workstation, event)
    site.publishes()
    assert answer.status == 201


@pytest.mark.parametrize("field", ["recipients", "retention_days", "prohibited", "controller"])
def test_a_record_that_says_something_else_than_the_policy_is_refused(
    workstation: Workstation, field: str
) -> None:
    """A proof that names other recipients than were asked for would prove nothing."""
    others: dict[str, object] = {
        "recipients": ("somebody-else",),
        "retention_days": 9_999,
        "prohibited": (),
        "controller": workstation.site.policy.representatives,
    }
    signed = workstation.consent(Category.KEYS, **{field: others[field]})
    assert refusal(workstation.registers(signed)) == (422, "consent-mismatch")


def test_a_refusal_is_no_consent(workstation: Workstation) -> None:
    """A record of a no opens nothing."""
    signed = workstation.consent(Category.KEYS, state=ConsentState.REFUSED)
    assert refusal(workstation.registers(signed)) == (422, "consent-mismatch")


def test_the_controller_can_prove_each_consent_and_sees_no_content(
    site: Site, workstation: Workstation
) -> None:
    """GDPR art. 7(1): the signed record, the key that checks it, and what became of it."""
    signed = workstation.consents()
    tells(workstation, ends(workstation, signed))
    with site.collector.index.reading() as connection:
        [known] = proof.everything(connection)
    shown = msgspec.json.decode(msgspec.json.encode(known))
    agreed = datetime.fromtimestamp(workstation.agrees_at // NANOSECONDS, UTC)
    assert shown["state"] == "dpv:ConsentWithdrawn"
    assert shown["given_at"].startswith(f"{agreed:%Y-%m-%dT%H:%M}")
    assert known.record["@context"] == CONTEXT
    record = msgspec.json.encode(known.record)
    assert record == signed.record
    key = Ed25519PublicKey.from_public_bytes(known.device_key)
    key.verify(known.signature, CONSENT_LABEL + record)


def test_the_list_of_consents_is_for_people_too(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which, what became of it, and whether the person was told."""
    workstation.consents()
    monkeypatch.setattr(proof, "paths_for", lambda _program: site.premises.paths)
    plain = CliRunner().invoke(cli, ["consents"], catch_exceptions=False).output
    assert "keys" in plain
    assert "not yet" in plain
    assert "given" in plain
    day = datetime.fromtimestamp(workstation.agrees_at // NANOSECONDS, UTC)
    assert f"{day:%Y-%m-%d %H:%M}" in plain  # nothing of it is cut short in 80 columns
    assert "…" not in plain
    shown = CliRunner().invoke(cli, ["consents", "--json"], catch_exceptions=False).output
    [one] = json.loads(shown)
    assert (one["state"], one["told"]) == ("dpv:ConsentGiven", False)


# --- telling ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["[/b]", "\x1b[8m", "", "A6F58318-72E6-46A2-BFD7-F36D795E30CD", "a" * 36, "\u202eid"]
)
def test_a_device_does_not_write_on_the_terminal_of_who_lists_consents(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The id of a record is its device's word, and stands in the list: it is a UUID, or refused."""
    monkeypatch.setattr(proof, "Premises", lambda _paths: site.premises)
    answer = workstation.registers(workstation.consent(record_id=name))
    listed = CliRunner().invoke(cli, ["consents"])
    assert listed.exception is None
    assert "\x1b[8m" not in listed.output
    assert refusal(answer) == (422, "forged")


def test_a_yes_and_a_no_are_told_to_whom_the_device_is_for(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """In their order, each once, with the same words as the receipt."""
    signed = workstation.consents()
    tells(workstation, ends(workstation, signed))
    tells(workstation, ends(workstation, signed))
    workstation.registers(signed)
    post = messenger(site, command(tmp_path))
    assert [post.deliver(), post.deliver(), post.deliver()] == [True, True, False]

    first, second = told(tmp_path)
    assert (first["to"], first["state"], first["category"]) == (LABEL, "dpv:ConsentGiven", "keys")
    assert second["state"] == "dpv:ConsentWithdrawn"
    assert first["record"] == second["record"]
    assert first["id"] != second["id"]


def test_a_notice_says_nothing_that_was_recorded_and_nobodys_pseudonym(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """To whom, what was agreed to, and when: these fields and no other."""
    workstation.seals(workstation.consents())
    messenger(site, command(tmp_path)).deliver()
    [notice] = told(tmp_path)
    assert set(notice) == {
        "id", "to", "state", "category", "title", "level", "programme", "controller", "purpose",
        "record", "at", "received",
    }  # fmt: skip
    said = json.dumps(notice)
    assert workstation.org.subject.hex() not in said
    assert workstation.id.hex() not in said


def test_without_a_label_nobody_is_told(site: Site, tmp_path: Path) -> None:
    """The collector knows nobody's name unless its operator gives it one."""
    site.workstation().consents()
    assert not messenger(site, command(tmp_path)).deliver()
    assert told(tmp_path) == []


@pytest.mark.parametrize("trouble", ["fails", "is missing", "is no program"])
def test_a_notice_that_could_not_be_delivered_is_tried_again(
    site: Site, workstation: Workstation, tmp_path: Path, trouble: str
) -> None:
    """With longer and longer waits, and it is counted as not told."""
    workstation.consents()
    script = command(tmp_path, status=1)
    if trouble == "is missing":
        script.unlink()
    if trouble == "is no program":
        script.chmod(stat.S_IRUSR)
    assert messenger(site, script).deliver()
    assert not messenger(site, script).deliver()  # not due yet
    with site.collector.index.reading() as connection:
        assert untold(connection) == 1

    script.unlink(missing_ok=True)
    (tmp_path / "told").unlink(missing_ok=True)
    later = messenger(site, command(tmp_path), now=(FIRST_WAIT_SECONDS + 1) * SECOND)
    assert later.deliver()
    assert [notice["to"] for notice in told(tmp_path)] == [LABEL]
    with site.collector.index.reading() as connection:
        assert untold(connection) == 0


def test_a_notice_that_failed_while_the_clock_was_ahead_is_told_when_it_is_right(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """By a clock that is a year ahead it would be tried again in a year."""
    workstation.consents()
    year = 365 * 24 * 3600 * SECOND
    assert messenger(site, command(tmp_path, status=1), now=year).deliver()
    (tmp_path / "told").unlink()
    assert messenger(site, command(tmp_path)).deliver()
    assert [notice["to"] for notice in told(tmp_path)] == [LABEL]


def test_the_status_says_how_many_wait(site: Site, workstation: Workstation) -> None:
    """So that an operator without a notify_command, or with a broken one, sees it."""
    workstation.consents()
    with site.collector.index.reading() as connection:
        found = facts.status(
            connection, facts.Card(**dict.fromkeys(facts.Card.__struct_fields__, ""))
        )
    assert found.notices_wait


def test_a_crash_before_it_is_marked_tells_it_again_with_the_same_id(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """Told twice is better than never; the id says that it is the same."""
    workstation.consents()
    post = messenger(site, command(tmp_path))
    with site.collector.index.reading() as connection:
        row = connection.execute(select(notices)).one()
    post._hand_over(row.notice)  # noqa: SLF001 - and then the power fails
    assert messenger(site, command(tmp_path)).deliver()
    first, second = told(tmp_path)
    assert first == second


def test_the_thread_delivers_what_an_earlier_run_left(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """As `serve` runs it: started, and stopped without losing anything."""
    workstation.consents()
    pipe = tmp_path / "pipe"
    subprocess.run(["mkfifo", str(pipe)], check=True)
    script = tmp_path / "notify"
    script.write_text(f'#!/bin/sh\ncat > "{pipe}"\n', "utf-8")
    script.chmod(stat.S_IRWXU)
    post = messenger(site, script)
    post.start()
    try:
        assert json.loads(pipe.read_text("utf-8"))["to"] == LABEL  # waits for the writer
    finally:
        post.stop()
    with site.collector.index.reading() as connection:
        assert untold(connection) == 0


# --- the two examples -------------------------------------------------------------------


def notice(**changes: str) -> bytes:
    return json.dumps(
        {
            "id": "ab-ConsentGiven",
            "to": LABEL,
            "state": "dpv:ConsentGiven",
            "category": "keys",
            "title": "Keyboard",
            "level": "classes",
            "programme": "pilot",
            "controller": "Acme Ltd",
            "purpose": "to train AI that uses computers",
            "record": "a6f58318",
            "at": "2027-03-15T12:00:00.000000000Z",
            "received": "2027-03-15T12:00:01.000000000Z",
        }
        | changes
    ).encode()


@pytest.mark.parametrize("state", [s for s in ConsentState if s is not ConsentState.REFUSED])
def test_the_mail_example_hands_a_whole_mail_to_sendmail(
    tmp_path: Path, state: ConsentState
) -> None:
    """To whom, about what, and what to do if it was somebody else."""
    sendmail = command(tmp_path)
    subprocess.run(
        [EXAMPLES / "notify-by-mail"],
        input=notice(state=state),
        env={"ASSENT_SENDMAIL": str(sendmail)},
        check=True,
    )
    mail = (tmp_path / "told").read_text("utf-8")
    assert f"To: {LABEL}\n" in mail
    assert "Message-ID: <ab-ConsentGiven@" in mail
    assert "Keyboard, level classes" in mail
    assert "somebody acted in your name" in mail


def test_the_mail_example_fails_when_sendmail_does(tmp_path: Path) -> None:
    """So the collector tries again."""
    done = subprocess.run(
        [EXAMPLES / "notify-by-mail"],
        input=notice(),
        env={"ASSENT_SENDMAIL": str(command(tmp_path, status=75))},
        check=False,
    )
    assert done.returncode == 75


def test_the_letter_example_writes_one_letter_however_often_it_is_told(tmp_path: Path) -> None:
    """Named by the id."""
    for _ in range(2):
        subprocess.run(
            [EXAMPLES / "notify-by-letter"],
            input=notice(),
            env={"ASSENT_LETTERS": str(tmp_path)},
            check=True,
        )
    [letter] = tmp_path.iterdir()
    assert letter.name == "ab-ConsentGiven.txt"
    assert letter.read_text("utf-8").startswith(f"To: {LABEL}\n")
