"""Fetches the policy and its lease from the collector: python-tuf's client, and our own fetcher.

Rollback, freeze, mix-and-match and the rest are `tuf.ngclient.Updater`'s to refuse.  Ours is what
stands around it: the clock is the agent's, the bytes come through the one door of the agent (a
function that is given), and only what came whole takes the place of what is in force.

    tuf/trusted-root.json   the root that the enrolment named; the chain begins here every time
    tuf/root_history/ ...   what the updater keeps, so that nothing older is taken again
    tuf/in-force.json       what the last complete refresh brought: all that the gate goes by
"""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]  # re-exported
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from agent.consent.policy import FOLDER, IN_FORCE, Fetched, PolicyInForce, judge, read_fetched
from base import durable
from base.clock import NANOSECONDS, Now
from base.errors import AssentError, RejectedError, RetryableError, SetupError
from wire.errors import MalformedError, WireError
from wire.metadata import Timestamp, version_of
from wire.policy import TARGET_NAME, verify_signatures

Fetch: TypeAlias = Callable[[str], bytes | None]
"""Returns one file of the collector's policy by name, None when there is none of that name."""

TRUSTED_ROOT: Final = f"{FOLDER}/trusted-root.json"
LARGEST_BYTES: Final = 1 << 20  # of any one file; a policy has some 10 kB
MOST_ROOTS: Final = 64  # that one refresh follows
_SLICE: Final = 64 << 10


def trust(folder: Path, root: bytes) -> None:
    """Begin the chain in the state *folder* with *root*, whose digest the enrolment named."""
    durable.private_folder(folder / FOLDER)
    durable.replace(folder / TRUSTED_ROOT, root)


def refresh(
    folder: Path, fetch: Fetch, now: Now, accept: Callable[[PolicyInForce], None] = lambda _: None
) -> PolicyInForce:
    """Bring the policy in the state *folder* up to date; return it.

    1. the roots, from the one of the enrolment on; 2. the timestamp, which is the lease;
    3. the snapshot, the targets and the policy that it names, as far as they are new; 4. the
    parties' rule, and what *accept* asks for; 5. all of it takes the place of what was in force.

    Whatever fails before 5 leaves what was in force as it is, until its own lease ends.

    Raises:
        RetryableError: No answer that may be believed.
        RejectedError: What the collector offers is refused.
        SetupError: This device has no root to begin with.
        OSError: The disk fails.

    """
    try:
        trusted = (folder / TRUSTED_ROOT).read_bytes()
    except FileNotFoundError:
        raise SetupError("this device trusts no root yet; enrol it again") from None
    try:
        files = _Refresher(folder / FOLDER, _Fetcher(fetch), now, trusted).bring()
    except DownloadLengthMismatchError as exc:
        raise RejectedError("the collector's policy does not end; it is not taken") from exc
    except DownloadError as exc:
        why = exc.__cause__
        said = str(why) if isinstance(why, AssentError) else str(exc)
        raise RetryableError(f"the policy could not be renewed: {said}") from exc
    except (RepositoryError, ValueError) as exc:
        raise RejectedError(f"the collector's policy is refused: {exc}") from exc
    fetched = _first_seen(folder, files)
    in_force = judge(fetched, now)
    if in_force.policy is None:
        _refuse_what_is_newer(fetched)
        raise RejectedError(f"the collector's policy is refused: {in_force.problem}")
    accept(in_force)
    # A crash before this leaves the policy of before; after it, the new one.
    durable.replace(folder / IN_FORCE, msgspec.json.encode(fetched))
    return in_force


def _refuse_what_is_newer(fetched: Fetched) -> None:
    """Say so if the policy is signed as it must be and this version cannot read it."""
    try:
        verify_signatures(
            root=fetched.root,
            snapshot=fetched.snapshot,
            targets=fetched.targets,
            policy=fetched.policy,
        )
    except MalformedError as exc:
        raise RejectedError(
            f"the collector has a policy that this version cannot use ({exc}); the one you know "
            "holds until its lease ends; install a newer assent"
        ) from exc
    except WireError:
        return  # said by whoever asked


def _first_seen(folder: Path, fetched: Fetched) -> Fetched:
    """Return *fetched* with the reading of the boot clock when its timestamp came first."""
    with suppress(OSError, WireError):
        before = read_fetched(folder)
        if before is not None and before.boot_id == fetched.boot_id:
            old, new = (version_of(it.timestamp, Timestamp) for it in (before, fetched))
            if old == new:
                return msgspec.structs.replace(fetched, first_boot=before.first_boot)
    return fetched


class _Refresher(Updater):
    """The updater on the agent's clock, which writes so that a power failure costs nothing."""

    def __init__(self, folder: Path, fetcher: "_Fetcher", now: Now, trusted: bytes) -> None:
        self._now = now
        self._bytes = fetcher
        config = UpdaterConfig(
            max_root_rotations=MOST_ROOTS,
            root_max_length=LARGEST_BYTES,
            snapshot_max_length=LARGEST_BYTES,
            targets_max_length=LARGEST_BYTES,
        )
        super().__init__(str(folder), "/", str(folder), "/", fetcher, config, bootstrap=trusted)
        self._trusted_set.reference_time = datetime.fromtimestamp(now.wall // NANOSECONDS, UTC)

    def bring(self) -> Fetched:
        """Refresh, fetch the policy, and return all of it."""
        self.refresh()
        info = self.get_targetinfo(TARGET_NAME)
        if info is None:
            raise RepositoryError(f"the targets do not name {TARGET_NAME}")
        file = Path(self._dir) / TARGET_NAME
        if self.find_cached_target(info, str(file)) is None:
            data = self._bytes.download_bytes(f"/{_named(info)}", info.length)
            info.verify_length_and_hashes(data)
            durable.replace(file, data)
        folder, now = Path(self._dir), self._now
        root = f"root_history/{self._trusted_set.root.version}.root.json"
        return Fetched(
            root=(folder / root).read_bytes(),
            timestamp=(folder / "timestamp.json").read_bytes(),
            snapshot=(folder / "snapshot.json").read_bytes(),
            targets=(folder / "targets.json").read_bytes(),
            policy=file.read_bytes(),
            boot=now.boot,
            wall=now.wall,
            boot_id=now.boot_id,
            first_boot=now.boot,
        )

    def _update_root_symlink(self) -> None:
        """Keep no link to the newest root: who needs it asks for it by its version.

        The mode of a link says that it is for everybody, and a crash could leave none.
        """

    def _persist_file(self, filename: str, data: bytes) -> None:
        """Keep *data*; python-tuf does not wait for the disk, and rollback protection needs it."""
        path = Path(filename)
        if not path.exists() or path.read_bytes() != data:
            durable.replace(path, data)


def _named(info: TargetFile) -> str:
    """Return the name under which the collector has a policy (consistent snapshots)."""
    digest = info.hashes.get("sha256")
    if digest is None:
        raise RepositoryError(f"the targets give no SHA-256 of {TARGET_NAME}")
    return f"{digest}.{TARGET_NAME}"


class _Fetcher(FetcherInterface):
    """Hands the updater what comes through the door; knows no network."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch_file = fetch

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self._fetch_file(url.removeprefix("/"))
        if data is None:
            raise DownloadHTTPError("the collector has no such file", 404)
        stream = io.BytesIO(data)
        return iter(lambda: stream.read(_SLICE), b"")
