"""What the guides tell people to type, fill in and look for is there.

Command lines are taken from the pages and from the commands' own help, and parsed by the
commands' own parsers; nothing runs.  `tests/e2e/test_first_steps.py` runs them.
"""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec
import pytest
from click.shell_completion import get_completion_class

import agent.__main__
import collector.__main__
import governance.__main__
import guard.__main__
import reader.__main__
import tray.__main__
from base.command import outcome
from base.errors import ExitCode
from governance.lint import lint
from tests.architecture.source import ROOT
from tests.fakes.agent import a_status
from tests.fakes.organisation import NOW
from tray.view import Line, Mark, view
from wire import policy as policy_parts
from wire.category import Category, registry
from wire.control import Reason
from wire.ids import WallInstant
from wire.policy import Policy, decode_policy

GUIDES: Final = ROOT / "docs" / "guides"
PAGES: Final = (*sorted(GUIDES.glob("*.md")), ROOT / "README.md")
GROUPS: Final[dict[str, click.Command]] = {
    "assent-agent": agent.__main__.agent,
    "assent-collector": collector.__main__.cli,
    "assent-govern": governance.__main__.cli,
    "assent-guard": guard.__main__.cli,
    "assent-reader": reader.__main__.cli,
    "assent-tray": tray.__main__.tray,
}
LEFT_OUT: Final = {"...", "…"}  # "and so on": what is required may be missing


class Typed(NamedTuple):
    """A command line, and where somebody is told to type it, or only hears of it."""

    place: str
    line: str
    whole: bool = True


class NotUnderstoodError(Exception):
    """The command would not take this line."""


def commands(group: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield *group* and every command below it, each with its names."""
    yield names, group
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, *names, name)


EVERY: Final = [each for name, group in GROUPS.items() for each in commands(group, name)]


def typed(place: str, text: str) -> Iterator[Typed]:
    """Yield the command lines in a text: lines of their own, and mentions in backticks."""
    joined = re.sub(r"\\\n *", "", text)
    for line in re.findall(r"^ *(assent-\w+ .*)$", joined, re.MULTILINE):
        yield Typed(place, re.sub(r"  +.*", "", line))  # behind two blanks stands a remark
    for line in re.findall(r"`(assent-\w+ [^`]+)`", joined):
        yield Typed(place, line, whole=False)


def all_typed() -> list[Typed]:
    """Return every line of ours that a page or a help text tells somebody to type."""
    found = [each for page in PAGES for each in typed(page.name, page.read_text("utf-8"))]
    for names, command in EVERY:
        found += typed(f"{' '.join(names)} --help", command.help or "")
    return list(dict.fromkeys(found))


def understand(line: str, *, whole: bool = True) -> None:
    """Let the command's own parser read *line*; a *whole* one has all that is required.

    Raises:
        NotUnderstoodError: There is no such command or option, a choice is none, an
            argument is too many, or something required is missing.

    """
    path, *words = shlex.split(line)
    if path not in GROUPS:
        raise NotUnderstoodError(f"{path} is no command")
    command = GROUPS[path]
    while isinstance(command, click.Group):
        if not words or words[0] not in command.commands:
            raise NotUnderstoodError(f"{path} has no command {words[:1]}")
        path = f"{path} {words[0]}"
        command = command.commands[words.pop(0)]
    _parse(command, path, words, whole=whole and not LEFT_OUT & set(words))


def _parse(command: click.Command, path: str, words: list[str], *, whole: bool) -> None:
    words = [w for i, w in enumerate(words) if w not in LEFT_OUT or words[i - 1].startswith("--")]
    context = click.Context(command, info_name=path)
    try:
        values, rest, _order = command.make_parser(context).parse_args(args=words)
    except click.UsageError as exc:
        raise NotUnderstoodError(exc.format_message()) from exc
    if rest and not context.allow_extra_args:
        raise NotUnderstoodError(f"{path} does not take {rest}")
    for parameter in command.params:
        value = values.get(parameter.name or "")
        given = [str(v) for v in (value if isinstance(value, list | tuple) else [value])]
        if parameter.name not in values or not isinstance(value, str | list | tuple | bool):
            given = []
        if parameter.required and not given and whole:
            raise NotUnderstoodError(f"{path} wants {parameter.get_error_hint(context)}")
        if isinstance(parameter.type, click.Choice):
            strange = [w for w in given if w not in parameter.type.choices and not w.isupper()]
            if strange:
                raise NotUnderstoodError(f"{path}: {strange} is none of its choices")


@pytest.mark.parametrize("program", sorted(GROUPS.keys() - {"assent-tray"}))
def test_every_program_says_which_version_it_is(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that the packages are of; nobody but the agent starts the tray."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert outcome(GROUPS[program], program, ["--version"], refusals=()) == 0
    assert capsys.readouterr().out == f"{program} {project['version']}\n"


@pytest.mark.parametrize("each", all_typed(), ids=lambda each: f"{each.place}: {each.line[:60]}")
def test_every_line_that_somebody_is_told_to_type_is_understood(each: Typed) -> None:
    """The command is there, and so are its options and choices."""
    understand(each.line, whole=each.whole)


@pytest.mark.parametrize(
    "line",
    [
        "assent-agent record",
        "assent-agents status",
        "assent-guard init --origin https://guard.example:8444",
        "assent-guard init --origin https://guard.example:8444 --tenant acme --colour red",
        "assent-agent opt-out microphone",
        "assent-agent pause 5",
        "assent-govern keys",
        "assent-collector token",
    ],
)
def test_a_line_that_would_not_work_is_found(line: str) -> None:
    """The check would hold nothing if it took everything."""
    with pytest.raises(NotUnderstoodError):
        understand(line)


def test_the_lines_are_really_found() -> None:
    """On each page that teaches, and in the help of each program that people start."""
    places = {each.place for each in all_typed()}
    assert {page.name for page in PAGES} <= places
    assert len(all_typed()) > 80


@pytest.mark.parametrize(("names", "command"), EVERY, ids=lambda each: str(each)[:40])
def test_no_command_is_cut_short_in_a_list(names: tuple[str, ...], command: click.Command) -> None:
    """In 80 columns, `--help` of a group says of each command a whole sentence."""
    if isinstance(command, click.Group):
        room = 78 - 6 - max(map(len, command.commands))
        texts = {name: each.get_short_help_str(room) for name, each in command.commands.items()}
        assert [name for name, text in texts.items() if text.endswith("...")] == [], names


def lacking(command: click.Command) -> list[str]:
    """Return what the `--help` of this command leaves to be guessed."""
    text = command.help or ""
    first = " ".join(text.split("\n\n", 1)[0].split())
    found = [] if first.endswith(".") and len(first) < WIDTH else ["a first line of one sentence"]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            found += [] if parameter.help else [f"what {parameter.opts[0]} is for"]
            continue
        shown = parameter.metavar or (parameter.name or "").upper()
        choices = isinstance(parameter.type, click.Choice)  # which the usage line has
        found += [] if choices or re.search(rf"\b{shown}\b", text) else [f"what {shown} is"]
    if not isinstance(command, click.Group) and command.params and "Example" not in text:
        found.append("an example")
    return found


WIDTH: Final = 80


@pytest.mark.parametrize(("names", "command"), EVERY, ids=lambda each: str(each)[:40])
def test_help_is_enough_to_use_a_command(names: tuple[str, ...], command: click.Command) -> None:
    """A sentence, every option and argument, and a line to type, of each command there is."""
    exempt = ["an example"] if names == ("assent-tray",) else []  # the agent alone starts it
    assert [each for each in lacking(command) if each not in exempt] == [], names


def test_help_that_is_not_enough_is_found() -> None:
    """The check would hold nothing if it took everything."""
    options = [
        click.Argument(["file"]),
        click.Option(["--days"], type=int, default=7, show_default=True),
        click.Option(["--role"], type=click.Choice(["a", "b"])),
    ]
    bare = click.Command("bare", params=options, help="Do it")
    assert lacking(bare) == [
        "a first line of one sentence",
        "what FILE is",
        "what --days is for",
        "what --role is for",
        "an example",
    ]


@pytest.mark.parametrize(("names", "command"), EVERY, ids=lambda each: str(each)[:40])
def test_no_help_shows_what_only_a_programmer_reads(
    names: tuple[str, ...], command: click.Command
) -> None:
    """Forms of dates and classes of Python stand nowhere in a usage line."""
    shown = click.Context(command, info_name=names[-1])
    text = command.get_help(shown)
    assert not re.search(r"%[YmdHMS]|<\w+>|\bNone\b|functools", text), names


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "assent-tray"])
def test_the_help_of_a_program_says_where_its_files_are_and_how_it_ends(name: str) -> None:
    """And how to have all of it in one folder, which is how it is tried on one machine."""
    text = " ".join(GROUPS[name].get_help(click.Context(GROUPS[name], info_name=name)).split())
    assert all(f"{int(code)} " in text for code in ExitCode)
    assert f"_{name.upper().replace('-', '_')}_COMPLETE=bash_source {name}" in text
    assert ("ASSENT_HOME" in text) is (name != "assent-govern")  # which keeps no files of its own


def test_the_completion_that_the_guide_shows_is_there() -> None:
    """Named for the variable that click asks for, in the shells that click knows."""
    text = (GUIDES / "first-steps.md").read_text("utf-8")
    variable, shell, program = re.findall(r"\$\((\w+)=(\w+)_source ([\w-]+)\)", text)[0]
    assert variable == f"_{program.replace('-', '_').upper()}_COMPLETE"
    assert program in GROUPS
    named = [shell, *re.findall(r"`(\w+)_source`", text)]
    assert all(get_completion_class(each) for each in named)


# --- docs/guides/policy.md ----------------------------------------------------------------


def parts() -> list[type[msgspec.Struct]]:
    """Return `Policy` and every part that it has."""
    found: list[type[msgspec.Struct]] = [Policy]
    for one in found:
        for field in msgspec.structs.fields(one):
            named = re.findall(r"wire\.policy\.(\w+)", str(field.type))
            for name in named:
                kind = getattr(policy_parts, name)
                if issubclass(kind, msgspec.Struct) and kind not in found:
                    found.append(kind)
    return found


def test_the_parts_of_a_policy_are_really_found() -> None:
    """A look at `Policy` alone would miss most of its fields."""
    assert {kind.__name__ for kind in parts()} == {
        *("Policy", "Party", "Application", "CategoryRule", "Recipient", "Guard"),
        "FormerKeys",
        *("Collector", "Approver", "Assessment", "Hours", "Witness"),
    }


@pytest.mark.parametrize("part", parts(), ids=lambda part: part.__name__)
def test_the_policy_guide_explains_every_field(part: type[msgspec.Struct]) -> None:
    """A policy can be filled in and read with that page alone."""
    text = (GUIDES / "policy.md").read_text("utf-8")
    assert [name for name in part.__struct_fields__ if f"`{name}`" not in text] == []


def test_the_policy_guide_says_of_every_level_what_the_data_subject_reads() -> None:
    """Word for word: the registry is what they read."""
    text = (GUIDES / "policy.md").read_text("utf-8")
    for category, entry in registry().items():
        for level, sentence in entry.levels.items():
            assert f"| `{category}` | `{level}` | {sentence} |" in text


def test_the_example_in_the_policy_guide_is_a_safe_policy() -> None:
    """It has every field, and nothing stands against it but what was cut short."""
    text = (GUIDES / "policy.md").read_text("utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert tuple(json.loads(example)) == Policy.__struct_fields__
    refused = {refusal.rule.name for refusal in lint(decode_policy(example.encode()), NOW.date())}
    assert refused == {"another-review", "bad-key", "no-pin", "no-recipient"}


# --- docs/guides/employee.md --------------------------------------------------------------


def labels() -> set[str]:
    """Return every line that the tray's menu can have."""
    status = a_status(Reason.PAUSED_UNTIL, paused_until=1)
    lines = [*view(status, WallInstant(0)).lines, *view(a_status(), WallInstant(0)).lines]
    return {line.label for line in lines if isinstance(line, Line)}


def test_the_guide_for_the_data_subject_names_only_lines_that_the_menu_has() -> None:
    """What stands in quotes there is found in the menu, letter for letter."""
    named = re.findall("“(.*?)”", (GUIDES / "employee.md").read_text("utf-8"))
    assert named
    assert set(named) - labels() == set()


def test_the_guide_for_the_data_subject_explains_the_five_icons() -> None:
    """Each by its name; how it looks stands beside it."""
    text = (GUIDES / "employee.md").read_text("utf-8")
    assert set(re.findall(r"^\| an? .* \| (\w+) \|", text, re.MULTILINE)) == {
        *(mark.value for mark in Mark if mark is not Mark.PAUSED)
    }
    assert "| two blue bars | paused |" in text


def test_the_guide_for_the_data_subject_names_every_category() -> None:
    """By the title that the menu has for it."""
    text = (GUIDES / "employee.md").read_text("utf-8").lower()
    assert all(registry()[category].title.lower() in text for category in Category)


def test_guides_are_short() -> None:
    """Who needs more than 200 lines will not read them."""
    assert [page.name for page in GUIDES.glob("*.md") if _lines(page) > 250] == []
    assert _lines(GUIDES / "employee.md") < 80


def _lines(page: Path) -> int:
    return page.read_text("utf-8").count("\n")
