"""`config.toml`: what an operator decides.  Unknown keys are errors, so that a typo is one.

Keys and certificates are files beside it (`collector.premises`), not values in it.
"""

import re
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from base.door import check_listens, host_and_port
from base.errors import SetupError
from base.logs import Form
from collector.store.settings import StoreConfig
from wire.errors import UNREADABLE
from wire.frame import LARGEST_BYTES

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]  # none at all would wait for ever
NotNegative: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one request may take, and one device."""

    frame_bytes: Positive = LARGEST_BYTES
    json_bytes: Positive = 1 << 20  # a release order of 1,000 batches is some 100 kB
    uploads: Positive = 32  # frames in memory at a time; the next one waits for its 100 Continue
    body_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0  # for any body to arrive
    spare_bytes: NotNegative = 256 << 20  # uploads end before the disk does
    # What one device may do (collector.serving.allowance); 0 is no limit.  An agent sends a batch a
    # minute and category, asks for the state each 5 s, and sends a screen at most 4 GB a day.
    device_uploads_per_minute: NotNegative = 240
    device_requests_per_minute: NotNegative = 600
    device_bytes_per_day: NotNegative = 16 << 30
    # A reader asks for each frame and for the log; who shows no certificate enrols, renews or
    # demands a right, once in days.  Many workstations may come from one address.
    reader_requests_per_minute: NotNegative = 6_000
    stranger_requests_per_minute: NotNegative = 600


class Operators(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where operators ask for health and numbers; on a loopback address, anybody there."""

    listen: str = ""  # host:port; nowhere when empty
    names: tuple[str, ...] = ()  # in their certificates, on any other address


class Readers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What readers get, beside what their grants say."""

    today: bool = False  # frames of the day itself, too; before it is over people still erase


class IndexConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the index is: a SQLite file beside the batches, or a PostgreSQL database."""

    url: str = ""  # of libpq, without a password: "postgresql:///assent?host=/run/postgresql"
    connections: Positive = 16  # at most; of several collectors each has so many


class Drills(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often the running server tries what must be refused, and how much of it."""

    every_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 3600.0
    patrol_seconds: Annotated[float, msgspec.Meta(gt=0, le=20)] = 20.0
    sample: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100  # objects of a drill


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the guard is, and by which key it is known; the rest lies in `guard/`."""

    origin: str
    tls_pins: tuple[str, ...]
    timeout_seconds: float = 10.0


class WitnessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one more witness is; the authority of its server lies in `witnesses/`."""

    origin: str
    tls_pins: tuple[str, ...]
    timeout_seconds: float = 5.0  # others are asked meanwhile


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.  `listen` is `host:port`; the origin's own host and port by default."""

    origin: str
    tenant: str
    listen: str
    readers_listen: str = ""  # of their own listener; empty: they come to `listen`, as devices do
    workers: NotNegative = 2  # processes that hold devices' connections; 0: all in one process
    client_days: Annotated[float, msgspec.Meta(gt=0)] = 7.0
    absence_days: Annotated[float, msgspec.Meta(ge=0)] = 180.0
    jurisdictions: tuple[str, ...] = ()  # of the policy's, those that are served here; none: all
    limits: Limits = Limits()
    notify_command: str = ""  # an executable that tells data subjects of consents in their name
    log_form: Form = Form.TEXT
    operators: Operators = Operators()
    readers: Readers = Readers()
    index: IndexConfig = IndexConfig()
    drills: Drills = Drills()
    guard: GuardConfig | None = None
    store: StoreConfig = StoreConfig()
    witnesses: tuple[WitnessConfig, ...] = ()  # beside the guard's own

    @property
    def log_name(self) -> str:
        """The name of this collector's log: its origin without the scheme, and the tenant."""
        return f"{self.origin.removeprefix('https://')}/{self.tenant}"

    def check_addresses(self) -> None:
        """Check what it says of listeners.

        Raises:
            SetupError: An address is not host:port, or named twice.

        """
        check_listens(self.listen, self.readers_listen, self.operators.listen)


TEMPLATE: Final = """\
# The collector of one tenant.  An unknown key is an error.

origin = {origin}
tenant = {tenant}
listen = {listen}
{readers}
# workers = 2               # processes that hold devices' connections; 0: all in one
# client_days = 7.0         # how long a device's certificate lives
# notify_command = ""       # an executable: tells people of each consent in their name
# absence_days = 180.0      # how long after that a device may come back without a new token
# jurisdictions = []        # as in ["DE"]: of the policy's, those served here; all by default
# log_form = "text"         # or "json": an object a line

# [operators]               # health, metrics and the OpenAPI document; nowhere by default
# listen = ""               # as in "127.0.0.1:9464": in the clear there, elsewhere over TLS
# names = []                # as in ["prometheus"]: whose certificates are let in over TLS

# [readers]                 # what they get, beside what their grants say
# today = false             # or true: frames of the day itself, before people have slept on it

{index}
# connections = 16          # at most, of this collector

# [store]                   # where sealed batches lie; in files of this machine by default
# kind = "files"            # or "s3", and then:
# endpoint = ""             # as in "https://s3.eu-central-1.amazonaws.com"
# bucket = ""               # without versioning
# prefix = ""               # in that bucket; the tenant by default
# region = "us-east-1"
# credentials = "store.credentials"     # file beside this one, 0600
# authority = ""            # a PEM file beside this one, if no known authority certified it

# [drills]                  # attacks on ourselves, each of which has to be refused
# every_seconds = 3600.0    # at most an hour
# patrol_seconds = 20.0     # the short one in between; at most 20 s
# sample = 100              # batches, drawn at random, of each drill

# [limits]
# frame_bytes = 8388608     # largest batch
# json_bytes = 1048576      # largest other request
# uploads = 32              # batches in memory at a time
# body_seconds = 120.0      # how long a request may take to arrive
# spare_bytes = 268435456   # of the disk; with less, uploads get 507 and wait
# device_uploads_per_minute = 240       # of one device; with more, it gets 429 and waits
# device_requests_per_minute = 600      # of one device: questions, and noes, each
# device_bytes_per_day = 17179869184    # of one device
# reader_requests_per_minute = 6000     # of one reader
# stranger_requests_per_minute = 600    # from one address: enrolments, renewals, demands
"""

SQLITE: Final = """\
# [index]                   # a SQLite file by default; for several collectors, PostgreSQL
# url = ""                  # as in "postgresql:///assent?host=/run/postgresql", with no password"""

GUARD_TEMPLATE: Final = """
[guard]
origin = {origin}
tls_pins = {pins}
# timeout_seconds = 10.0
"""


WITNESS_TEMPLATE: Final = """
[[witnesses]]
origin = {origin}
tls_pins = {pins}
# timeout_seconds = 5.0
"""


def read_config(path: Path) -> Config:
    """Return the configuration in *path*.

    Raises:
        SetupError: It is not there, not TOML, or has an unknown key or a wrong value.

    """
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; run assent-collector init first") from None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(f"{path}: {exc}; mend it") from exc
    host_and_port(config.origin)
    config.store.check()
    return config


def first_config(
    *, origin: str, tenant: str, listen: str, readers_listen: str, index_url: str = ""
) -> bytes:
    """Return the text of a new `config.toml`."""
    quoted = {"origin": _quoted(origin), "tenant": _quoted(tenant), "listen": _quoted(listen)}
    readers = f"readers_listen = {_quoted(readers_listen)}\n" if readers_listen else ""
    index = f"[index]\nurl = {_quoted(index_url)}" if index_url else SQLITE
    return TEMPLATE.format(**quoted, readers=readers, index=index).encode()


def with_guard(text: bytes, origin: str, pins: tuple[str, ...]) -> bytes:
    """Return the text of `config.toml` with this `[guard]`: at its end, or with *pins* now.

    Raises:
        SetupError: It has another guard, or a section that is not as we write it.

    """
    known = msgspec.toml.decode(text, type=Config).guard
    if known is None:
        listed = _listed(pins)
        return text + GUARD_TEMPLATE.format(origin=_quoted(origin), pins=listed).encode()
    if known.origin != origin:
        raise SetupError(
            f"config.toml names another guard already, {known.origin}; change [guard] there"
        )
    return _with_pins(text, "[guard]", known, pins)


def with_witness(text: bytes, origin: str, pins: tuple[str, ...]) -> bytes:
    """Return the text of `config.toml` with this one of its `[[witnesses]]`: as a guard.

    Raises:
        SetupError: It has a section that is not as we write it.

    """
    for known in msgspec.toml.decode(text, type=Config).witnesses:
        if known.origin == origin:
            return _with_pins(text, "[[witnesses]]", known, pins)
    return text + WITNESS_TEMPLATE.format(origin=_quoted(origin), pins=_listed(pins)).encode()


def _with_pins(
    text: bytes, header: str, known: GuardConfig | WitnessConfig, pins: tuple[str, ...]
) -> bytes:
    """Return *text* in which the section of *known* has *pins*, and all else is as it was.

    Raises:
        SetupError: Somebody wrote that section in another form.

    """
    sections = re.split(r"(?m)^(?=\[)", text.decode("utf-8"))
    ours = f"{header}\norigin = {_quoted(known.origin)}\n"
    line = f"tls_pins = {_listed(pins)}"
    changed = "".join(
        re.sub(r"(?m)^tls_pins = \[.*\]$", line, section) if section.startswith(ours) else section
        for section in sections
    ).encode("utf-8")
    before, after = (msgspec.toml.decode(each, type=Config) for each in (text, changed))
    found = [each for each in (after.guard, *after.witnesses) if each and each.tls_pins == pins]
    is_there = known.origin in {each.origin for each in found}
    if not is_there or _pinless(before) != _pinless(after):
        raise SetupError(
            f"config.toml names {known.origin} in other words than ours; change tls_pins there"
        )
    return changed


def _pinless(config: Config) -> Config:
    bare = msgspec.structs.replace
    return bare(
        config,
        guard=config.guard and bare(config.guard, tls_pins=()),
        witnesses=tuple(bare(each, tls_pins=()) for each in config.witnesses),
    )


def _listed(pins: tuple[str, ...]) -> str:
    return f"[{', '.join(_quoted(pin) for pin in pins)}]"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()  # a JSON string is a TOML basic string
