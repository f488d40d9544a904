"""Our own code as data: what the tests of this folder look at."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = ("agent", "tray", "collector", "guard", "reader", "governance")
PACKAGES: Final = ("wire", "base", *PROGRAMS, "demo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module: its dotted name, its text, and the text parsed."""

    name: str
    text: str
    tree: ast.Module

    @property
    def program(self) -> str:
        """The top-level package that the module belongs to."""
        return self.name.partition(".")[0]

    def at(self, node: ast.AST, says: str) -> str:
        """Return a line that leads a person to *node*."""
        return f"{self.name}:{getattr(node, 'lineno', 1)} {says}"

    def imports(self) -> Iterator[tuple[ast.AST, str]]:
        """Yield each imported name in full: `from http import client` is `http.client`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)

    def uses(self) -> Iterator[tuple[ast.AST, str]]:
        """Yield each name that is read, as it is written: `open`, `sys.platform`, `a.b.now`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute):
                yield node, ast.unparse(node)

    def definitions(self) -> Iterator[tuple[ast.AST, str]]:
        """Yield the name of each class and function, and of the module itself."""
        yield self.tree, self.name
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node, node.name


def parse(name: str, text: str) -> Module:
    """Return the module *name* with this text."""
    return Module(name=name, text=text, tree=ast.parse(text))


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of our packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(parse(name, path.read_text("utf-8")))
    return tuple(found)
