# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-govern`: keys, policy and approvals of those who answer for a programme.

Everything here works offline and on files; who else has to act next is said at the end.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from base.command import EXISTING_FILE, epilog_of, run, say, version_option
from base.durable import replace
from base.errors import RejectedError, SetupError
from governance import policy_set
from governance.approve import (
    add_approval,
    check_against_policy,
    check_worth_approving,
    read_grant,
    write_grant,
)
from governance.audit_command import audit
from governance.describe import policy_in_words, request_in_words, signatures_in_words
from governance.diff_command import diff
from governance.draft import draft
from governance.files import read, read_text
from governance.guard_command import guard
from governance.halt_command import halt
from governance.keys import read_public
from governance.keys_command import keys
from governance.lint import Refusal, lint
from governance.options import ANY_FILE, JSON, PASSPHRASE, now, private_key
from governance.receipt import receipt
from governance.recipients_command import recipient
from governance.review_command import review
from governance.roots import next_root
from governance.wishes import wishes_of
from wire.category import Category
from wire.errors import WireError
from wire.grant import decode_request
from wire.ids import WallInstant
from wire.policy import decode_policy, encode_policy


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog=epilog_of("assent-govern")
)
@version_option()
def cli() -> None:
    """Draft, check and sign what may be recorded; approve who may open it.

    A policy needs the signatures of controller and representatives; neither can sign alone:

    \b
      assent-govern keys new ada --party "Acme Ltd"
      assent-govern draft acme/policy.json --controller "Acme Ltd" ...
      assent-govern sign acme --key ada/policy-key.pem \\
          --public ada/policy-key.public.json --public rep/policy-key.public.json
      assent-govern sign acme --key rep/policy-key.pem     (on their own machine)
      assent-govern verify acme
    """


# --- draft and lint -----------------------------------------------------------------------


@cli.command("draft")
@click.argument("file", type=ANY_FILE)
@click.option("--programme", help="Short name, a-z 0-9 and hyphen.")
@click.option("--tenant", help="Short name of the organisation at the collector.")
@click.option("--controller", help="Legal name of who asks.")
@click.option("--controller-contact", help="An address that a person reads.")
@click.option("--representatives", help="Works council or other elected representatives.")
@click.option("--representatives-contact", help="Their own address.")
@click.option("--jurisdiction", "jurisdictions", multiple=True, help="Country code; repeatable.")
@click.option("--origin", help="The collector: https://host:port.")
@click.option("--pin", "pins", multiple=True, help="The collector's tls_pin; repeatable.")
@click.option("--log-key", help="The collector's log_key.")
@click.option("--collector-lease-key", help="The collector's half of the lease, base64.")
@click.option("--guard-name", help="What the guard is called.")
@click.option("--guard-run-by", help="Who runs the guard; never the controller.")
@click.option("--guard-key", help="The guard's signing_key, base64.")
@click.option("--guard-lease-key", help="The guard's half of the lease, base64.")
@click.option("--witness", help="Verifier key of the guard's own witness.")
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="NAME=FILE",
    help="A reader: its name, and its recipient.json, or the age1pq... key; repeatable.",
)
@click.option(
    "--approver",
    "approvers",
    multiple=True,
    type=EXISTING_FILE,
    help="Public key of somebody who approves accesses; repeatable.",
)
@click.option(
    "--threshold", type=int, help="Parties that have to approve an access; 2 when left out."
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice([c.value for c in Category]),
    help="Ask for this one; repeatable; all four when left out.",
)
@click.option(
    "--level",
    "levels",
    multiple=True,
    metavar="CATEGORY=LEVEL",
    help="More than the least revealing level; repeatable.",
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="CATEGORY=HZ",
    help="Most events or pictures a second; repeatable.",
)
@click.option(
    "--application",
    "applications",
    multiple=True,
    metavar="PROCESS:CLASS",
    help="A program that may be recorded: executable and window class; repeatable.",
)
@click.option(
    "--justification",
    "justifications",
    multiple=True,
    metavar="CATEGORY=TEXT",
    help="Why the purpose needs a category; screens must have one; repeatable.",
)
@click.option(
    "--hours",
    multiple=True,
    metavar="DAYS=FROM-UNTIL",
    help="When anything may be recorded, in local time; mon-fri=08:00-18:00 is usual; repeatable.",
)
@click.option(
    "--reconfirm-days",
    type=int,
    help="A consent is confirmed at least so often; 180 when left out.",
)
@click.option(
    "--hold", "hold_seconds", type=int, help="Seconds before a batch may leave; 600 when left out."
)
@click.option(
    "--lease",
    "lease_seconds",
    type=int,
    help="Seconds a device goes on unheard; 14400 when left out.",
)
@click.option(
    "--retention",
    "retention_days",
    type=int,
    help="Days that each category is kept; 90 when left out.",
)
@click.option("--assessment", help="Id of the data protection impact assessment.")
@click.option("--assessment-expires", metavar="YYYY-MM-DD", help="When that runs out.")
@click.option("--review", help="Digest of the privacy review: assent-govern review.")
@click.option("--notice-file", type=EXISTING_FILE, help="Your own notice instead of ours.")
@click.option("--version", type=int, help="1 for the first policy; then one more each time.")
@click.option("--test-only", is_flag=True, help="Permits level text; the notice says so.")
def draft_command(file: Path, notice_file: Path | None, **given: object) -> None:
    """Write a policy draft with safe defaults to FILE.

    Nothing is recorded by default: the list of applications is empty, keys are recorded as
    kinds without characters, screens once a second. Gaps are marked FILL IN, and the lint
    refuses them. docs/guides/policy.md explains every field.

    \b
    Example:
      assent-govern draft acme/policy.json --controller "Acme Ltd" \\
          --origin https://collector.acme.example:8443 --pin 5f0c... \\
          --recipient training-team=recipient.json --application gedit:Gedit
    """
    if file.exists():
        raise SetupError(f"{file} is there already; a draft never overwrites a policy")
    policy = draft(wishes_of({"notice": notice_file and read_text(notice_file).strip(), **given}))
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(file, encode_policy(policy), mode=0o644)
    refusals = lint(policy, now().date())
    click.echo(f"{file}  drafted; {_to_mend(refusals)}")
    folder = file.parent
    click.echo(
        f"next: edit it, then assent-govern lint {file}"
        if refusals
        else f"next: assent-govern sign {folder} --key ... --public ... --public ..."
    )


@cli.command("lint")
@click.argument("file", type=EXISTING_FILE)
@JSON
def lint_command(file: Path, as_json: bool) -> None:
    """Say what stands against signing the policy in FILE.

    Ends with 6 if anything does.

    \b
    Example:
      assent-govern lint acme/policy.json
    """
    refusals = lint(decode_policy(read(file)), now().date())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_plain(r) for r in refusals])))
    else:
        for name, places in groupby(refusals, key=lambda refusal: refusal.rule.name):
            for refusal in places:
                say(f"refused  {name}: {refusal.where}")
            say(f"    why   {refusal.rule.why}")
            say(f"    mend  {refusal.rule.mend}")
    if refusals:
        raise RejectedError(_to_mend(refusals))
    if not as_json:
        click.echo(f"{file}  nothing stands against signing it")


# --- signing ------------------------------------------------------------------------------


@cli.command("sign")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--key", required=True, type=EXISTING_FILE, help="Your private policy key.")
@click.option(
    "--public",
    "publics",
    multiple=True,
    type=EXISTING_FILE,
    help="A party's public key; for each at the first signature, later for a key that changes.",
)
@PASSPHRASE
@click.option("--yes", is_flag=True, help="Do not ask.")
def sign_command(
    folder: Path,
    key: Path,
    publics: tuple[Path, ...],
    passphrase_file: Path | None,
    yes: bool,
) -> None:
    """Sign the policy in FOLDER with your party's key.

    The lint and your own eyes come first.

    FOLDER holds policy.json. The first signature makes root.json over the parties' keys
    (valid for a year), and targets.json and snapshot.json over the policy (90 days). Hand the
    folder on until every party has signed. Where a key changes, whoever changes it signs twice:
    with the old key and with the new one.

    \b
    Example:
      assent-govern sign acme --key ada/policy-key.pem \\
          --public ada/policy-key.public.json --public rep/policy-key.public.json
    """
    at = now()
    policy = decode_policy(read(folder / "policy.json"))
    refusals = lint(policy, at.date())
    if refusals:
        raise policy_set.LintError(refusals)
    given = tuple(read_public(public) for public in publics)
    private = private_key(key, passphrase_file)
    click.echo("You are about to sign this:")
    _echo_all(policy_in_words(policy))
    _echo_all(tuple(f"New keys: {it}" for it in next_root(folder, policy, at, given).changes))
    if not yes:
        click.confirm("Do you agree to all of it?", abort=True)
    standing = policy_set.sign(folder, private, at, given)
    _echo_all(signatures_in_words(standing.signers))
    missing = [party for party, signed in standing.signers.items() if not signed]
    click.echo(f"digest {standing.digest}")
    say(
        f"next: {missing[0]} runs assent-govern sign {folder} --key ..."
        if missing
        else f"next: assent-govern verify {folder}, then assent-guard trust {folder} and "
        f"assent-collector publish {folder}"
    )


@cli.command("show")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@JSON
def show_command(folder: Path, as_json: bool) -> None:
    """Say what the policy in FOLDER asks, and who signed it.

    \b
    Example:
      assent-govern show acme
    """
    _show(policy_set.standing(folder), as_json=as_json)


@cli.command("verify")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@JSON
def verify_command(folder: Path, as_json: bool) -> None:
    """Check the policy in FOLDER as devices and guard will.

    Ends with 6 when it is refused.

    \b
    Example:
      assent-govern verify acme
    """
    standing = policy_set.verified(folder, now())
    _show(standing, as_json=as_json)
    if not as_json:
        click.echo("verified: enough parties have signed, none could have done so alone")


# --- approving ----------------------------------------------------------------------------


@cli.command("approve")
@click.argument("request", type=EXISTING_FILE)
@click.option("--key", required=True, type=EXISTING_FILE, help="Your private approver key.")
@click.option("--name", required=True, help="Your name as the policy has it.")
@click.option("--out", required=True, type=ANY_FILE, help="The grant, with your approval.")
@click.option(
    "--policy",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The signed policy's folder: checks the request and your name against it.",
)
@PASSPHRASE
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve_command(
    request: Path,
    key: Path,
    name: str,
    out: Path,
    policy: Path | None,
    passphrase_file: Path | None,
    yes: bool,
) -> None:
    """Approve an access REQUEST.

    REQUEST may be a grant that others approved already.

    The guard opens nothing before as many approvers as the policy asks for have signed.

    \b
    Example:
      assent-govern approve request.json --key ada/approver-key.pem --name Ada --out grant.json
      assent-govern approve grant.json --key rep/approver-key.pem --name Grace --out grant.json
    """
    grant = read_grant(request)
    asked = decode_request(grant.request)
    check_worth_approving(asked, WallInstant(int(now().timestamp() * 1e9)))
    private = private_key(key, passphrase_file)
    if policy is not None:
        standing = policy_set.verified(policy, now())
        check_against_policy(asked, standing.policy, name, private)
    click.echo("You are about to approve this:")
    _echo_all(request_in_words(asked))
    if not yes:
        click.confirm(f"Do you approve, as {name}?", abort=True)
    others = read_grant(out) if out.exists() else None
    approved = add_approval(grant, others, name, private)
    write_grant(out, approved)
    say(f"{out}  approved by {', '.join(a.approver for a in approved.approvals)}")


cli.add_command(keys)
cli.add_command(diff)

# --- small parts --------------------------------------------------------------------------


cli.add_command(audit)
cli.add_command(guard)
cli.add_command(halt)
cli.add_command(receipt)
cli.add_command(recipient)
cli.add_command(review)


def _show(standing: policy_set.Standing, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(standing)))
        return
    _echo_all(policy_in_words(standing.policy))
    _echo_all(signatures_in_words(standing.signers))
    click.echo(f"policy digest {standing.digest}")
    click.echo(f"root sha256   {standing.root_sha256}, until {standing.root_expires:%Y-%m-%d}")
    click.echo(f"signatures until {standing.targets_expires:%Y-%m-%d}")


def _plain(refusal: Refusal) -> dict[str, str]:
    rule = refusal.rule
    return {"name": rule.name, "where": refusal.where, "why": rule.why, "mend": rule.mend}


def _echo_all(lines: tuple[str, ...]) -> None:
    for line in lines:
        say(f"  {line}")


def _to_mend(refusals: Sequence[Refusal]) -> str:
    count = len(refusals)
    return f"{count} thing{'' if count == 1 else 's'} to mend before it can be signed"


def main() -> NoReturn:
    """Run the command line."""
    run(cli, "assent-govern", refusals=(WireError,))


if __name__ == "__main__":
    main()
