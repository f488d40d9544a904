"""The notices of an exposure: to each person, to the supervisory authority, to the council.

Plain text, to be read before it is sent.  To people as GDPR, article 34 asks: what happened, what
of theirs, what follows, what they can do.  To the authority the fields of article 33(3), which asks
for approximate numbers.  Both it and the council are told of ten people and more; the numbers as
they are stand in one file, for whoever has to send all this.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select

from base import durable
from collector.exposure.counts import in_words, told
from collector.exposure.report import Access, Exposure, OfSubject
from collector.index import Index
from collector.index.tables import consents, devices
from wire.category import registry
from wire.ids import WallInstant
from wire.linked import instant
from wire.policy import Policy

PEOPLE: Final = "people"
AUTHORITY: Final = "authority.txt"
COUNCIL: Final = "council.txt"
EXACT: Final = "exact.txt"  # to be sent to nobody


def write_notices(
    index: Index, found: Exposure, policy: Policy, folder: Path, now: WallInstant
) -> int:
    """Write the notices into the new *folder*; return how many."""
    people = durable.private_folder(durable.private_folder(folder) / PEOPLE)
    with index.reading() as connection:
        for subject in sorted(found.people):
            to = _labels(connection, subject)
            text = to_person(found, subject, policy, to)
            durable.replace(people / f"{subject.hex()}.txt", text.encode())
    durable.replace(folder / AUTHORITY, to_authority(found, policy, now).encode())
    durable.replace(folder / COUNCIL, to_council(found, policy).encode())
    durable.replace(folder / EXACT, to_whoever_answers(found).encode())
    return len(found.people) + 2


def to_person(found: Exposure, subject: bytes, policy: Policy, to: tuple[str, ...]) -> str:
    """Return the notice to the person behind the pseudonym *subject*."""
    person = found.people[subject]
    paragraphs = [
        f"To: {', '.join(to) or 'the person with this pseudonym'}\nPseudonym: {subject.hex()}",
        (
            f"From {instant(found.since)} to {instant(found.until)} (UTC), what you let "
            f"{policy.controller.name} record for {policy.programme} may have been open to "
            "somebody who must not have it. This tells you what that means for you."
        ),
        _happened(found),
        _yours(person),
        _was_sealed(person),
        _opened(found, subject),
        (
            "What you can do. You can pause, withdraw your consent, and have everything erased, "
            "now and without a reason, in the tray's menu or with your rights key "
            "(assent-agent erase); nobody will hold it against you. You can complain to your "
            "supervisory authority."
        ),
        (
            f"Who answers: {policy.controller.contact} ({policy.controller.name}), and "
            f"{policy.representatives.contact} ({policy.representatives.name})."
        ),
    ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def to_authority(found: Exposure, policy: Policy, now: WallInstant) -> str:
    """Return the notification to the supervisory authority: GDPR, article 33(3)(a) to (d)."""
    said = told(found, public=True)
    categories = ", ".join(registry()[each].title.lower() for each in sorted(found.categories))
    likely = (
        "Each object was read and is a sealed frame as its device signed it; opening one takes "
        "the reader's key and the guard, who opens only against an entry in a witnessed log. What "
        "was readable is metadata: pseudonyms, categories, days, sizes."
        if not found.plain
        else "There are objects that are not the frames that their devices sealed and have to be "
        f"taken for plaintext ({said.plaintext}): what people typed, pointed at or saw may be "
        "readable in them."
    )
    paragraphs = [
        "Notification of a personal data breach (Regulation (EU) 2016/679, article 33)",
        (
            f"Made {instant(now)}, about {instant(found.since)} to {instant(found.until)} (UTC). "
            f"Controller: {policy.controller.name}, {', '.join(policy.jurisdictions)}. "
            "To be made within 72 hours of becoming aware of it; say why, if later."
        ),
        "(a) Nature of the breach\n"
        + _happened(found)
        + f"\nData subjects concerned, approximately: {said.subjects}. Categories: "
        f"{categories or 'none'}. Records concerned, approximately: {said.batches} (batches)"
        + (f"; erased meanwhile: {said.erased_batches}." if found.erased else "."),
        f"(b) Contact point\n{policy.controller.contact}",
        f"(c) Likely consequences\n{likely}",
        f"(d) Measures\n{_measures(found)}",
        "What the log shows\n" + "\n".join(in_words(said)),
        (
            "Numbers are approximate, as article 33(3)(a) asks for, and nothing is told of fewer "
            "than ten people. The controller has them as they are."
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def to_council(found: Exposure, policy: Policy) -> str:
    """Return the notice to the representatives: nothing about fewer than ten people."""
    paragraphs = [
        f"To: {policy.representatives.name} ({policy.representatives.contact})",
        (
            f"From {instant(found.since)} to {instant(found.until)} (UTC), batches of "
            f"{policy.programme} may have been open to somebody who must not have them."
        ),
        _happened(found),
        "\n".join(in_words(told(found, public=True))),
        (
            "Numbers of fewer than ten people are not told. Everybody concerned gets a notice of "
            "their own, and the supervisory authority these numbers. You can halt the programme "
            "(assent-govern halt), and check what this says with an auditor (assent-govern audit)."
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def to_whoever_answers(found: Exposure) -> str:
    """Return the numbers as they are."""
    first = "For whoever has to notify people, and for nobody else: the numbers as they are."
    return "\n\n".join((first, "\n".join(in_words(told(found, public=False))))) + "\n"


def _measures(found: Exposure) -> str:
    stopped = (
        "The programme was stopped for everybody when the drill failed; what was mended, and when "
        "a drill had passed again, stands above. "
    )
    return (
        f"{stopped if found.holes else ''}Data subjects can withdraw and have all of theirs erased "
        "at once. Add here what else was done."
    )


# --- parts --------------------------------------------------------------------------------


def _happened(found: Exposure) -> str:
    if not found.holes:
        return (
            "What happened. No drill has found a hole in this time; this was looked into by hand."
        )
    lines = []
    for hole in found.holes:
        since = instant(hole.open_since) if hole.open_since else "a time that nobody knows"
        until = instant(hole.closed_at) if hole.closed_at else "now: it is not closed yet"
        lines.append(
            f"- found {instant(hole.found_at)}: {hole.line}. It can have been so since {since} "
            f"at the earliest, and until {until}."
        )
    return "What happened. A test of our own was not refused what it has to be:\n" + "\n".join(
        lines
    )


def _yours(person: OfSubject) -> str:
    parts = [
        f"{count} batches of {registry()[category].title.lower()}"
        for category, count in sorted(person.batches.items())
    ]
    text = ""
    if parts:
        days = f"recorded from {person.first_day} to {person.last_day}"
        text = f"What of yours was there: {', '.join(parts)}, {days}."
    if person.erased:
        text += " There was more, which was erased meanwhile at your word or because its time was "
        text += "over; what it was, nobody knows any more."
    return text.strip()


def _was_sealed(person: OfSubject) -> str:
    if person.plain:
        return (
            f"Was it encrypted? NOT ALL. {person.plain} of your batches are not as your device had "
            "sealed them, and what is in them may have been read."
        )
    said = "Was it encrypted?"
    if person.batches:
        said += (
            " Yes: each of your batches that is there was looked at and is sealed as your device "
            "sealed it. To open one takes two parties together, and an entry in the log."
        )
    if person.erased:
        said += (
            " Your device sealed all that it sent; whether it lay here as it was sent cannot be "
            "seen any more, for nobody can look at what is erased."
        )
    return said


def _opened(found: Exposure, subject: bytes) -> str:
    lines = [
        f"- {had} by {each.reader}, approved by "
        f"{', '.join(each.approvers) or 'nobody that we know of'}, between "
        f"{instant(each.first_at)} and {instant(each.last_at)} ({each.purpose}: {each.why})"
        for each in found.accesses
        if (had := _had(each, subject))
    ]
    said = "Who opened it."
    if lines:
        said += " As the log says, these had some of it released in this time:\n"
        said += "\n".join(lines)
    lost = [each.reader for each in found.accesses if each.nobodys]
    if found.people[subject].erased and lost:
        said += "\n" if lines else " Of what is still there, nobody had any released in this time. "
        said += (
            f"Batches that are erased by now were released to {', '.join(dict.fromkeys(lost))}; "
            "whose they were cannot be told any more: some of yours may have been among them."
        )
    elif not lines:
        said += " Nobody had any of it released in this time."
    return said


def _had(access: Access, subject: bytes) -> str:
    """Return what of this person's was released; empty if nothing was."""
    sure, perhaps = access.of_subject.get(subject, 0), access.perhaps_of.get(subject, 0)
    parts = [f"{sure} batches"] if sure else []
    if perhaps:
        parts.append(f"{perhaps} erased batches of yours or of somebody else at your device")
    return " and ".join(parts)


def _labels(connection: Connection, subject: bytes) -> tuple[str, ...]:
    """Return to whom the operator said that notices about this person's devices go."""
    asked = (
        select(devices.c.label)
        .join(consents, consents.c.device == devices.c.device)
        .where(consents.c.subject == subject, devices.c.label != "")
        .distinct()
        .order_by(devices.c.label)
    )
    return tuple(connection.execute(asked).scalars())
