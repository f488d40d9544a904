"""The guard's own halt: one file, which holds for the policy that was installed then.

While it holds, no key is handed out and nothing is released; erasures go on.  It ends when
another policy is installed, and not otherwise.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from base.durable import replace
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


@dataclass(frozen=True, slots=True)
class Halts:
    """The file; read at each question, so that the command line reaches a running guard."""

    path: Path

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

    def state(self, installed: PolicySet | None) -> GuardState:
        """Return whether a halt holds under *installed*.

        Raises:
            SetupError: The file there cannot be read; who knows what it says.

        """
        with contextlib.suppress(FileNotFoundError):
            called = self._read()
            if called.policy in (digest_of(installed), b""):
                return GuardState(halted=True, why=called.why, by=called.by)
        return GuardState(halted=False)

    def _read(self) -> _Called:
        try:
            data = self.path.read_bytes()
            refuse_newer(data, self.path)
            return msgspec.json.decode(data, type=_Called)
        except FileNotFoundError:
            raise
        except (OSError, *UNREADABLE) as exc:
            raise SetupError(f"{self.path} cannot be used: {exc}; restore it") from exc


def digest_of(installed: PolicySet | None) -> PolicyDigest:
    """Return the digest of the installed policy; empty if there is none."""
    return PolicyDigest(b"") if installed is None else policy_digest(installed.policy)
