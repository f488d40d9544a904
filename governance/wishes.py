"""What the options of `assent-govern draft` mean: words of a command line to `Wishes`."""

from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from base.errors import SetupError
from governance.draft import Wishes
from governance.files import read_recipient, read_text
from governance.keys import Role, read_public
from wire.policy import Application, Approver, Recipient, Weekday


def wishes_of(given: Mapping[str, object]) -> Wishes:
    """Return what *given* options wish for; what was left out gets the draft's safe defaults.

    Raises:
        SetupError: A file cannot be read, or a value cannot stand in a policy.
        click.BadParameter: A value is not in its form.

    """
    wishes = {key: value for key, value in given.items() if value is not None and value != ()}
    wishes["recipients"] = tuple(_recipient(text) for text in _texts(given, "recipients"))
    wishes["approvers"] = tuple(_approver(Path(path)) for path in _texts(given, "approvers"))
    wishes["applications"] = tuple(_application(text) for text in _texts(given, "applications"))
    wishes["levels"] = tuple(_pair(text, "level") for text in _texts(given, "levels"))
    rates = (_pair(text, "rate") for text in _texts(given, "rates"))
    wishes["justifications"] = tuple(
        _pair(text, "justification") for text in _texts(given, "justifications")
    )
    if hours := _texts(given, "hours"):
        wishes["hours"] = tuple(_hours(text) for text in hours)
    wishes["rates"] = tuple((category, _number(hertz)) for category, hertz in rates)
    try:
        return msgspec.convert(wishes, Wishes)
    except msgspec.ValidationError as exc:
        raise SetupError(f"this cannot stand in a policy: {exc}") from exc


def _recipient(text: str) -> Recipient:
    name, key = _pair(text, "recipient")
    said = key if key.startswith("age1") else read_text(Path(key)).strip()
    if not said.startswith("{"):
        return Recipient(name=name, key=said)
    entry = read_recipient(Path(key))
    if entry.name != name:
        raise SetupError(f"{key} is of the reader {entry.name}, not {name}")
    return msgspec.structs.replace(entry, follows="", word="")  # there is none before it yet


def _approver(path: Path) -> Approver:
    part = read_public(path)
    if part.role is not Role.APPROVER:
        raise SetupError(f"{path} is a {part.role} key; an approver needs a key of its own")
    return Approver(name=part.name, party=part.party, key=part.key)


def _application(text: str) -> Application:
    process, _, window_class = text.partition(":")
    return Application(process=process, window_class=window_class)


def _hours(text: str) -> dict[str, object]:
    """Return the span that is meant by "mon-fri=08:00-18:00" or "sat,sun=10:00-12:00"."""
    days, span = _pair(text, "hours")
    begin, _, end = span.partition("-")
    week, chosen = [day.value for day in Weekday], []
    for part in days.split(","):
        first, _, last = part.partition("-")
        if {first, last or first} - set(week):
            raise click.BadParameter(f"{part!r} are no days", param_hint="--hours")
        chosen += week[week.index(first) : week.index(last or first) + 1]
    return {"days": chosen, "begin": begin, "end": end}


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=f"--{option}")
    return name, value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number", param_hint="--rate") from None


def _texts(given: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = given.get(name)
    return tuple(str(value) for value in values) if isinstance(values, tuple) else ()
