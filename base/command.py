"""How every command line of ours ends: one line on standard error, and an exit code that means it.

`base.errors` says which code means what; click's own usage errors are code 2.
"""

import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from base.errors import AssentError, ExitCode, line_of
from base.pki import CertificateError, Role, client_uri

EXISTING_FILE: Final = click.Path(exists=True, dir_okay=False, readable=False, path_type=Path)
"""A file that a person names.  Whether it may be read shows where it is read: a mode is to be
mended, not a command line."""


def a_name(_context: click.Context, _option: click.Parameter, text: str) -> str:
    """Return *text*, which is to stand in a certificate: a callback of an option.

    Raises:
        click.BadParameter: It cannot stand there.

    """
    try:
        client_uri("tenant", Role.READER, text)
    except CertificateError as exc:
        raise click.BadParameter(str(exc)) from exc
    return text


def run(group: click.Command, program: str, *, refusals: tuple[type[Exception], ...]) -> NoReturn:
    """Run *group* as *program* and end the process.

    *refusals* are exceptions that mean "these bytes will never do" (`wire.errors.WireError`).
    """
    sys.exit(outcome(group, program, sys.argv[1:], refusals=refusals))


def outcome(
    group: click.Command, program: str, args: list[str], *, refusals: tuple[type[Exception], ...]
) -> int:
    """Return the exit code of *group* with *args*, its error said on standard error."""
    try:
        # Without standalone mode click returns the code of ctx.exit(), or what the command did.
        code = group.main(args, prog_name=program, standalone_mode=False)
    except click.exceptions.Abort:
        return _say(program, "stopped; nothing was done", ExitCode.FAILED)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except AssentError as exc:
        return _say(program, str(exc), exc.exit_code)
    except refusals as exc:
        return _say(program, str(exc), ExitCode.REJECTED)
    except OSError as exc:
        return _say(program, line_of(exc), ExitCode.SETUP)
    return code if isinstance(code, int) else ExitCode.DONE


def _say(program: str, message: str, code: ExitCode) -> int:
    # One line, whatever a library put into its message.
    click.echo(f"{program}: {' '.join(message.split())}", err=True)
    return code
