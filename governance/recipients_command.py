# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-govern recipient`: a reader's key in the next version of a policy."""

from pathlib import Path

import click

from base.command import EXISTING_FILE, say
from base.durable import replace
from governance.diff import in_words
from governance.files import read, read_recipient
from governance.recipients import revoked, rotated
from wire.policy import Policy, decode_policy, encode_policy


@click.group("recipient")
def recipient() -> None:
    """Change or revoke a reader's key in the next policy.

    \b
    Example:
      assent-govern recipient rotate acme/policy.json recipient.json
    """


@recipient.command("rotate")
@click.argument("file", type=EXISTING_FILE)
@click.argument("entry", type=EXISTING_FILE)
@click.option("--ask-again", is_flag=True, help="Take it for a new reader: nobody vouches for it.")
def rotate_command(file: Path, entry: Path, ask_again: bool) -> None:
    """Seal to the key in ENTRY from now on.

    ENTRY is what `assent-reader keys rotate` wrote; it follows a key of the same reader. The
    key before it opens what was sealed to it, and nothing new. FILE becomes the next version,
    which all parties sign; consents stay, because the holder of the old key has said who holds
    the new one.

    \b
    Example:
      assent-govern recipient rotate acme/policy.json recipient.json
      assent-govern lint acme/policy.json
    """
    old = decode_policy(read(file))
    _written(file, old, rotated(old, read_recipient(entry), ask_again=ask_again))


@recipient.command("revoke")
@click.argument("file", type=EXISTING_FILE)
@click.argument("key")
def revoke_command(file: Path, key: str) -> None:
    """Release nothing to KEY any more.

    KEY is the beginning of its id. FILE becomes the next version, which all parties sign. It
    holds once collector and guard have it; what was released before stays with the reader.

    \b
    Example:
      assent-govern recipient revoke acme/policy.json 3f1c9a
    """
    old = decode_policy(read(file))
    _written(file, old, revoked(old, key))


def _written(file: Path, old: Policy, new: Policy) -> None:
    replace(file, encode_policy(new), mode=0o644)
    for line in in_words(old, new):
        say(f"  {line}")
    click.echo(f"next: assent-govern lint {file}, then all parties sign {file.parent}")
