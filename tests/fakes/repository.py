"""What a collector serves below `/v1/policy/`: made by an organisation, changed by an attacker."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.consent.clocks import deadline_after
from agent.consent.policy import LeaseHeld, PolicyInForce
from agent.consent.refresh import refresh, trust
from base.clock import NANOSECONDS, Clock, Now
from collector.policies import TIMESTAMP_NAME, Published, read_folder
from tests.fakes.organisation import NOW, Organisation, PolicyFolder, wall
from wire.policy import LEASE_SECONDS


@dataclass
class Repository:
    """The files by name; `fetch` is the agent's way to them, and `asked` what it wanted."""

    organisation: Organisation
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    published: Published | None = None
    _leased: tuple[int, bytes] = (0, b"")  # version and snapshot of the last lease

    @classmethod
    def of(
        cls, organisation: Organisation, folder: PolicyFolder, at: datetime = NOW
    ) -> "Repository":
        """Return a repository that serves *folder* under a lease made at *at*."""
        repository = cls(organisation)
        repository.publish(folder, at)
        return repository

    def publish(self, folder: PolicyFolder, at: datetime = NOW) -> None:
        """Add the files of *folder*, as the collector does, under a new lease."""
        self.published = read_folder(folder.folder, wall(at))
        self.files |= self.published.files() | self.published.lasting_files()
        self.renew(folder, at)

    def renew(self, folder: PolicyFolder, at: datetime) -> None:
        """Make a new lease; over another snapshot with a higher version, even in one second."""
        assert self.published is not None
        before, snapshot = self._leased
        version = max(int(at.timestamp()), before + (folder.snapshot != snapshot))
        self._leased = version, folder.snapshot
        self.files[TIMESTAMP_NAME] = self.organisation.lease(
            folder, at, seconds=self.published.policy.lease_seconds, version=version
        )

    def renewing(self, folder: PolicyFolder, clock: Clock) -> Callable[[str], bytes | None]:
        """Return a way to fetch under which each lease begins when it is asked for."""

        def fetch(name: str) -> bytes | None:
            if name == TIMESTAMP_NAME:
                self.renew(folder, datetime.fromtimestamp(clock.now().wall // NANOSECONDS, UTC))
            return self.fetch(name)

        return fetch

    def fetch(self, name: str) -> bytes | None:
        self.asked.append(name)
        return self.files.get(name)


def a_lease(now: Now, seconds: int = LEASE_SECONDS) -> LeaseHeld:
    """Return a lease that began at *now*."""
    return LeaseHeld(began=now, until=deadline_after(now, seconds * NANOSECONDS))


def enrol(
    state: Path, folder: PolicyFolder, fetch: Callable[[str], bytes | None], now: Now
) -> PolicyInForce:
    """Let the device with this state folder trust the root of *folder* and refresh once."""
    trust(state, folder.root)
    return refresh(state, fetch, now)
