"""Mutated files into every program that reads them: ledger, enrolment, settings, state, library.

Each target writes the bytes where the program looks for them and starts as the program does.
What may come out is the one documented error; some readers never raise, because what they
cannot read means the more private thing.
"""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

import agent.config
import agent.enroll
import collector.config
import guard.config
import guard.trust
from agent.consent.entries import (
    ClickAwaited,
    ClockDoubted,
    Entry,
    Expired,
    Granted,
    Halted,
    HaltLifted,
    NoticeSeen,
    OptedOut,
    Paused,
    Registered,
    Resumed,
    StopLifted,
    Stopped,
    Told,
    Withdrawn,
)
from agent.consent.ledger import FILE_NAME as LEDGER
from agent.consent.ledger import Ledger, LedgerError
from agent.consent.states import Flag
from agent.guard_keys import FILE_NAME as GUARD_KEYS
from agent.guard_keys import GuardKeys
from agent.handover import SealedBatch, Span
from agent.numbers import FILE_NAME as NUMBERS
from agent.numbers import Numbers
from agent.spool import SENT, Spool
from base.clock import Now
from base.errors import AssentError, SetupError
from base.paths import Paths
from base.pki import private_pem
from base.stored import NewerError
from fuzz.campaign import Tally, Target, attack, scratch
from fuzz.mutation import mutate, odd_json
from governance.approve import read_grant
from governance.keys import read_public
from reader.library import Kept, Library, SpoiltFileError
from reader.premises import Premises
from tests.fakes.organisation import CONTROLLER, NOW, Organisation, raw, wall
from wire.category import Category
from wire.collector_http import Enrolment
from wire.errors import MalformedError
from wire.grant import grant_hash
from wire.guard_http import KeyRequest, sign_key
from wire.ids import BatchHash, GrantHash, PolicyDigest, SubjectId, WallInstant
from wire.linked import ConsentState

AT: Final = Now(boot=5_000_000_000, wall=wall(NOW), boot_id="fuzz")
Spoil: TypeAlias = Callable[[bytes, random.Random], bytes]
CONFIG: Final = (
    b'quota_bytes = 1000000\nlog_level = "debug"\nopt_out = ["keys"]\ninput_source = "auto"\n'
)
COLLECTOR_CONFIG: Final = (
    b'origin = "https://c.example:8443"\ntenant = "acme"\nlisten = "127.0.0.1:8443"\n'
    b"client_days = 7.0\n[limits]\nframe_bytes = 1000\nbody_seconds = 2.5\n"
    b'[guard]\norigin = "https://g.example:1"\ntls_pins = ["ab"]\n'
)
GUARD_CONFIG: Final = (
    b'origin = "https://g.example:1"\ntenant = "acme"\nname = "g"\nlisten = "127.0.0.1:1"\n'
)


def campaign(count: int, seed: int) -> Tally:
    """Try *count* files, in turn for each target."""
    with scratch() as folder:
        return attack(targets(folder), count, seed)


def targets(folder: Path) -> tuple[Target, ...]:
    """Return every reader of files, below *folder*."""
    org = Organisation()
    return (*_settings(folder), *_workstation(folder, org), *_elsewhere(folder, org))


# --- what a person writes -----------------------------------------------------------------


def _settings(folder: Path) -> tuple[Target, ...]:
    enrolment = Enrolment(
        origin="https://c.example:8443",
        tls_pins=("ab" * 32,),
        ca_pem="-----BEGIN CERTIFICATE-----\n",
        token="t" * 43,
        root_sha256="cd" * 32,
        expires_at=WallInstant(wall(NOW) + 1),
    )
    reader = _reader(folder)
    door = b'origin = "https://c.example:8443"\ntls_pins = ["ab"]\ntimeout_seconds = 1.5\n'
    return (
        _file(folder, "agent config.toml", CONFIG, _in_folder(_agent_settings), name="config.toml"),
        _file(folder, "opt-out flag", b"keys\nscreen\n", _flag, refuses=()),
        _file(folder, "collector config.toml", COLLECTOR_CONFIG, _collector_settings),
        _file(folder, "guard config.toml", GUARD_CONFIG, _guard_settings),
        _file(
            folder,
            "enrolment file",
            msgspec.json.encode(enrolment),
            lambda path: agent.enroll.read_file(path, AT),
            spoil=odd_json,
        ),
        _at(reader.settings_file, b'name = "training-team"\n', reader.settings),
        _at(reader.peer("collector") / "door.toml", door, lambda: reader.door("collector")),
        _at(reader.identity_file, b"AGE-SECRET-KEY-PQ-1AAAA\n", reader.identity),
    )


def _agent_settings(folder: Path) -> object:
    return agent.config.outside_opt_outs(agent.config.load(folder), {}, folder / "absent")


def _flag(path: Path) -> object:
    return agent.config.outside_opt_outs(agent.config.Config(), {}, path)


def _collector_settings(path: Path) -> object:
    config = collector.config.read_config(path)
    config.check_addresses()
    return config


def _guard_settings(path: Path) -> object:
    config = guard.config.read_config(path)
    config.check_addresses()
    return config


def _reader(folder: Path) -> Premises:
    places = {name: folder / "reader" / name for name in ("config", "state", "logs", "runtime")}
    premises = Premises(Paths(**places).make())
    premises.peer("collector").mkdir()
    return premises


# --- what a workstation keeps -------------------------------------------------------------


def _workstation(folder: Path, org: Organisation) -> tuple[Target, ...]:
    """Return the agent's state: read at each start, after whatever happened to the disk."""
    kept = agent.enroll.Enrolment(
        origin="https://c.example:8443",
        tls_pins=("ab" * 32,),
        ca_pem="-----BEGIN CERTIFICATE-----\n",
        subject=org.subject,
        subject_key=org.recipient,
        rights_key=org.speaker().rights_key,
        appointment=org.speaker().appointment,
        enrolled_at=1,
    )
    (folder / "device").mkdir()
    (folder / "device" / agent.enroll.KEY).write_bytes(private_pem(org.device))
    asked = KeyRequest(subject=org.subject, category=Category.KEYS, month="2027-03")
    answer = sign_key(asked, bytes(1216), org.guard)
    keys = [{"category": "keys", "month": "2027-03", "answer": msgspec.to_builtins(answer)}]
    return (
        Target(
            name="ledger",
            decode=lambda data: _open_ledger(folder / "ledger", data, org),
            seeds=_ledgers(folder / "ledgers", org),
            refuses=(LedgerError, NewerError),
            spoil=_spoil_ledger,
        ),
        _at(
            folder / "device" / agent.enroll.ENROLMENT,
            msgspec.json.encode(kept),
            lambda: agent.enroll.load_device(folder / "device"),
            spoil=odd_json,
        ),
        _file(
            folder,
            "numbers",
            b'{"events":{"keys":4097},"batch":7}',
            _in_folder(lambda where: Numbers(where).next_batch()),
            name=NUMBERS,
            spoil=odd_json,
        ),
        _file(
            folder,
            "guard keys",
            msgspec.json.encode(keys),
            _in_folder(lambda where: _guard_keys(where, org)),
            name=GUARD_KEYS,
            spoil=odd_json,
            refuses=(NewerError,),
        ),
        *_spool(folder, org),
    )


def _open_ledger(folder: Path, data: bytes, org: Organisation) -> object:
    """Start on this ledger, write an act, start again; nothing else may be in the way."""
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    (folder / LEDGER).write_bytes(data)
    device = org.device.public_key()
    Ledger.open(folder, device, AT).append(OptedOut(category=Category.KEYS), AT)
    again = Ledger.open(folder, device, AT).standing
    if again.flags[Category.KEYS] is not Flag.OPTED_OUT:
        raise AssertionError("the act that was acknowledged is gone")
    return again


def _ledgers(folder: Path, org: Organisation) -> tuple[bytes, ...]:
    signed = org.consent(PolicyDigest(b"\1" * 32))
    acts: tuple[tuple[Entry, ...], ...] = (
        (
            Granted(signed=signed, words="", notice=""),
            Registered(grant=grant_hash(signed)),
            Expired(grant=grant_hash(signed)),
            Told(grant=grant_hash(signed), state=ConsentState.EXPIRED),
            Withdrawn(category=None),
        ),
        (Paused(until_wall=AT.wall + 1, until_boot=AT.boot + 1), Resumed()),
        (Halted(policy=b"\1" * 32, why="stop"), ClockDoubted(why="set")),
        (Paused(until_wall=AT.wall, until_boot=AT.boot), NoticeSeen(seconds=60, since=1)),
        (ClickAwaited(), Halted(policy=b"\1" * 32, why=""), HaltLifted(policy=b"\2" * 32)),
        (Stopped(by="guard", why="drill"), StopLifted(by="guard")),
    )
    written = []
    for number, entries in enumerate(acts):
        (folder / str(number)).mkdir(parents=True)
        ledger = Ledger.open(folder / str(number), org.device.public_key(), AT)
        for entry in entries:
            ledger.append(entry, AT)
        written.append((folder / str(number) / LEDGER).read_bytes())
    return tuple(written)


def _spoil_ledger(ledger: bytes, chance: random.Random) -> bytes:
    """Spoil one line and chain the lines again, so that what is read is more than the chain."""
    if chance.random() < 0.4:
        return mutate(ledger, chance)
    lines = ledger.splitlines()
    at = chance.randrange(len(lines))
    lines[at] = odd_json(lines[at], chance)
    chained, before = [], "0" * 64
    for line in lines:
        try:
            fields = msgspec.json.decode(line)
            linked = msgspec.json.encode({**fields, "prev": before})
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
            linked = line
        chained.append(linked)
        before = hashlib.sha256(linked).hexdigest()
    return b"\n".join(chained) + b"\n"


def _guard_keys(folder: Path, org: Organisation) -> object:
    keys = GuardKeys(folder, SubjectId(org.subject))
    keys.use_guard(org.policy().guard.signing_key)
    return keys.keys


def _spool(folder: Path, org: Organisation) -> tuple[Target, ...]:
    """Return the two kinds of records in a spool that holds one batch."""
    where = folder / "spool"
    (folder / "spool-numbers").mkdir()
    frame = org.seal(PolicyDigest(b"\1" * 32)).frame[:-73]
    sealed = SealedBatch(
        name=hashlib.sha256(frame).hexdigest(),
        category=Category.KEYS,
        grant=GrantHash(b"g" * 32),
        policy=PolicyDigest(b"p" * 32),
        span=Span(first_wall=1, last_wall=2, first_boot=1, last_boot=2, boot_id="fuzz"),
        events=1,
        expires="2027-06-01",
        unsigned=frame,
        age_header=b"header",
    )

    def opened() -> Spool:
        return Spool(where, org.device, Numbers(folder / "spool-numbers"), AT)

    def cleared() -> Spool:
        """Return it without the record of the last try, which may be one that is left alone."""
        local.unlink(missing_ok=True)
        return opened()

    def restart() -> object:
        """Start on what is there, let it leave the hold, look at all of it, forget it."""
        spool = opened()
        spool.leave_hold(AT, 0)
        spool.sent()
        seen = [spool.read(spooled.name) for spooled in spool.ready()]
        spool.forget(Category.KEYS, AT, why="fuzz")
        return seen

    opened().put(sealed, AT)
    local = where / "held" / f"{sealed.name}.local"
    sent = b'{"hash":"AAAA","category":"keys","expires":"2027-06-01","deleted":false}\n'
    record = local.read_bytes()

    def with_record(data: bytes) -> object:
        cleared().put(sealed, AT)
        local.write_bytes(data)
        return restart()

    def with_list() -> object:
        cleared()
        return restart()

    return (
        Target(
            name="spool record",
            decode=with_record,
            seeds=(record,),
            refuses=(SetupError,),
            spoil=odd_json,
        ),
        _at(where / SENT, sent, with_list, spoil=odd_json, refuses=(NewerError,)),
    )


# --- what the others keep -----------------------------------------------------------------


def _elsewhere(folder: Path, org: Organisation) -> tuple[Target, ...]:
    library = Library(folder / "library")
    batch, grant = BatchHash(bytes(32)), GrantHash(bytes(32))
    kept = Kept(access=bytes(32), released=b"sealed")
    signed = org.consent(PolicyDigest(b"\1" * 32))
    consent = {"record": signed.record, "signature": signed.signature, "device_key": b"k" * 32}
    library.keep_release(batch, kept)
    release = folder / "library" / "releases" / f"{batch.hex()}.json"
    public = {"role": "policy", "party": CONTROLLER, "name": "x", "key": raw(org.controller)}
    signed_set = org.publish(folder / "signed")
    policy_set = signed_set.policy_set()
    return (
        _at(
            release,
            msgspec.json.encode(kept),
            lambda: library.release(batch),
            spoil=odd_json,
            refuses=(SpoiltFileError, NewerError),
        ),
        _at(
            folder / "library" / "consents" / f"{grant.hex()}.json",
            msgspec.json.encode(consent),
            lambda: library.consent(grant),
            spoil=odd_json,
            refuses=(SpoiltFileError, NewerError),
        ),
        _file(
            folder,
            "access grant",
            msgspec.json.encode(org.grant()),
            read_grant,
            spoil=odd_json,
            refuses=(AssentError, MalformedError),
        ),
        _file(folder, "party's key", msgspec.json.encode(public), read_public, spoil=odd_json),
        _file(
            folder,
            "guard's policy",
            msgspec.json.encode(policy_set),
            guard.trust.load,
            spoil=odd_json,
        ),
    )


# --- targets ------------------------------------------------------------------------------


def _file(
    folder: Path,
    what: str,
    seed: bytes,
    read: Callable[[Path], object],
    *,
    name: str = "file",
    spoil: Spoil = mutate,
    refuses: tuple[type[Exception], ...] = (SetupError,),
) -> Target:
    """Return a reader of one file in a folder of its own."""
    path = folder / what.replace(" ", "-") / name
    path.parent.mkdir()
    return _at(path, seed, lambda: read(path), what=what, spoil=spoil, refuses=refuses)


def _at(
    path: Path,
    seed: bytes,
    read: Callable[[], object],
    *,
    what: str = "",
    spoil: Spoil = mutate,
    refuses: tuple[type[Exception], ...] = (SetupError,),
) -> Target:
    """Return a reader of one file that has its place."""

    def decode(data: bytes) -> object:
        path.write_bytes(data)
        return read()

    return Target(
        name=what or path.parent.name + "/" + path.name[-14:],
        decode=decode,
        seeds=(seed,),
        refuses=refuses,
        spoil=spoil,
    )


def _in_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return *read*, which wants the folder, as something that wants the file in it."""
    return lambda path: read(path.parent)
