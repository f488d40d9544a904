"""A throw-away organisation: the parties, their keys, a signed policy, collector and guard.

Everything goes through the programs' own commands, in the order in which real parties would
type them (docs/guides/first-steps.md), each party by itself until it needs what another made.
Each program has a folder of its own; what one party must not have, it does not get.
"""

import contextlib
import socket
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from demo.programs import Program, ProgramError, side_by_side

Words: TypeAlias = tuple[str | Path, ...]

TENANT: Final = "acme"
CONTROLLER: Final = "Acme Demo Ltd"
REPRESENTATIVES: Final = "Works Council of Acme Demo"
READER: Final = "training-team"
PARTIES: Final = {"controller": CONTROLLER, "council": REPRESENTATIVES}
APPROVERS: Final = {"controller": "Ada", "council": "Grace"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the policy of this organisation asks for; the rest are the draft's safe defaults."""

    applications: tuple[str, ...] = ("xterm:XTerm",)
    levels: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    hold_seconds: int = 2
    test_only: bool = False
    collector_words: tuple[str, ...] = ()  # further ones of its `init`
    collector_settings: str = ""  # further lines of its config.toml


# What was recorded a minute ago is read now: a real collector gives it out on the next day.
READ_TODAY: Final = "\n[readers]\ntoday = true\n"


class Organisation:
    """The parties below *folder*; `with Organisation(folder, plan) as organisation: ...`."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.governance = Program("governance", folder)
        self.collector = Program("collector", folder)
        self.guard = Program("guard", folder)
        self.reader = Program("reader", folder)
        self.policy = folder / "policy"
        self.keys = folder / "parties"
        self._facts: dict[str, dict[str, str]] = {}  # what each program said when it was set up
        self._requests = self._versions = 0

    def __enter__(self) -> Self:
        try:
            self.found()
            self.serve()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def found(self) -> None:
        """Make every party, introduce them to each other, and have the policy signed."""
        self.policy.mkdir(exist_ok=True)
        at_guard, at_collector = _addresses(2)
        side_by_side(
            partial(self._make_guard, at_guard),
            partial(self._make_collector, at_collector),
            self._make_reader,
            *(partial(self._make_keys, party) for party in PARTIES),
        )
        self._introduce()
        self.sign_policy()

    def sign_policy(self) -> None:
        """Draft the next version of the policy, have it signed by every party, put it in force."""
        self._versions += 1
        draft = self.policy / "policy.json"
        draft.unlink(missing_ok=True)
        self.governance.run("draft", draft, *self._wishes())
        for number, party in enumerate(PARTIES):
            first = self._public() if self._versions == 1 and number == 0 else []
            key = self.keys / party / "policy-key.pem"
            self.governance.run("sign", self.policy, "--key", key, *first, "--yes")
        side_by_side(
            partial(self.governance.run, "verify", self.policy),
            partial(self.collector.run, "publish", self.policy),
            partial(self.guard.run, "trust", self.policy, "--yes"),
        )

    def serve(self) -> None:
        """Start guard and collector and wait until they answer."""
        for program in (self.guard, self.collector):
            port_file = program.home / "port"
            port_file.unlink(missing_ok=True)
            program.serve("serve", "--port-file", port_file)
            program.wait_until("open port", port_file.exists)

    def stop(self) -> None:
        """Stop what serves."""
        for program in (self.collector, self.guard):
            program.stop()

    def enrolment_file(self, name: str) -> Path:
        """Return a new enrolment file for one workstation."""
        path = self.folder / f"{name}.enrol"
        self.collector.run("token", "--out", path)
        return path

    def stored(self) -> dict[bytes, int]:
        """Return the size of each batch that the collector keeps, in bytes, by its hash.

        No command tells: this is what whoever has the server's account can look up.
        """
        return dict(self._looked_up("SELECT batch, bytes FROM batches"))

    def released(self) -> list[bytes]:
        """Return the batch of each release that the collector has logged, looked up like that."""
        return [batch for (batch,) in self._looked_up("SELECT batch FROM releases")]

    def _looked_up(self, query: str) -> list[tuple[Any, ...]]:
        index = self.collector.home / "state/index.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def access_grant(self, *categories: str, why: str = "train the demo model") -> Path:
        """Return a grant to open what was captured around today, approved by both parties."""
        today = datetime.now(UTC).date()
        self._requests += 1
        request = self.folder / f"access-request-{self._requests}.json"
        grant = self.folder / f"access-grant-{self._requests}.json"
        chosen = [word for category in categories for word in ("--category", category)]
        first, last = today - timedelta(days=1), today + timedelta(days=1)
        self.reader.run(
            *("request", "--purpose", "train-computer-use", *chosen),
            *("--from", first.isoformat(), "--to", last.isoformat(), "--why", why),
            *("--programme", "pilot", "--out", request),
        )
        self._approve(request, grant, "controller")
        self._approve(grant, grant, "council")
        return grant

    def _approve(self, what: Path, grant: Path, party: str) -> None:
        key = self.keys / party / "approver-key.pem"
        name = APPROVERS[party]
        self.governance.run("approve", what, "--key", key, "--name", name, "--out", grant, "--yes")

    def _make_guard(self, addresses: Words) -> None:
        self._facts["guard"] = self.guard.facts("init", "--tenant", TENANT, *addresses)

    def _make_collector(self, addresses: Words) -> None:
        self._facts["collector"] = self.collector.facts(
            *("init", "--tenant", TENANT, *addresses, *self.plan.collector_words)
        )
        with (self.collector.home / "config/config.toml").open("a", encoding="utf-8") as config:
            config.write(READ_TODAY + self.plan.collector_settings)

    def _make_reader(self) -> None:
        self._facts["reader"] = self.reader.facts("keygen", "--name", READER)

    def _introduce(self) -> None:
        """The guard certifies collector and reader, the collector certifies the reader."""
        guard, collector, reader = (self._facts[p] for p in ("guard", "collector", "reader"))
        guard_authority = self.folder / "guard-ca.pem"
        guard_authority.write_text(guard["ca_pem"])
        for_collector, at_guard, at_collector = (
            self.folder / f"{name}.pem"
            for name in ("collector-at-guard", "reader-at-guard", "reader-at-collector")
        )
        for_reader = ("certify", "--role", "reader", reader["csr"], "--name", READER, "--out")
        request = ("certify", "--role", "collector", collector["guard_csr"], "--name", "main")
        side_by_side(
            partial(_each, self.guard, (*request, "--out", for_collector), (*for_reader, at_guard)),
            partial(_each, self.collector, (*for_reader, at_collector)),
        )
        guards = ("--pin", guard["tls_pin"], "--ca", guard_authority, "--certificate")
        collectors = ("--pin", collector["tls_pin"], "--ca", collector["ca_pem"], "--certificate")
        to_guard = ("connect", "guard", "--origin", guard["readers"], *guards, at_guard)
        to_collector = ("connect", "collector", "--origin", collector["readers"], *collectors)
        connect = ("connect-guard", "--origin", guard["origin"], *guards, for_collector)
        side_by_side(
            partial(_each, self.collector, connect),
            partial(_each, self.reader, to_guard, (*to_collector, at_collector)),
        )

    def _make_keys(self, party: str) -> None:
        home, new = self.keys / party, ("keys", "new")
        named = ("--party", PARTIES[party])
        self.governance.run(*new, home, *named)
        self.governance.run(*new, home, *named, "--name", APPROVERS[party], "--role", "approver")

    def _public(self) -> list[str | Path]:
        keys = (self.keys / party / "policy-key.public.json" for party in PARTIES)
        return [word for key in keys for word in ("--public", key)]

    def _wishes(self) -> list[str | Path]:
        plan = self.plan
        guard, collector, reader = (self._facts[p] for p in ("guard", "collector", "reader"))
        next_year = datetime.now(UTC).date() + timedelta(days=365)
        words: list[str | Path] = [
            *("--programme", "pilot", "--tenant", TENANT, "--version", str(self._versions)),
            *("--controller", CONTROLLER, "--controller-contact", "privacy@acme.example"),
            *("--representatives", REPRESENTATIVES),
            *("--representatives-contact", "council@acme.example"),
            *("--jurisdiction", "DE", "--hours", "mon-sun=00:00-24:00"),
            *("--justification", "screen=a click means nothing without what is shown there"),
            *("--origin", collector["origin"], "--pin", collector["tls_pin"]),
            *("--log-key", collector["log_key"]),
            *("--guard-name", "the council's guard", "--guard-run-by", REPRESENTATIVES),
            *("--guard-key", guard["signing_key"], "--witness", guard["witness"]),
            *("--guard-lease-key", guard["lease_key"]),
            *("--collector-lease-key", collector["lease_key"]),
            *("--recipient", f"{READER}={reader['entry']}"),
            *("--threshold", "2", "--hold", str(plan.hold_seconds)),
            *("--assessment", "DPIA-2026-DEMO", "--assessment-expires", next_year.isoformat()),
            *("--review", self.governance.facts("review")["digest"]),
        ]
        for party in PARTIES:
            words += ["--approver", self.keys / party / "approver-key.public.json"]
        for application in plan.applications:
            words += ["--application", application]
        for category, level in plan.levels.items():
            words += ["--level", f"{category}={level}"]
        for category, rate in plan.rates.items():
            words += ["--rate", f"{category}={rate}"]
        return [*words, "--test-only"] if plan.test_only else words


def _each(program: Program, *commands: Words) -> None:
    for words in commands:
        program.run(*words)


def _addresses(servers: int) -> list[Words]:
    """Return where each server is called, by readers on a listener of their own."""
    at = [f"https://127.0.0.1:{port}" for port in free_ports(2 * servers)]
    return [("--origin", at[n], "--readers", at[n + 1]) for n in range(0, len(at), 2)]


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    (port,) = free_ports(1)
    return port


def free_ports(many: int) -> list[int]:
    """Return so many different ones."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(many)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


__all__ = ["Organisation", "Plan", "ProgramError", "free_port"]
