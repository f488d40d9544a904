"""Threads that decode the same struct for the first time do not end the process."""

import subprocess
import sys

import click
import pytest

from base.command import outcome

# Ends with SIGSEGV within a second when `learn` does nothing.
RACE = """
import sys, threading, msgspec
from base.structs import learn
sys.setswitchinterval(1e-6)
fields = [f"f{number}" for number in range(30)]
for _ in range(60):
    inner = msgspec.defstruct("Inner", [(name, dict[str, list[int]]) for name in fields])
    outer = msgspec.defstruct("Outer", [("one", inner), ("many", list[inner])])
    one = {name: {"x": [1]} for name in fields}
    data = msgspec.json.encode({"one": one, "many": [one]})
    learn()
    gate = threading.Barrier(4)
    def decode():
        gate.wait()
        msgspec.json.decode(data, type=outer)
    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
LATER = """
import importlib, pkgutil, sys
from base.structs import learn
importlib.import_module(sys.argv[1] + ".__main__")
known = learn()
path = importlib.import_module(sys.argv[1]).__path__
for module in pkgutil.walk_packages(path, sys.argv[1] + "."):
    importlib.import_module(module.name)
assert learn() == known, "some structs are imported later"
"""


def test_what_was_learned_is_decoded_by_many_threads_at_once() -> None:
    """In a process of its own, which would end."""
    subprocess.run([sys.executable, "-c", RACE], check=True, timeout=100)


@pytest.mark.parametrize("program", ["collector", "guard", "agent", "reader", "governance"])
def test_no_program_imports_a_struct_later(program: str) -> None:
    """One that is not there when a program begins would be learned by its threads."""
    subprocess.run([sys.executable, "-c", LATER, program], check=True, timeout=100)


def test_each_program_learns_before_its_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them begin here."""
    steps: list[str] = []
    monkeypatch.setattr("base.command.structs.learn", lambda: steps.append("learns"))

    @click.command()
    def command() -> None:
        steps.append("runs")

    assert outcome(command, "assent-test", [], refusals=()) == 0
    assert steps == ["learns", "runs"]
