# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-govern guard`: the guard's keys in the next version of a policy."""

from pathlib import Path

import click

from base.command import EXISTING_FILE, say
from base.durable import replace
from governance.diff import in_words
from governance.files import read, read_guard
from governance.guard_keys import rotated
from wire.policy import decode_policy, encode_policy


@click.group("guard")
def guard() -> None:
    """Name the guard by other keys in the next policy.

    \b
    Example:
      assent-govern guard rotate acme/policy.json guard.json
    """


@guard.command("rotate")
@click.argument("file", type=EXISTING_FILE)
@click.argument("entry", type=EXISTING_FILE)
@click.option("--ask-again", is_flag=True, help="Take it for another guard: nobody vouches for it.")
def rotate_command(file: Path, entry: Path, ask_again: bool) -> None:
    """Name the guard by the keys in ENTRY from now on.

    ENTRY is what `assent-guard keys announce` wrote. FILE becomes the next version, which all
    parties sign; consents stay, because the holder of the present keys has said which ones
    follow. The guard acts on that version first (`assent-guard trust`), then the collector
    publishes it.

    \b
    Example:
      assent-govern guard rotate acme/policy.json guard.json
      assent-govern lint acme/policy.json
    """
    old = decode_policy(read(file))
    new = rotated(old, read_guard(entry), ask_again=ask_again)
    replace(file, encode_policy(new), mode=0o644)
    for line in in_words(old, new):
        say(f"  {line}")
    click.echo(f"next: assent-govern lint {file}, then all parties sign {file.parent}")
