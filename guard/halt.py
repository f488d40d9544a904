"""The guard's own halt and stop: a file each.

A halt holds for the policy that was installed when it was called: it ends when another one is
installed, and not otherwise.  A stop ends when the guard's operator says so.  While one of them
holds, no key is handed out, nothing is released and no lease is signed; erasures go on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from base.durable import remove, replace
from base.errors import SetupError
from base.stored import Versioned, refuse_newer
from guard.trust import PolicySet
from wire.errors import UNREADABLE
from wire.guard_http import GuardState
from wire.ids import PolicyDigest, WallInstant
from wire.policy import policy_digest


class _Called(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: bytes  # the digest of the one that was installed, or empty
    why: str
    by: str
    called_at: WallInstant


class _Stopped(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    why: str
    since: WallInstant


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Halts:
    """The files; read at each question, so that the command line reaches a running guard."""

    path: Path
    """That of a halt; that of a stop lies beside it."""

    @property
    def stop_path(self) -> Path:
        """Where a stop is written down."""
        return self.path.with_name("stop.json")

    def call(self, installed: PolicySet | None, why: str, by: str, now: WallInstant) -> bool:
        """Halt under the installed policy; False if that is so already.

        Raises:
            SetupError: The file there cannot be read.
            OSError: It is not durable.

        """
        if self.state(installed).halted:
            return False
        called = _Called(policy=digest_of(installed), why=why, by=by, called_at=now)
        replace(self.path, msgspec.json.encode(called))
        return True

    def stop(self, why: str, now: WallInstant) -> bool:
        """Stop until `go_on`; False if that is so already.

        Raises:
            SetupError: The file there cannot be read.
            OSError: It is not durable.

        """
        if _read(self.stop_path, _Stopped) is not None:
            return False
        replace(self.stop_path, msgspec.json.encode(_Stopped(why=why, since=now)))
        return True

    def go_on(self) -> bool:
        """End the stop; False if there is none.  A halt stays.

        Raises:
            OSError: It is not durable.

        """
        there = self.stop_path.exists()
        remove(self.stop_path)
        return there

    def state(self, installed: PolicySet | None) -> GuardState:
        """Return whether a halt holds under *installed*, and whether there is a stop.

        Raises:
            SetupError: A file there cannot be read; who knows what it says.

        """
        stop = _read(self.stop_path, _Stopped)
        stopped = "" if stop is None else stop.why
        called = _read(self.path, _Called)
        if called is not None and called.policy in (digest_of(installed), b""):
            return GuardState(halted=True, why=called.why, by=called.by, stopped=stopped)
        return GuardState(halted=False, stopped=stopped)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        data = path.read_bytes()
        refuse_newer(data, path)
        return msgspec.json.decode(data, type=kind)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(f"{path} cannot be used: {exc}; restore it") from exc


def digest_of(installed: PolicySet | None) -> PolicyDigest:
    """Return the digest of the installed policy; empty if there is none."""
    return PolicyDigest(b"") if installed is None else policy_digest(installed.policy)
