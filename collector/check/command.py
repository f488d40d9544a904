# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-collector check`: hold a collector against the specification, from outside."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from base.clock import require_plausible_clock
from base.command import EXISTING_FILE
from base.door import host_and_port
from base.errors import AssentError, ExitCode, SetupError
from collector.check.checks import verdicts
from collector.check.verdicts import Result, Verdict
from collector.check.visit import now, visiting
from wire.collector_http import Enrolment, decode
from wire.errors import MalformedError


class DeviatesError(AssentError):
    """A check has failed."""

    exit_code = ExitCode.FAILED


@click.command("check")
@click.argument("url")
@click.option(
    "--enrolment",
    "file",
    type=EXISTING_FILE,
    required=True,
    help="A file for a device of its own; each visit needs a new one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def check_command(url: str, file: Path, as_json: bool) -> None:
    """Check that the collector at URL does what it has to.

    Any collector can be held against docs/spec/collector-http-v1.md: yours, after a change, or one
    that somebody else has written. It is asked from outside, as a device and as a stranger: what
    it takes, what it refuses and by which name, and whether receipts, leaves, tiles and heads
    of its log are of one history. Whoever runs that collector makes an enrolment file for it, as
    for any device.

    Nobody's data are touched. The device has no person; what it hands in is random bytes, which it
    takes back in the end. What stays are some leaves of the log and a device that is known there:
    revoke it. One line a check; the command ends with 1 if one has failed, and with 5 if
    nobody answers there.

    \b
    Example:
      assent-collector token --out check.enrol.json         (where the collector runs)
      assent-collector check https://collector.example:8443 --enrolment check.enrol.json
      assent-collector revoke 3f1c9a                        (there, with the id that it prints)
    """
    try:
        host_and_port(url)
    except SetupError as exc:
        raise click.BadParameter(str(exc), param_hint="URL") from exc
    require_plausible_clock()
    enrolment = _enrolment(file)
    found: list[Verdict] = []
    with visiting(url, enrolment) as visit:
        # Where nobody answers, or somebody else does, that is one line and not one a check.
        visit.ask("GET", "/v1/state", stranger=True)
        for verdict in verdicts(visit):
            found.append(verdict)
            if not as_json:
                click.echo(f"{verdict.result:8}  {verdict.check:15}  {verdict.said}")
        device = visit.id.hex() if visit.certificate else ""
    if as_json:
        click.echo(msgspec.json.encode({"device": device, "checks": found}))
    elif device:
        click.echo(f"revoke the device when you are done: assent-collector revoke {device[:12]}")
    _conclude(found)


def _enrolment(file: Path) -> Enrolment:
    try:
        enrolment = decode(file.read_bytes(), Enrolment)
    except OSError as exc:
        raise SetupError(f"{file}: {exc.strerror}; check the path") from exc
    except MalformedError as exc:
        raise SetupError(
            f"{file} is no enrolment file ({exc}); make one with assent-collector token"
        ) from exc
    if now() >= enrolment.expires_at:
        raise SetupError(f"the token in {file} has expired; make another enrolment file")
    return enrolment


def _conclude(found: Sequence[Verdict]) -> None:
    failed = [one for one in found if one.result is Result.FAILED]
    if failed:
        raise DeviatesError(
            f"{len(failed)} of {len(found)} checks failed, first {failed[0].check}: "
            f"{failed[0].said}"
        )
