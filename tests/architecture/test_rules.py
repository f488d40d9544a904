"""The rules of the house that no linter holds.

Each rule is a function from a module to the lines that break it, written once and tried
twice: on all of our code, where it must find nothing, and on a line that breaks it, where it
must find something.  What depends on who imports whom is held by import-linter (`make
check`, contracts in pyproject.toml).
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import pytest

from tests.architecture.source import Module, modules, parse

Rule: TypeAlias = Callable[[Module], Iterator[str]]

DOORS: Final = ("base.https", "base.serving", "base.volley")

LARGEST_LINES: Final = 450
LARGER: Final[dict[str, str]] = {}  # module: why it is clearer in one piece

AVOIDED: Final = frozenset(
    ["common", "handler", "handlers", "helper", "helpers", "manager", "smart", "util", "utils"]
)
BUILTIN_ERRORS: Final = frozenset(
    name
    for name, thing in vars(builtins).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
)


def network_behind_the_doors(module: Module) -> Iterator[str]:
    """HTTP and TLS are known to the doors alone; names of statuses to all."""
    if module.name in DOORS:
        return
    known = re.compile(r"(ssl|urllib3|urllib\.request|socketserver|ftplib|smtplib|xmlrpc)\b")
    for node, name in module.imports():
        if known.match(name) or re.match(r"http\b(?!\.HTTP(Status|Method)$)", name):
            yield module.at(node, f"imports {name}; go through {' or '.join(DOORS)}")


def internet_sockets_behind_the_doors(module: Module) -> Iterator[str]:
    """Programs talk to each other's processes on Unix sockets; internet sockets are a door's."""
    if module.name in DOORS or module.program == "demo":
        return
    internet = re.compile(
        r"(AF_INET6?|create_(connection|server)|open_connection|start_server|getaddrinfo)$"
    )
    for node, name in module.uses():
        if internet.match(name.rpartition(".")[2]):
            yield module.at(node, f"uses {name}; go through {' or '.join(DOORS)}")


def imports_stand_in_the_open(module: Module) -> Iterator[str]:
    """Nothing is imported by a string, so the import contracts see every import."""
    for node, name in module.uses():
        if name in {"__import__", "import_module", "importlib.import_module"}:
            yield module.at(node, "imports by a string; write an import statement")


def platforms_behind_their_protocol(module: Module) -> Iterator[str]:
    """Which platform this is, only agent/capture/_*.py and agent/session/_*.py ask."""
    if re.fullmatch(r"agent\.(capture|session)\._\w+", module.name):
        return
    for node, name in module.uses():
        if name in {"sys.platform", "os.name", "platform.system"}:
            yield module.at(
                node, f"asks {name}; that belongs in agent/capture/_*.py or agent/session/_*.py"
            )


def formats_read_no_file_and_no_clock(module: Module) -> Iterator[str]:
    """Wire opens nothing but its own registry and asks nobody what time it is."""
    if module.program != "wire":
        return
    files = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
    clocks = {"now", "utcnow", "today"}
    for node, name in module.uses():
        _owner, dot, last = name.rpartition(".")
        if last in files and module.name != "wire.category":
            yield module.at(node, f"uses {name}; whoever calls reads and writes files")
        if dot and last in clocks:
            yield module.at(node, f"asks {name}; whoever calls passes the time in")


def errors_say_who_can_act(module: Module) -> Iterator[str]:
    """Every error of ours descends from AssentError or WireError, whose trees say who can act."""
    roots = {"base.errors": "AssentError", "wire.errors": "WireError"}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ClassDef) or roots.get(module.name) == node.name:
            continue
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in BUILTIN_ERRORS:
                yield module.at(node, f"{node.name} descends from {base.id}; see base.errors")


def modules_are_short(module: Module) -> Iterator[str]:
    """A module is read in one go."""
    lines = module.text.count("\n")
    if lines > LARGEST_LINES and module.name not in LARGER:
        yield f"{module.name} has {lines} lines of at most {LARGEST_LINES}"


def names_say_what_it_is(module: Module) -> Iterator[str]:
    """No module, class or function carries a word that fits everything (docs/GLOSSARY.md)."""
    for node, name in module.definitions():
        if name.startswith("_"):  # can be the name of a library, overridden
            continue
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)}
        if words & AVOIDED or name == "process" or "kill_switch" in name:
            yield module.at(node, f"{name}: say what it does, in the glossary's words")


RULES: Final[dict[Rule, tuple[tuple[str, str], ...]]] = {
    network_behind_the_doors: (
        ("collector.app", "import ssl"),
        ("agent.upload", "from http import client"),
        ("reader.fetch", "import http"),
        ("reader.fetch", "from urllib.request import urlopen"),
        ("tray.icon", "def f() -> None:\n    import urllib3.util"),
    ),
    internet_sockets_behind_the_doors: (
        ("agent.service", "import socket\nsocket.socket(socket.AF_INET)"),
        ("guard.app", "asyncio.start_server(f, port=1)"),
    ),
    imports_stand_in_the_open: (
        ("guard.app", "import importlib\nimportlib.import_module('ssl')"),
        ("guard.app", "__import__('ssl')"),
    ),
    platforms_behind_their_protocol: (
        ("agent.service", "import sys\nif sys.platform == 'win32': pass"),
        ("base.paths", "import os\nos.name"),
    ),
    formats_read_no_file_and_no_clock: (
        ("wire.frame", "open('x')"),
        ("wire.policy", "from datetime import datetime\ndatetime.now()"),
        ("wire.batch", "path.read_bytes()"),
    ),
    errors_say_who_can_act: (
        ("agent.spool", "class FullError(Exception): pass"),
        ("wire.errors", "class OddError(ValueError): pass"),
    ),
    modules_are_short: (("agent.service", "pass\n" * (LARGEST_LINES + 1)),),
    names_say_what_it_is: (
        ("agent.spool_utils", ""),
        ("agent.spool", "class SpoolManager: pass"),
        ("agent.spool", "def upload_helper(): pass"),
        ("agent.redact", "def process(): pass"),
    ),
}

ALLOWED: Final = (
    ("base.https", "import ssl, urllib3"),
    ("collector.app", "from http import HTTPStatus"),
    ("agent.capture._x11", "import sys\nsys.platform"),
    ("wire.category", "resources.files('wire').joinpath('categories.toml').read_text()"),
    ("agent.spool", "class SpoolFullError(SetupError): pass"),
    ("base.process", "def commonly_shared(): pass"),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_our_code_keeps_the_rule(rule: Rule) -> None:
    """Each rule holds in every module; what breaks it is named with its line."""
    assert [line for module in modules() for line in rule(module)] == []


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [(rule, name, text) for rule, planted in RULES.items() for name, text in planted],
)
def test_the_rule_finds_what_breaks_it(rule: Rule, name: str, text: str) -> None:
    """A rule that can find nothing would hold nothing."""
    assert list(rule(parse(name, text)))


@pytest.mark.parametrize(("name", "text"), ALLOWED)
def test_what_is_allowed_breaks_no_rule(name: str, text: str) -> None:
    """The doors may, and a word inside a word is no word."""
    assert [line for rule in RULES for line in rule(parse(name, text))] == []


def test_all_of_our_packages_are_looked_at() -> None:
    """The rules would hold nothing if they looked in the wrong place."""
    assert {"wire.event", "base.errors"} <= {module.name for module in modules()}
