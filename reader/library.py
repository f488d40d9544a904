"""What the reader has fetched: frames, consent records, releases, each a file of its own.

Each file is complete or not there, so fetching can stop anywhere and go on later.  Nothing
here is plaintext.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from base.durable import private_folder, remove, replace
from base.errors import SetupError, line_of
from base.stored import Versioned, refuse_newer
from wire.collector_http import KeptConsent
from wire.errors import UNREADABLE, MalformedError
from wire.ids import BatchHash, GrantHash, PolicyDigest
from wire.policy import Policy, decode_policy, policy_digest

FRAME: Final = ".frame"
STAMP: Final = "library.json"  # its version: frames and consents are as others wrote them
T = TypeVar("T")


class Kept(Versioned, frozen=True, kw_only=True):
    """The release of one batch: under which access grant, and the sealed age header."""

    access: bytes  # wire.grant.access_digest
    released: bytes


class SpoiltFileError(SetupError):
    """A file of the library cannot be read any more; delete it and fetch again."""


class Library:
    """The files below one folder."""

    def __init__(self, folder: Path) -> None:
        """Open *folder*, or make it.

        Raises:
            NewerError: A later version of this program keeps its library there.
            OSError: It cannot be used.

        """
        stamp = private_folder(folder) / STAMP
        if stamp.exists():
            refuse_newer(stamp.read_bytes(), stamp)
        else:
            replace(stamp, msgspec.json.encode(Versioned()))
        self._frames = private_folder(folder / "frames")
        self._consents = private_folder(folder / "consents")
        self._releases = private_folder(folder / "releases")
        self._policies = private_folder(folder / "policies")

    def batches(self) -> Iterator[BatchHash]:
        """Yield the names of all frames here, in order of name."""
        for path in sorted(self._frames.glob(f"*{FRAME}")):
            yield BatchHash(bytes.fromhex(path.stem))

    def has_frame(self, batch: BatchHash) -> bool:
        """Whether the frame is here."""
        return self._frame(batch).exists()

    def has_release(self, batch: BatchHash) -> bool:
        """Whether its release is here."""
        return self._release(batch).exists()

    def frame(self, batch: BatchHash) -> bytes:
        """Return the frame's bytes.

        Raises:
            SpoiltFileError: It cannot be read.

        """
        try:
            return self._frame(batch).read_bytes()
        except OSError as exc:
            raise SpoiltFileError(line_of(exc)) from exc

    def consent(self, grant: GrantHash) -> KeptConsent | None:
        """Return the consent record of that hash, or None."""
        return _load(self._consents / f"{grant.hex()}.json", KeptConsent)

    def policy(self, digest: PolicyDigest) -> Policy | None:
        """Return the policy of that digest, or None; its name proves what it is."""
        path = self._policies / f"{digest.hex()}.json"
        try:
            text = path.read_bytes()
            if policy_digest(text) == digest:
                return decode_policy(text)
        except FileNotFoundError:
            return None
        except (OSError, MalformedError) as exc:
            raise SpoiltFileError(f"{path} cannot be read; delete it and fetch again") from exc
        raise SpoiltFileError(f"{path} was changed; delete it and fetch again")

    def release(self, batch: BatchHash) -> Kept | None:
        """Return the release of that batch, or None."""
        return _load(self._release(batch), Kept)

    def keep_frame(self, batch: BatchHash, frame: bytes) -> None:
        """Keep a frame that was checked."""
        replace(self._frame(batch), frame)

    def keep_consent(self, grant: GrantHash, kept: KeptConsent) -> None:
        """Keep a consent record."""
        replace(self._consents / f"{grant.hex()}.json", msgspec.json.encode(kept))

    def keep_policy(self, text: bytes) -> None:
        """Keep the text of a policy."""
        replace(self._policies / f"{policy_digest(text).hex()}.json", text)

    def keep_release(self, batch: BatchHash, kept: Kept) -> None:
        """Keep a release."""
        replace(self._release(batch), msgspec.json.encode(kept))

    def drop(self, batch: BatchHash) -> None:
        """Delete a batch and its release: the release first, so that nothing opens any more."""
        remove(self._release(batch))
        remove(self._frame(batch))

    def _frame(self, batch: BatchHash) -> Path:
        return self._frames / f"{batch.hex()}{FRAME}"

    def _release(self, batch: BatchHash) -> Path:
        return self._releases / f"{batch.hex()}.json"


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        data = path.read_bytes()
        refuse_newer(data, path)
        return msgspec.json.decode(data, type=kind)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as exc:
        raise SpoiltFileError(f"{path} cannot be read; delete it and fetch again") from exc
