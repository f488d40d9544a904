"""Writes the man page and the completions of one command, out of what its `--help` says.

Usage: python packaging/deb/pages.py COMMAND FOLDER      (FOLDER is the root of a package)

One page a program, with all of its commands: click-man writes one page a command, twenty
for a program, and asks for its own build dependency.
"""

import gzip
import importlib
import inspect
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

ROOT: Final = Path(__file__).resolve().parents[2]
PLACES: Final = {
    "bash": "usr/share/bash-completion/completions/{}",
    "zsh": "usr/share/zsh/vendor-completions/_{}",
    "fish": "usr/share/fish/vendor_completions.d/{}.fish",
}


def main(command: str, folder: Path) -> None:
    """Write all pages of *command* below *folder*."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    program = _program(project["scripts"][command])
    page = manual(program, command, project["version"])
    # No time and no name in the head of the archive, so that it is the same each time.
    _write(
        folder / f"usr/share/man/man1/{command}.1.gz",
        gzip.compress(page.encode("utf-8"), 9, mtime=0),
    )
    for shell, place in PLACES.items():
        kind = get_completion_class(shell)
        if kind is None or not isinstance(program, click.Group):
            continue  # the tray is started by the agent alone
        variable = f"_{command.replace('-', '_').upper()}_COMPLETE"
        complete = kind(program, {}, command, variable)
        # Not source(): for bash it would ask the shell of this machine for its version.
        text = complete.source_template % complete.source_vars()
        _write(folder / place.format(command), text.encode("utf-8"))


def manual(program: click.Command, name: str, version: str) -> str:
    """Return the man page of a program, in groff's man macros."""
    made = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    context = click.Context(program, info_name=name, **program.context_settings)
    first, rest = _split(program.help or "")
    lines = [
        f'.TH "{name.upper()}" 1 "{made:%Y-%m-%d}" "Assent {version}" "Assent"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(first.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_text(name)}",
        _text(" ".join(program.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(rest or first),
        ".SH OPTIONS",
        *_options(context),
    ]
    if isinstance(program, click.Group):
        lines.append(".SH COMMANDS")
        lines += _commands(program, context)
    lines += [
        ".SH EXIT STATUS",
        "0: done; 1: failed; 2: usage; 3: something has to be mended first; 4: consent does not",
        "cover it; 5: try later; 6: never accepted.",
        ".SH FILES",
        "\\(ti/.config/assent and \\(ti/.local/state/assent, a folder for each program; the",
        "variable",
        ".B ASSENT_HOME",
        "moves all of them below one folder, which has to be another one for each program.",
    ]
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        words = inner.command_path.split(" ", 1)[1]
        yield f'.SS "{_text(words)} {_text(" ".join(command.collect_usage_pieces(inner)))}"'
        yield from _paragraphs(command.help or "")
        yield from _options(inner)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]))


def _paragraphs(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a help text; those marked \b keep their lines."""
    for paragraph in re.split(r"\n[ \t]*\n", inspect.cleandoc(text)):
        if not paragraph.startswith("\b"):
            yield from (".PP", _text(" ".join(paragraph.split())))
            continue
        yield from (".PP", ".nf")
        yield from (_text(line) for line in paragraph.lstrip("\b\n").splitlines())
        yield ".fi"


def _split(text: str) -> tuple[str, str]:
    """Return the first paragraph of a help text on one line, and the others."""
    first, _, rest = inspect.cleandoc(text).partition("\n\n")
    return " ".join(first.split()), rest


def _text(text: str) -> str:
    """Return *text* so that groff prints just that."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def _program(target: str) -> click.Command:
    """Return the command behind an entry of pyproject.toml."""
    module = importlib.import_module(target.partition(":")[0])
    commands = [thing for thing in vars(module).values() if isinstance(thing, click.Command)]
    groups = [thing for thing in commands if isinstance(thing, click.Group)]
    named = [group for group in groups or commands if group.name in {"cli", "agent", "tray"}]
    (program,) = named
    return program


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
