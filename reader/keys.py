"""The reader's keys: identities that open, and one key that says who calls.

There is one identity to which the policy is to seal, and older ones, kept to open what was
sealed to them, until `destroy`.  Losing an identity loses what was sealed to it; it is never
made twice.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.durable import private_folder, remove, replace
from base.errors import SetupError
from base.pki import private_pem, signing_request
from base.stored import Versioned, refuse_newer
from reader.library import Library
from reader.premises import Premises, Settings, check_name, write_settings
from wire.errors import UNREADABLE, WireError
from wire.frame import decode_core, is_day, split
from wire.ids import BatchHash
from wire.policy import Recipient
from wire.recipients import id_of
from wire.sealing import new_identity, recipient_of
from wire.succession import entry_of

# From the making of a key until every device seals to it: a policy has to be signed by several
# parties first, and reaches a device when that is switched on.
HANDOVER_DAYS: Final = 62
SHORT: Final = 8  # of a key id, where a person reads or types it


class Dates(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`keys.json`: the days on which identities were made, by key id, in that order."""

    made_on: dict[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One identity of this reader."""

    id: str  # of its recipient, hexadecimal
    identity: str
    path: Path
    made_on: str  # ISO date; empty where nobody wrote it down
    replaced_on: str  # empty: it is the newest

    @property
    def recipient(self) -> str:
        """The public half."""
        return recipient_of(self.identity)


def make_keys(premises: Premises, name: str, today: date) -> str:
    """Make identity, client key and signing request; return the recipient (age1pq...).

    Raises:
        SetupError: There are keys already, or the name cannot stand in a certificate.

    """
    check_name(name)
    if premises.settings_file.exists():
        raise SetupError(f"{premises.settings_file} exists; this reader has its keys already")
    premises.paths.make()
    identity, client = new_identity(), Ed25519PrivateKey.generate()
    recipient = recipient_of(identity)
    replace(premises.identity_file, f"{identity}\n".encode("ascii"))
    _note(premises, recipient, today)
    _publish(premises, entry_of(name, identity))
    replace(premises.client_key, private_pem(client))
    replace(premises.request_file, signing_request(client), mode=0o644)
    # Last, because its presence says that all the rest is there: after a crash before this
    # line keygen may be run again, and nobody has been given the recipient yet.
    write_settings(premises, Settings(name=name))
    return recipient


# --- what is here -------------------------------------------------------------------------


def all_keys(premises: Premises) -> tuple[Key, ...]:
    """Return the identities of this reader, the newest first.

    Raises:
        SetupError: There is none yet, or one is damaged.

    """
    newest = premises.identity()
    there = {id_of(recipient_of(newest)): (newest, premises.identity_file)}
    for path in premises.older_identities():
        identity = premises.identity(path)
        there.setdefault(id_of(recipient_of(identity)), (identity, path))
    made_on = _dates(premises).made_on
    made = [*made_on]
    older = sorted([*there][1:], key=lambda k: made.index(k) if k in made else -1, reverse=True)
    order = [*there][:1] + older
    replaced = ["", *(made_on.get(key, "") for key in order)]
    return tuple(
        Key(
            id=key,
            identity=there[key][0],
            path=there[key][1],
            made_on=made_on.get(key, ""),
            replaced_on=replaced[number],
        )
        for number, key in enumerate(order)
    )


def entry(premises: Premises) -> Recipient:
    """Return what the next policy is to say of the newest key, and of what it follows.

    As it was written when the key was made: by then the one before it was here.
    """
    newest, *older = all_keys(premises)
    written = _written(premises)
    if written is not None and id_of(written.key) == newest.id:
        return written
    before = older[0].identity if older else ""
    return entry_of(premises.settings().name, newest.identity, before)


def of_period(keys: tuple[Key, ...], first_day: str, last_day: str) -> tuple[Key, ...]:
    """Return those to which batches of these days may be sealed, the newest first.

    Nobody here knows when which device had the policy with the newer key, so one that may have
    been sealed to for a part of the time is among them.
    """
    return tuple(
        key
        for key in keys
        if key.made_on <= last_day
        and (not key.replaced_on or first_day <= _later(key.replaced_on, HANDOVER_DAYS))
    )


def named(keys: tuple[Key, ...], prefix: str) -> Key:
    """Return the one key whose id begins with *prefix*.

    Raises:
        SetupError: None or several begin so.

    """
    found = [key for key in keys if prefix and key.id.startswith(prefix.lower())]
    if len(found) != 1:
        raise SetupError(f"{len(found)} keys begin with {prefix!r}; see assent-reader keys list")
    return found[0]


def sealed_here(library: Library) -> dict[str, list[BatchHash]]:
    """Return the batches here by the ids of the keys that they are sealed to."""
    found: dict[str, list[BatchHash]] = {}
    for batch in library.batches():
        for key in recipients_of(library.frame(batch)):
            found.setdefault(key.hex(), []).append(batch)
    return found


def recipients_of(frame: bytes) -> tuple[bytes, ...]:
    """Return the ids of the keys that a frame is sealed to, as it says; none if it is none."""
    try:
        return decode_core(split(frame).core).recipients
    except WireError:
        return ()


# --- what changes -------------------------------------------------------------------------


def rotate(premises: Premises, today: date) -> Recipient:
    """Make a new identity beside the old one, which is kept; return what the policy is to say.

    The new one seals nothing by itself: until a policy names it, all stays as it was.

    Raises:
        SetupError: There are no keys yet.

    """
    premises.settings()
    old = all_keys(premises)[0]
    new = new_identity()
    # The old one is safe in its new place before the new one takes its old place; a crash between
    # leaves it in both, which is one key, and nobody has been given the new one yet.
    folder = private_folder(premises.older_folder)
    replace(folder / f"{old.id}.txt", f"{old.identity}\n".encode("ascii"))
    _note(premises, recipient_of(new), today)
    replace(premises.identity_file, f"{new}\n".encode("ascii"))
    made = entry(premises)
    _publish(premises, made)
    return made


def destroy(premises: Premises, key: Key) -> None:
    """Delete an older identity, for good.

    Raises:
        SetupError: It is the newest one.

    """
    if key.path == premises.identity_file:
        raise SetupError("this is the key in use; make another first: assent-reader keys rotate")
    for path in premises.older_identities():
        if premises.identity(path) == key.identity:
            remove(path)


def _publish(premises: Premises, made: Recipient) -> None:
    text = msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
    replace(premises.entry_file, text, mode=0o644)
    replace(premises.recipient_file, f"{made.key}\n".encode("ascii"), mode=0o644)


def _written(premises: Premises) -> Recipient | None:
    try:
        return msgspec.json.decode(premises.entry_file.read_bytes(), type=Recipient)
    except (OSError, *UNREADABLE):
        return None


def _note(premises: Premises, recipient: str, today: date) -> None:
    known = _dates(premises)
    made_on = known.made_on | {id_of(recipient): today.isoformat()}
    replace(premises.dates_file, msgspec.json.encode(Dates(made_on=made_on)))


def _dates(premises: Premises) -> Dates:
    try:
        data = premises.dates_file.read_bytes()
        refuse_newer(data, premises.dates_file)
        known = msgspec.json.decode(data, type=Dates)
        if all(is_day(day) for day in known.made_on.values()):
            return known
    except FileNotFoundError:
        return Dates()
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(_damaged(premises)) from exc
    raise SetupError(_damaged(premises))


def _damaged(premises: Premises) -> str:
    return f"{premises.dates_file} is damaged; delete it, then each period asks for all keys"


def _later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
