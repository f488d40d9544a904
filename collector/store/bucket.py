"""One bucket of an S3 store, as one identity: the only module that knows the S3 client.

Objects are created and never overwritten.  Each call ends within the bounds below, and what
goes wrong is said in one line that names no object, as one of the errors of this project:

- it may pass by itself (away, overloaded, credentials that ran out): `RetryableError`
- a person has to mend it (rights, region, certificate, no such bucket): `SetupError`
- the store has no room for us: `OSError`, as from a disk
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import S3Store

from base.errors import RetryableError, SetupError
from collector.store.credentials import Credentials, Identity
from collector.store.settings import StoreConfig

# A batch of 8 MiB arrives in time at 2.5 Mbit/s; a caller who waits for longer has gone.
REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 5.0
# Connections that break and 5xx are tried again so often, for at most so long.
RETRIES: Final = 3
RETRY_SECONDS: Final = 15.0
READ_AGAIN: Final = timedelta(seconds=60)  # the credentials

_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")

_UNKNOWN: Final = "does not know our credentials; mend them"
_RAN_OUT: Final = "says that our credentials have run out; renew them"
_ELSEWHERE: Final = "has the bucket in another region; mend endpoint and region"
_BUSY: Final = "is overloaded; it is tried again later"
_FULL: Final = "has no room for us; make room, or have the quota raised"

# What a person has to mend, by the store's own word for it.
_TO_MEND: Final = MappingProxyType(
    {
        "AccessDenied": "does not let us do that; put the policy that store-policy prints in force",
        "AllAccessDisabled": "has shut this account; ask its operator",
        "AccountProblem": "has shut this account; ask its operator",
        "InvalidAccessKeyId": _UNKNOWN,
        "SignatureDoesNotMatch": _UNKNOWN,
        "InvalidToken": _UNKNOWN,
        "UserSuspended": "has shut this account; ask its operator",
        "NoSuchBucket": "has no such bucket; make it, or mend its name",
        "InvalidBucketName": "has no such bucket; make it, or mend its name",
        "RequestTimeTooSkewed": "has another time than this machine; set the clock",
        "PermanentRedirect": _ELSEWHERE,
        "TemporaryRedirect": _ELSEWHERE,
        "AuthorizationHeaderMalformed": _ELSEWHERE,
        "IllegalLocationConstraintException": _ELSEWHERE,
        "NotImplemented": "lacks what we need of it (If-None-Match); take another store",
        "MethodNotAllowed": "is no S3 store, or not at this address; mend endpoint",
    }
)
# What passes.  Credentials that ran out are renewed by somebody else, in the file that we read.
_TO_WAIT: Final = MappingProxyType(
    {
        "ExpiredToken": _RAN_OUT,
        "TokenRefreshRequired": _RAN_OUT,
        "RequestExpired": _RAN_OUT,
        "SlowDown": _BUSY,
        "ServiceUnavailable": _BUSY,
        "RequestTimeout": "waited in vain for what we sent; it is tried again later",
    }
)
# A gateway in between, or an answer to HEAD, gives a bare status.
_BARE: Final = MappingProxyType(
    {
        "301": "PermanentRedirect",
        "307": "TemporaryRedirect",
        "401": "AccessDenied",
        "403": "AccessDenied",
        "404": "NoSuchBucket",
        "429": "SlowDown",
        "503": "ServiceUnavailable",
    }
)
_WITHOUT_ROOM: Final = frozenset({"QuotaExceeded", "InsufficientCapacity", "StorageFull"})

_REFUSED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem"})

# What the S3 client says of a connection that did not come about.
_CONNECTIONS: Final = (
    ("InvalidCertificate(UnknownIssuer", "has a certificate of nobody known; name its authority"),
    ("InvalidCertificate", "has a certificate that is not valid for it; renew that"),
    ("InvalidMessage", "does not speak TLS there; mend endpoint"),
    ("incorrectlyconfiguredregion", _ELSEWHERE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What became of a new object."""

    new: bool  # False: there was one of that name
    kept_versions: bool = False  # the bucket keeps what is deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object that a list has."""

    name: str
    at: datetime  # by the store's own clock


class Bucket:
    """The bucket of *config*, asked as *identity*; as nobody, without any, if there is none."""

    def __init__(
        self,
        config: StoreConfig,
        identity: Identity | None,
        credentials: Credentials,
        authority: bytes | None = None,
    ) -> None:
        """Ask nothing yet.

        Raises:
            SetupError: There are no credentials, or the authority's certificate is none.

        """
        self._place = (
            f"the store at {config.endpoint} (bucket {config.bucket}, as {identity or 'nobody'})"
        )
        self._identity, self._credentials = identity, credentials
        self._read_credentials()
        try:
            self._store = self._client(config, authority)
        except (BaseError, ValueError) as exc:
            raise SetupError(f"[store] is not usable ({_first_line(exc)}); mend it") from exc

    def _client(self, config: StoreConfig, authority: bytes | None) -> S3Store:
        # The client also reads AWS_* of the environment; what is said here goes first, so that
        # nothing there can send batches elsewhere, unsigned, or past the certificate.
        return S3Store(
            config.bucket,
            config={
                "endpoint": config.endpoint,
                "aws_endpoint_url_s3": config.endpoint,
                "region": config.region,
                "virtual_hosted_style_request": False,
                "conditional_put": "etag",
                "disable_bulk_delete": True,  # Ceph judges that by other rights than a DELETE
                "skip_signature": self._identity is None,
                "unsigned_payload": False,  # so the store checks what arrives by its SHA-256
                "s3_express": False,
            },
            client_options={
                "allow_http": config.endpoint.startswith("http://"),
                "allow_invalid_certificates": False,
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
                # HTTPS_PROXY and its like count only while no proxy is named: so one is, for
                # no host at all.
                "proxy_url": "http://127.0.0.1:9",
                "proxy_excludes": "*,0.0.0.0/0,::/0",
                **({"root_certificate": authority} if authority else {}),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
            credential_provider=self._provide if self._identity else None,
        )

    def _read_credentials(self) -> None:
        if self._identity is not None:
            self._credentials.read(self._identity)

    def _provide(self) -> "obstore.store.S3Credential":
        assert self._identity is not None  # noqa: S101 - nobody signs nothing
        secret = self._credentials.read(self._identity)
        return {
            "access_key_id": secret.access_key_id,
            "secret_access_key": secret.secret_access_key,
            "token": secret.session_token,
            "expires_at": datetime.now(UTC) + READ_AGAIN,
        }

    def create(self, name: str, content: bytes) -> Created:
        """Make an object, durably, unless there is one of that name.

        Raises:
            OSError: There is no room.
            SetupError: Nothing was made; a person has to mend something first.
            RetryableError: It may have been made or not.

        """
        with self._said():
            try:
                result = obstore.put(self._store, name, content, mode="create")
            except AlreadyExistsError:
                return Created(new=False)
            return Created(new=True, kept_versions=bool(result.get("version")))

    def get(self, name: str) -> bytes | None:
        """Return an object; None when there is none.

        Raises:
            SetupError: A person has to mend something first.
            RetryableError: Nobody can tell now.

        """
        with self._said():
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except (FileNotFoundError, PermissionDeniedError) as exc:
                self._require_missing(name, exc)
                return None

    def names(self, folder: str) -> list[Listed]:
        """Return what lies below *folder*, in order.

        Raises:
            SetupError: A person has to mend something first.
            RetryableError: Nobody can tell now.

        """
        with self._said():
            found = obstore.list(self._store, folder).collect()
        return sorted(
            (Listed(name=one["path"], at=one["last_modified"]) for one in found),
            key=lambda one: one.name,
        )

    def remove(self, name: str) -> None:
        """Delete an object, durably, if there is one.

        Raises:
            SetupError: It is still there; a person has to mend something first.
            RetryableError: It may still be there.

        """
        with self._said():
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError as exc:
                if _is_without_bucket(exc):
                    raise

    # --- what a drill asks for, and must be refused -------------------------------------------

    def may_get(self, name: str) -> bool:
        """Whether an object is given to this identity; nothing of it is read.

        Raises:
            SetupError: A person has to mend something first.
            RetryableError: Nobody can tell now.

        """
        with self._said():
            try:
                obstore.get(self._store, name)
            except FileNotFoundError as exc:
                if _is_without_bucket(exc):
                    raise
                return False
            except BaseError as exc:
                if _code(exc) not in _REFUSED:
                    raise
                return False
            return True

    def may_list(self, folder: str) -> bool:
        """Whether what lies below *folder* is told to this identity.

        Raises:
            SetupError: A person has to mend something first.
            RetryableError: Nobody can tell now.

        """
        with self._said():
            try:
                next(iter(obstore.list(self._store, folder, chunk_size=1)), None)
            except BaseError as exc:
                if _code(exc) not in _REFUSED:
                    raise
                return False
            return True

    def _require_missing(self, name: str, exc: Exception) -> None:
        """Raise *exc* again unless what it says is that there is no such object."""
        if isinstance(exc, FileNotFoundError):
            missing = not _is_without_bucket(exc)
        elif _code(exc) != "AccessDenied":
            missing = False
        else:
            # To who may not list everything, a store says the same of what is not there.
            folder = name.rpartition("/")[0]
            listed = obstore.list(self._store, folder).collect()
            missing = all(one["path"] != name for one in listed)
        if not missing:
            raise exc

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as exc:
            # The provider's own complaint comes back wrapped; here it comes by itself.
            self._read_credentials()
            raise self._error(exc) from None  # what the client says names the object

    def _error(self, exc: Exception) -> Exception:
        said, code = str(exc), _code(exc)
        if code in _WITHOUT_ROOM:
            return OSError(errno.EDQUOT, f"{self._place} {_FULL}")
        if code in _TO_MEND:
            return SetupError(f"{self._place} {_TO_MEND[code]}")
        if code in _TO_WAIT:
            return RetryableError(f"{self._place} {_TO_WAIT[code]}")
        for sign, line in _CONNECTIONS:
            if sign in "".join(said.split()):
                return SetupError(f"{self._place} {line}")
        if code:
            return RetryableError(f"{self._place} answers {code}; it is tried again later")
        return RetryableError(f"{self._place} cannot be reached; it is tried again later")


def _code(exc: Exception) -> str:
    if found := _CODE.search(str(exc)):
        return found[1]
    status = _STATUS.search(str(exc))
    return _BARE.get(status[1], f"status{status[1]}") if status else ""


def _is_without_bucket(exc: Exception) -> bool:
    return "<Code>NoSuchBucket<" in str(exc)


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0]
