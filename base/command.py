"""How every command line of ours ends: one line on standard error, and an exit code that means it.

`base.errors` says which code means what; click's own usage errors are code 2.
"""

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import click

from base import structs
from base.errors import AssentError, ExitCode, line_of
from base.lines import LONGEST_MESSAGE, one_line, shown
from base.pki import CertificateError, Role, client_uri

F = TypeVar("F", bound=Callable[..., object])

VERSION: Final = "0.1.0"  # of all programs; the same stands in pyproject.toml

EXISTING_FILE: Final = click.Path(exists=True, dir_okay=False, readable=False, path_type=Path)
"""A file that a person names.  Whether it may be read shows where it is read: a mode is to be
mended, not a command line."""


def version_option() -> Callable[[F], F]:
    """Return the decorator that gives a program `--version`."""
    return click.version_option(VERSION, message="%(prog)s %(version)s")


def epilog_of(command: str, folder: str = "") -> str:
    """Return what stands at the end of `COMMAND --help`: where its files are, how it ends.

    *folder* is what its folders are called, if it has any.
    """
    variable = f"_{command.replace('-', '_').upper()}_COMPLETE"
    files = (
        f"Files: ~/.config/assent/{folder}, ~/.local/state/assent/{folder}. With the variable "
        "ASSENT_HOME=FOLDER they are FOLDER/config, FOLDER/state, FOLDER/logs; give each program "
        "a FOLDER of its own.\n\n"
    )
    return (
        f"{files if folder else ''}"
        "Ends with: 0 done, 1 failed, 2 usage, 3 mend something first, 4 consent does not cover "
        "it, 5 try later, 6 never accepted.\n\n"
        "\b\nCompletion (or zsh_source, fish_source):\n"
        f'  eval "$({variable}=bash_source {command})"'
    )


def a_day(_context: click.Context, _option: click.Parameter, text: str | None) -> str:
    """Return a day as it was written, or an empty text for none: a callback of an option.

    Raises:
        click.BadParameter: It is no day, or written in another way.

    """
    if text is None:
        return ""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("a day is written as in 2027-03-15") from None
    if day.isoformat() != text:
        raise click.BadParameter("a day is written as in 2027-03-15")
    return text


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


def say(line: str) -> None:
    """Print *line*, in which texts of others may stand: it stays one, and steers no terminal."""
    click.echo(shown(line))


def run(group: click.Command, program: str, *, refusals: tuple[type[Exception], ...]) -> NoReturn:
    """Run *group* as *program* and end the process.

    *refusals* are exceptions that mean "these bytes will never do" (`wire.errors.WireError`).
    """
    sys.exit(outcome(group, program, sys.argv[1:], refusals=refusals))


def outcome(
    group: click.Command, program: str, args: list[str], *, refusals: tuple[type[Exception], ...]
) -> int:
    """Return the exit code of *group* with *args*, its error said on standard error."""
    structs.learn()
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
    click.echo(f"{program}: {one_line(message, LONGEST_MESSAGE)}", err=True)
    return code
