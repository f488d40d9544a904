# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-reader keygen` and `assent-reader keys`: the identities that open."""

import sys
from datetime import UTC, date, datetime
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.paths import paths_for
from reader import keys
from reader.library import Library
from reader.premises import Premises

_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.command()
@click.option("--name", required=True, help="What certificates and requests call this reader.")
@_JSON
def keygen(name: str, as_json: bool) -> None:
    """Make the identity that opens, and the key that calls.

    Keep a copy of identity.txt offline: without it nothing that was sealed to it opens again.

    \b
    Example:
      assent-reader keygen --name training-team
    """
    premises = _premises()
    facts = {
        "name": name,
        "recipient": keys.make_keys(premises, name, _today()),
        "recipient_file": str(premises.recipient_file),
        "entry": str(premises.entry_file),
        "csr": str(premises.request_file),
    }
    if as_json:
        click.echo(msgspec.json.encode(facts))
        return
    click.echo(_fitting(facts["recipient"]))
    click.echo(f"recipient  {premises.entry_file}  for the policy", err=True)
    click.echo(f"csr        {premises.request_file}  for collector and guard", err=True)
    click.echo(f"identity   {premises.identity_file}  yours alone; keep a copy", err=True)


def _fitting(recipient: str) -> str:
    """Return a key as it is, or on a terminal, of which it would fill a page, its beginning."""
    return f"{recipient[:32]}..." if sys.stdout.isatty() else recipient


@click.group("keys")
def keys_command() -> None:
    """Change the identity that opens; destroy older ones.

    \b
    Example:
      assent-reader keys rotate
    """


@keys_command.command("list")
@_JSON
def list_command(as_json: bool) -> None:
    """Say which identities are here, and what each opens.

    \b
    Example:
      assent-reader keys list --json
    """
    premises = _premises()
    here = keys.sealed_here(_library(premises))
    found = [
        {
            "id": key.id,
            "made_on": key.made_on,
            "replaced_on": key.replaced_on,
            "batches": len(here.get(key.id, ())),
        }
        for key in keys.all_keys(premises)
    ]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    table = Table("key", "made", "replaced", "batches here")
    for one in found:
        table.add_row(
            str(one["id"])[:16],
            *(str(one[k]) for k in ("made_on", "replaced_on")),
            str(one["batches"]),
        )
    Console().print(table)


@keys_command.command("rotate")
@_JSON
def rotate_command(as_json: bool) -> None:
    """Make a new identity beside the old one.

    The old one is kept for what was sealed to it. Until a signed policy names the new one,
    everything goes on with the old one. Hand over recipient.json, and wait for that policy
    before you rotate again.

    \b
    Example:
      assent-reader keys rotate
    """
    premises = _premises()
    made = keys.rotate(premises, _today())
    newest, old = keys.all_keys(premises)[:2]
    if as_json:
        facts = {"key": newest.id, "follows": made.follows, "entry": str(premises.entry_file)}
        click.echo(msgspec.json.encode(facts))
        return
    click.echo(f"new key  {newest.id}, in {premises.identity_file}: keep a copy")
    click.echo(f"old key  {old.id}, in {old.path}: opens what was sealed to it")
    click.echo(f"next: assent-govern recipient rotate POLICY {premises.entry_file}, signed by all")


@keys_command.command("destroy")
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do it, without a question.")
def destroy_command(key: str, yes: bool) -> None:
    """Delete an older identity for good.

    It says first what will not open any more. KEY is the beginning of its id. Delete your
    offline copies, too: this knows of none.

    \b
    Example:
      assent-reader keys destroy 3f1c9a
    """
    premises = _premises()
    found = keys.named(keys.all_keys(premises), key)
    library = _library(premises)
    sealed = keys.sealed_here(library).get(found.id, [])
    released = sum(library.has_release(batch) for batch in sealed)
    click.echo(f"{found.id}, made {found.made_on or 'on a day that is not known'}, opens alone:")
    click.echo(f"  {len(sealed)} batches here, {released} of them released")
    click.echo("  and every batch at the collector that was sealed to it")
    if found.path == premises.identity_file:
        keys.destroy(premises, found)  # says why not
    if not yes:
        click.confirm("Nobody can undo this. Delete it?", abort=True)
    keys.destroy(premises, found)
    click.echo(f"{found.id}  is destroyed")


def _premises() -> Premises:
    return Premises(paths_for("reader"))


def _library(premises: Premises) -> Library:
    premises.settings()  # says what to do where nothing is set up yet
    return Library(premises.paths.make().state)


def _today() -> date:
    require_plausible_clock()
    return datetime.fromtimestamp(SystemClock().now().wall // NANOSECONDS, UTC).date()
