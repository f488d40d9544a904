"""How a request is refused: a status, a stable name, and one line for a person.

The names and what a caller should do about each stand in docs/spec/collector-http-v1.md.
"""

from enum import Enum
from http import HTTPStatus
from typing import Final

from base.errors import AssentError, ExitCode

# How long to stay away from what may pass by itself; a full disk waits for a person.
_LATER: Final = {
    HTTPStatus.TOO_MANY_REQUESTS: 60,
    HTTPStatus.SERVICE_UNAVAILABLE: 60,
    HTTPStatus.INSUFFICIENT_STORAGE: 300,
}


class Why(Enum):
    """Every refusal there is, with the status of its answer."""

    BAD_REQUEST = ("bad-request", HTTPStatus.BAD_REQUEST)

    NO_CERTIFICATE = ("no-certificate", HTTPStatus.UNAUTHORIZED)
    CERTIFICATE_EXPIRED = ("certificate-expired", HTTPStatus.UNAUTHORIZED)
    UNKNOWN_CLIENT = ("unknown-client", HTTPStatus.UNAUTHORIZED)
    ABSENT_TOO_LONG = ("absent-too-long", HTTPStatus.UNAUTHORIZED)
    REVOKED = ("revoked", HTTPStatus.UNAUTHORIZED)
    OTHER_TENANT = ("other-tenant", HTTPStatus.UNAUTHORIZED)

    WRONG_ROLE = ("wrong-role", HTTPStatus.FORBIDDEN)
    TOKEN_REFUSED = ("token-refused", HTTPStatus.FORBIDDEN)
    NOT_THIS_ORIGIN = ("not-this-origin", HTTPStatus.FORBIDDEN)
    NOT_THIS_TENANT = ("not-this-tenant", HTTPStatus.FORBIDDEN)
    NOT_THIS_PROGRAMME = ("not-this-programme", HTTPStatus.FORBIDDEN)
    NOT_THIS_JURISDICTION = ("not-this-jurisdiction", HTTPStatus.FORBIDDEN)
    NOT_THIS_DEVICE = ("not-this-device", HTTPStatus.FORBIDDEN)
    NOT_THIS_SUBJECT = ("not-this-subject", HTTPStatus.FORBIDDEN)
    NOT_FRESH = ("not-fresh", HTTPStatus.FORBIDDEN)
    GRANT_REFUSED = ("grant-refused", HTTPStatus.FORBIDDEN)
    NOT_YET = ("not-yet", HTTPStatus.FORBIDDEN)
    NOT_COVERED = ("not-covered", HTTPStatus.FORBIDDEN)
    NOT_FOR_DRILLS = ("not-for-drills", HTTPStatus.FORBIDDEN)

    NOT_FOUND = ("not-found", HTTPStatus.NOT_FOUND)

    CONSENT_UNKNOWN = ("consent-unknown", HTTPStatus.CONFLICT)
    POLICY_UNKNOWN = ("policy-unknown", HTTPStatus.CONFLICT)

    ERASED = ("erased", HTTPStatus.GONE)

    TOO_LARGE = ("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    WRONG_HASH = ("wrong-hash", HTTPStatus.UNPROCESSABLE_ENTITY)
    MALFORMED = ("malformed", HTTPStatus.UNPROCESSABLE_ENTITY)
    FORGED = ("forged", HTTPStatus.UNPROCESSABLE_ENTITY)
    CATEGORY_REFUSED = ("category-refused", HTTPStatus.UNPROCESSABLE_ENTITY)
    EXPIRED = ("expired", HTTPStatus.UNPROCESSABLE_ENTITY)
    KEPT_TOO_LONG = ("kept-too-long", HTTPStatus.UNPROCESSABLE_ENTITY)
    OUTSIDE_CONSENT = ("outside-consent", HTTPStatus.UNPROCESSABLE_ENTITY)
    POLICY_NOT_IN_FORCE = ("policy-not-in-force", HTTPStatus.UNPROCESSABLE_ENTITY)
    CONSENT_MISMATCH = ("consent-mismatch", HTTPStatus.UNPROCESSABLE_ENTITY)
    GUARD_KEY_UNKNOWN = ("guard-key-unknown", HTTPStatus.UNPROCESSABLE_ENTITY)
    MONTH_REFUSED = ("month-refused", HTTPStatus.UNPROCESSABLE_ENTITY)

    TOO_MANY = ("too-many", HTTPStatus.TOO_MANY_REQUESTS)
    OVER_QUOTA = ("over-quota", HTTPStatus.TOO_MANY_REQUESTS)

    HALTED = ("halted", HTTPStatus.SERVICE_UNAVAILABLE)
    STOPPED = ("stopped", HTTPStatus.SERVICE_UNAVAILABLE)
    UNDRILLED = ("undrilled", HTTPStatus.SERVICE_UNAVAILABLE)
    GUARD_UNREACHABLE = ("guard-unreachable", HTTPStatus.SERVICE_UNAVAILABLE)
    WITNESSES_MISSING = ("witnesses-missing", HTTPStatus.SERVICE_UNAVAILABLE)
    NOT_READY = ("not-ready", HTTPStatus.SERVICE_UNAVAILABLE)

    VERSION_UNKNOWN = ("version-unknown", HTTPStatus.NOT_IMPLEMENTED)

    STORAGE_FULL = ("storage-full", HTTPStatus.INSUFFICIENT_STORAGE)

    def __init__(self, label: str, status: HTTPStatus) -> None:
        self.label = label
        self.status = status


class RefusedError(AssentError):
    """The request was not carried out; nothing was changed."""

    exit_code = ExitCode.REJECTED

    def __init__(self, why: Why, line: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(f"{why.label}: {line}")
        self.why = why
        self.retry_after_seconds = retry_after_seconds or _LATER.get(why.status)
