# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-govern keys`: the keys of those who sign policies or approve accesses."""

from pathlib import Path

import click

from base.process import forbid_tracing
from governance.keys import Role, new_key
from governance.options import FOLDER, PASSPHRASE, passphrase


@click.group()
def keys() -> None:
    """Make the keys that sign policies or approve accesses.

    \b
    Example:
      assent-govern keys new rep --party "Works Council of Acme"
    """


@keys.command("new")
@click.argument("folder", type=FOLDER)
@click.option("--party", required=True, help="The organisation, letter for letter as in policies.")
@click.option("--name", help="Person or post that holds the key; the party when left out.")
@click.option(
    "--role",
    type=click.Choice([r.value for r in Role]),
    default="policy",
    show_default=True,
    help="What it is for: to sign policies, or to approve accesses.",
)
@PASSPHRASE
def keys_new(
    folder: Path, party: str, name: str | None, role: str, passphrase_file: Path | None
) -> None:
    """Make a key in FOLDER: a private and a public file.

    Ed25519; the private one is PEM with mode 0600, the public one JSON.

    \b
    Example:
      assent-govern keys new rep --party "Works Council of Acme" --role approver --name Grace
    """
    forbid_tracing()
    private, public, part = new_key(
        folder,
        role=Role(role),
        party=party,
        name=name or party,
        passphrase=passphrase(passphrase_file),
    )
    click.echo(f"{private}  private: keep it offline, and a copy in another place")
    click.echo(f"{public}  public: give it to the other parties")
    click.echo(f"{role} key of {part.name} ({part.party}): {part.key}")
