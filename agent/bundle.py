"""`assent-agent doctor --bundle FILE`: what somebody else needs to see to help, and no more.

    README.txt      what it is, for whoever is asked to hand it on
    findings.json   what `doctor` found, in the words that may be told
    versions.json   of this program, its packages and Python
    platform.json   kernel, distribution, desktop
    config.json     the settings in force
    state.json      which files there are, their sizes and modes; how many acts and batches
    log.txt         the last lines of the log

Nothing is put in that is not listed here, and each text goes through `base.discretion`,
which also knows this device's pseudonym and id and the names in its policy.  What was kept
or dropped is not in it: those counts are the data subject's alone.
"""

import base64
import contextlib
import gzip
import io
import os
import platform
import stat
import tarfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from agent import config as configuration
from agent import enroll, on_disk
from agent.consent.ledger import FILE_NAME as LEDGER
from agent.consent.policy import IN_FORCE
from agent.consent.policy import load as load_policy
from agent.consent.seen import FILE_NAME as CLOCK
from agent.guard_keys import FILE_NAME as GUARD_KEYS
from agent.guard_orders import FILE_NAME as GUARD_ORDERS
from agent.numbers import FILE_NAME as NUMBERS
from agent.remedies import Finding
from base import durable
from base.clock import Clock
from base.discretion import Discretion
from base.errors import AssentError
from base.logs import log_file
from base.paths import Paths

LOG_LINES: Final = 500
PACKAGES: Final = (
    "assent",
    "cryptography",
    "dbus-fast",
    "msgspec",
    "mss",
    "pynput",
    "pystray",
    "python-xlib",
    "tuf",
    "urllib3",
)
KEPT: Final = (
    *(enroll.ENROLMENT, enroll.KEY, enroll.CERTIFICATE, IN_FORCE, LEDGER),
    *(NUMBERS, CLOCK, GUARD_KEYS, GUARD_ORDERS, "spool/sent.jsonl"),
)
DESKTOP: Final = ("XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE", "DESKTOP_SESSION", "LANG")

README: Final = f"""\
This file was made by `assent-agent doctor --bundle`, for whoever helps to get Assent working.

It holds what `doctor` found, versions, the settings, sizes and modes of the agent's own
files, and the last {LOG_LINES} lines of its log. It holds nothing that was recorded, no key, no
pseudonym, and not your name, your home folder's or this computer's: where one of those stood
it says <user>, ~ or <host>. Look through it before you hand it on; it is all plain text.
"""


def write(
    path: Path,
    program: str,
    findings: Iterable[Finding],
    paths: Paths,
    clock: Clock,
    environment: Mapping[str, str],
) -> tuple[str, ...]:
    """Write the bundle to *path*, for its owner alone; return the names of what is in it.

    Raises:
        OSError: It cannot be written there.

    """
    discretion = Discretion(_names_here(paths, clock))
    documents: dict[str, object] = {
        "findings.json": [
            {"name": f.name, "mark": f.mark, "what": f.told or f.what, "mend": f.mend}
            for f in findings
        ],
        "versions.json": _versions(),
        "platform.json": _platform(environment),
        "config.json": _config(paths),
        "state.json": _state(paths),
    }
    texts = {"README.txt": README}
    for name, document in documents.items():
        texts[name] = msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
    texts["log.txt"] = _last_lines(log_file(program, paths.logs))
    hidden = {name: discretion.hide(text) for name, text in texts.items()}
    durable.replace(path, _packed(hidden))
    return tuple(hidden)


def _names_here(paths: Paths, clock: Clock) -> dict[str, str]:
    """Return the names that this device knows, each with what stands in its place."""
    found: dict[str, str] = {str(paths.runtime): "<runtime>", str(paths.state): "<state>"}
    with contextlib.suppress(AssentError):
        proxy = configuration.proxy_of(configuration.load(paths.config))
        found |= {} if proxy is None else {proxy.host: "<proxy>"}
    try:
        device = enroll.load_device(paths.state)
    except AssentError:
        return found
    pseudonym = bytes(device.subject)
    found |= {device.enrolment.origin: "<collector>", device.id.hex(): "<device>"}
    found |= {device.enrolment.origin.partition("//")[2].partition(":")[0]: "<collector>"}
    found |= {pseudonym.hex(): "<pseudonym>", base64.b64encode(pseudonym).decode(): "<pseudonym>"}
    policy = load_policy(paths.state, clock.now()).policy
    if policy is not None:
        parties = (policy.controller, policy.representatives)
        names = [policy.programme, policy.guard.name, policy.guard.run_by]
        names += [name for party in parties for name in (party.name, party.contact)]
        names += [approver.name for approver in policy.approvers]
        found |= dict.fromkeys(names, "<name>")
        for application in policy.applications:
            found |= {application.process: "<program>", application.window_class: "<program>"}
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _platform(environment: Mapping[str, str]) -> dict[str, object]:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "distribution": f"{system.get('ID', 'unknown')} {system.get('VERSION_ID', '')}".strip(),
        "processors": os.cpu_count(),
        **{name: environment.get(name, "") for name in DESKTOP},
    }


def _config(paths: Paths) -> object:
    try:
        return configuration.load(paths.config)
    except AssentError:
        return {"unreadable": True}  # its text is anybody's guess, so it stays here


def _state(paths: Paths) -> dict[str, object]:
    state = paths.state
    return {
        "files": {name: _about(state / name) for name in KEPT},
        "set aside": sum(1 for _ in state.glob("consent.unreadable-*.jsonl")),
        "acts": on_disk.acts(state),
        "spool": on_disk.waiting(state),
    }


def _about(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as exc:
        return (exc.strerror or "cannot be looked at").lower()
    return f"{stat.filemode(found.st_mode)} {found.st_size} bytes"


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True)
    except OSError:
        return "there is no log\n"
    return "".join(lines[-LOG_LINES:])


def _packed(texts: Mapping[str, str]) -> bytes:
    """Return a tar.gz without the marks of who made it, where and when."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in texts.items():
            data = text.encode()
            member = tarfile.TarInfo(f"assent-doctor/{name}")
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)
