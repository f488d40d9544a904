"""The guard's public keys that this device may seal to, one a category and month.

`guard-keys.json` keeps them as they were signed; each is verified whenever it is loaded, so
a file that was tampered with opens no third lock.  Without a key nothing of that category
can be sealed, so nothing of it is captured.

The guard may change its own key: then a key of before counts once it is signed by the new one,
too, as the guard does while one follows the other, or signs it anew when it is asked.  What was
recorded under the policy of before is sealed by what that policy's key had signed for it.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from agent.guard_orders import GuardOrders
from base import durable
from base.clock import NANOSECONDS, Now
from base.stored import Versioned, refuse_newer
from wire.category import Category
from wire.errors import UNREADABLE, WireError
from wire.guard_http import KeyAnswer, KeyRequest, verify_key
from wire.guard_order import Order, SignedOrder
from wire.ids import SubjectId

_LOG: Final = logging.getLogger(__name__)

FILE_NAME: Final = "guard-keys.json"
AHEAD: Final = timedelta(days=3)  # the next month's key is fetched so long before it begins


class _Kept(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    category: Category
    month: str
    answer: KeyAnswer


class GuardKeys:
    """The keys at hand, verified under the guard that the policy names."""

    def __init__(self, folder: Path, subject: SubjectId) -> None:
        """No key is loaded yet: which guard is the right one is not known.

        Raises:
            NewerError: A later version of this program wrote what the guard has erased.

        """
        self.orders = GuardOrders(folder, subject)
        self._path = folder / FILE_NAME
        self._subject = subject
        self._signing_key = ""
        self.unkept = ""  # what the disk said when it took no keys; `keep` tries again
        self._kept: dict[tuple[Category, str], KeyAnswer] = {}
        self._verified: dict[str, dict[tuple[Category, str], bytes]] = {"": {}}  # by signing key

    @property
    def keys(self) -> Mapping[tuple[Category, str], bytes]:
        """The public keys by category and month ("2027-03")."""
        return self.of(self._signing_key)

    def of(self, signing_key: str) -> Mapping[tuple[Category, str], bytes]:
        """Return those that were verified under the guard's key in a policy, since the start."""
        return MappingProxyType(self._verified.get(signing_key, {}))

    def use_guard(self, signing_key: str) -> None:
        """Take the guard of the policy in force; keys that another one signed are not used.

        Raises:
            NewerError: A later version of this program wrote the file; no key is taken, nor
                asked for: it would be written over that file.

        """
        if signing_key == self._signing_key:
            return
        every = self._read()
        self._signing_key = signing_key
        self._verified[signing_key] = {}
        for kept in every:
            try:
                self._take(kept.category, kept.month, kept.answer)
            except WireError as exc:
                _LOG.info("a kept key of the guard is not used: %s", exc)

    def believed(self, said: Iterable[SignedOrder], origin: str) -> tuple[Order, ...]:
        """Return what of *said* is the word of the guard in use; it may be asked in a thread."""
        key = self._signing_key
        return self.orders.believed(said, origin, key) if key else ()

    def obey(self, believed: Iterable[Order]) -> list[Order]:
        """Use no more what the guard in use has erased by its own hand; return what is new.

        Raises:
            OSError: It stays noted and is not used until the agent ends; told again, it goes.

        """
        try:
            return self.orders.hear(believed)
        finally:
            closed = [key for key in self._kept if self.orders.covers(*key)]
            for key in closed:
                del self._kept[key]
                self._drop(key)
            if closed:
                self._save()

    def add(self, category: Category, month: str, answer: KeyAnswer) -> None:
        """Take a key that was just fetched.

        Raises:
            WireError: Not signed by the guard that the policy names, for exactly this.
            OSError: It could not be kept; it is used until the agent ends.

        """
        self._take(category, month, answer)
        self._save()

    def keep(self) -> None:
        """Try again what the disk has refused, if anything.

        Raises:
            OSError: It refuses still.

        """
        if self.unkept:
            self._save()

    def _save(self) -> None:
        kept = [
            _Kept(category=category, month=month, answer=answer)
            for (category, month), answer in self._kept.items()
        ]
        try:
            durable.replace(self._path, msgspec.json.encode(kept))
        except OSError as exc:
            self.unkept = f"the guard's keys could not be kept: {exc.strerror}"
            raise
        self.unkept = ""

    def forget(self, categories: Iterable[Category]) -> None:
        """Use these keys no more: the guard erases them, and what they seal nobody opens.

        Raises:
            OSError: They stay noted until `keep` succeeds, and are not used until the agent ends.

        """
        gone = set(categories)
        kept = {(k.category, k.month): k.answer for k in self._read()} | self._kept
        self._kept = {key: answer for key, answer in kept.items() if key[0] not in gone}
        for key in [key for known in self._verified.values() for key in known if key[0] in gone]:
            self._drop(key)
        self._save()

    def doubt(self, why: str) -> None:
        """Fetch all keys again if the collector refused a batch for its key.

        An erasure that came late took a new key along, and nobody could open more of it.

        Raises:
            OSError: They stay noted, and are not used until the agent ends.

        """
        if "guard-key-unknown" in why:
            self.forget(Category)

    def has(self, category: Category, now: Now) -> bool:
        """Whether *category* could be sealed at *now*."""
        return (category, month_at(now)) in self.keys

    def why_not(self, category: Category, now: Now) -> str:
        """Return why *category* could not be sealed at *now*, for the data subject; empty if so."""
        if self.orders.covers(category, month_at(now)):
            return "The guard has erased its keys for this, for good; see `assent-agent status`."
        if not self.has(category, now):
            return "The guard's key for this month has not come yet from the collector."
        return ""

    def missing(self, categories: Iterable[Category], now: Now) -> list[tuple[Category, str]]:
        """Return what to fetch: this month's keys, and near its end the next month's."""
        soon = Now(
            boot=now.boot, wall=now.wall + int(AHEAD.total_seconds()) * NANOSECONDS, boot_id=""
        )
        months = dict.fromkeys((month_at(now), month_at(soon)))
        return [
            (c, m)
            for m in months
            for c in categories
            if (c, m) not in self.keys and not self.orders.covers(c, m)
        ]

    def _take(self, category: Category, month: str, answer: KeyAnswer) -> None:
        if self.orders.covers(category, month):
            return
        request = KeyRequest(subject=self._subject, category=category, month=month)
        public = verify_key(answer, request, self._signing_key)
        self._verified[self._signing_key][category, month] = public
        self._kept[category, month] = answer

    def _drop(self, key: tuple[Category, str]) -> None:
        for known in self._verified.values():
            known.pop(key, None)

    def _read(self) -> list[_Kept]:
        try:
            data = self._path.read_bytes()
            refuse_newer(data, self._path)
            return msgspec.json.decode(data, type=list[_Kept])
        except (OSError, *UNREADABLE):
            return []  # they are fetched again


def month_at(now: Now) -> str:
    """Return the month ("2027-03", UTC) of *now*."""
    return datetime.fromtimestamp(now.wall // NANOSECONDS, UTC).strftime("%Y-%m")
