"""Who reads anything at all: a certified reader, under a grant that its approvers signed.

One rule for the list of frames, a frame, what it was recorded under, and releases: `Entry.admit`
says whether the grant holds, `frames.Access.check_covers` whether it is for this frame.  Nothing is
remembered between two requests, so a grant that has expired, a halt or a new policy holds at once.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from collector.auth import Reader
from collector.drill.gate import Gate
from collector.halt import check_running
from collector.policies import in_force
from collector.refusal import RefusedError, Why
from collector.release.frames import Access, today
from wire.errors import WireError
from wire.grant import AccessGrant, verify_access
from wire.ids import WallInstant

NEVER: Final = "~"  # after every day, as texts are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where readers are let in."""

    gate: Gate
    with_today: bool

    def admit(
        self, connection: Connection, reader: Reader, grant: AccessGrant, now: WallInstant
    ) -> Access:
        """Return what *grant* lets *reader* have.

        A drill is told about its grant alone: that the programme stands still, or that none has
        passed yet, would hide from it that the grant had been believed.  It gets nothing anyway.

        Raises:
            RefusedError: The grant is not approved by enough parties, has expired, is for longer
                than one may be, of another reader or policy; the programme is halted or stopped;
                or no drill has passed yet.

        """
        try:
            request = verify_access(grant, in_force(connection).policy, now)
        except WireError as exc:
            raise RefusedError(Why.GRANT_REFUSED, str(exc)) from exc
        if request.reader != reader.name:
            raise RefusedError(Why.GRANT_REFUSED, "the grant is for another reader")
        if not reader.drill:
            check_running(connection)
            self.gate.check()
        ever = self.with_today or reader.drill  # here, too, another no would hide a yes
        return Access(request=request, before=NEVER if ever else today(now))
