"""Stage 5: a rolled batch becomes a frame that nobody on this machine but its subject opens.

Three keys are needed: the readers' (from the policy), the data subject's own, and the
guard's for this category and month.  The frame gets its trailer later, when it leaves the
hold (`spool`).

The copy of the age header that stays on the device is sealed once more, to the data subject:
in the clear it would let a reader with a copy of the disk open the batch past the guard.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from agent.handover import Rolled, SealedBatch, Span
from base.errors import AssentError
from wire.age import decode_recipient
from wire.batch import Batch, Opening, encode_batch
from wire.category import Category
from wire.frame import LARGEST_BYTES, TRAILER_BYTES, Core, core_hash, encode_core
from wire.ids import BootInstant, DeviceId, SubjectId, WallInstant, key_id
from wire.policy import Policy
from wire.recipients import sealed_to
from wire.sealing import seal as seal_frame
from wire.shelf import reseal


class UnsealableError(AssentError):
    """A batch could not be sealed, so nothing of it may be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """Everything that one batch needs to be sealed; `subject_key` is an age1pq... recipient."""

    policy: Policy
    origin: str
    device: DeviceId
    subject: SubjectId
    subject_key: str
    guard_keys: Mapping[tuple[Category, str], bytes]  # by category and month ("2027-03")

    def seal(self, rolled: Rolled) -> SealedBatch:
        """Return *rolled* sealed: encode, name, seal, in this order.

        Raises:
            UnsealableError: No guard key for its month, no rule for its category, or it
                does not fit into a frame.

        """
        category = rolled.permit.category
        guard_key = self.guard_keys.get((category, month_of(rolled.day)))
        rule = self.policy.rule(category)
        if guard_key is None or rule is None:
            raise UnsealableError(f"there is no key of the guard for {category} in this month")
        readers = [decode_recipient(each.key) for each in sealed_to(self.policy.recipients)]
        subject = decode_recipient(self.subject_key)
        recipients = [*readers, subject]
        core = Core(
            origin=self.origin,
            tenant=self.policy.collector.tenant,
            programme=self.policy.programme,
            device=self.device,
            subject=self.subject,
            policy=rolled.permit.policy,
            grant=rolled.permit.grant,
            category=category,
            day=rolled.day,
            recipients=tuple(key_id(key) for key in recipients),
            guard_key=key_id(guard_key),
            purpose=self.policy.purpose.value,
            expires=_plus_days(rolled.day, rule.retention_days),
        )
        plaintext = encode_batch(Batch(opening=_opening(rolled, core), events=rolled.events))
        sealed = seal_frame(core, plaintext, recipients, guard_key)
        if len(sealed.unsigned) + TRAILER_BYTES > LARGEST_BYTES:
            raise UnsealableError(f"a batch of {category} is larger than a frame may be")
        return SealedBatch(
            name=hashlib.sha256(sealed.unsigned).hexdigest(),
            category=category,
            grant=rolled.permit.grant,
            policy=rolled.permit.policy,
            span=_span(rolled),
            events=len(rolled.events),
            expires=core.expires,
            unsigned=sealed.unsigned,
            age_header=reseal(sealed.age_header, subject, core_hash(encode_core(core))),
        )


def month_of(day: str) -> str:
    """Return the month ("2027-03") of an ISO day."""
    return day[:7]


def _opening(rolled: Rolled, core: Core) -> Opening:
    return Opening(
        core_hash=core_hash(encode_core(core)),
        wall=WallInstant(rolled.anchor.wall),
        boot=BootInstant(rolled.anchor.boot),
        level=rolled.permit.level,
        counters=rolled.counters,
        gaps=rolled.gaps,
    )


def _span(rolled: Rolled) -> Span:
    first, last = (f(event.at for event in rolled.events) for f in (min, max))
    to_wall = rolled.anchor.wall - rolled.anchor.boot
    return Span(
        first_wall=first + to_wall,
        last_wall=last + to_wall,
        first_boot=first,
        last_boot=last,
        boot_id=rolled.anchor.boot_id,
    )


def _plus_days(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
