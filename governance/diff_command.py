# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-govern diff`: what signers look at before they sign a policy anew."""

from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from base.command import EXISTING_FILE, say
from governance.diff import difference, in_words
from governance.files import read
from governance.options import JSON
from wire.policy import decode_policy


@click.command("diff")
@click.argument("old", type=EXISTING_FILE)
@click.argument("new", type=EXISTING_FILE)
@JSON
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Say what policy NEW widens against OLD, and who is asked again.

    A consent stands under a policy that is proved to ask for no more. Whatever is not proved,
    a new notice too, makes it stale until the data subject agrees again; what is narrower
    holds at once. Look at this before you sign.

    \b
    Example:
      assent-govern diff acme-2027/policy.json acme/policy.json
    """
    before, after = (decode_policy(read(path)) for path in (old, new))
    if as_json:
        changes = [
            {**asdict(each), "stale": each.makes_stale} for each in difference(before, after)
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(changes)))
        return
    for line in in_words(before, after):
        say(f"  {line}")
