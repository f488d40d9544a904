"""Everything on this machine that keeps the agent from working, and how to mend it.

Each check is a function that returns one finding; none changes anything.  A finding that
blocks ends the command with an exit code of its own.
"""

import asyncio
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from agent import config as configuration
from agent import control, enroll
from agent.consent import ledger
from agent.consent.policy import load as load_policy
from agent.indicator import why_no_tray
from agent.transport import same_origin
from base.clock import NANOSECONDS, Clock
from base.errors import AssentError
from base.paths import Paths
from wire.control import GetStatus, Status
from wire.errors import WireError

LEAST_FREE_BYTES: Final = 256 << 20
IMPORT_SECONDS: Final = 20.0
_TRAY_NEEDS: Final = (
    "import gi; gi.require_version('Gtk', '3.0'); "
    "gi.require_version('AyatanaAppIndicator3', '0.1'); "
    "from gi.repository import AyatanaAppIndicator3"
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: what was found, and what to do where something is wrong."""

    name: str
    what: str
    mend: str = ""
    blocks: bool = False

    @property
    def mark(self) -> str:
        """How the finding begins its line."""
        if self.blocks:
            return "BLOCKS"
        return "note" if self.mend else "ok"


async def examine(paths: Paths, clock: Clock, environment: Mapping[str, str]) -> list[Finding]:
    """Return all findings, in the order in which one would mend them."""
    checks: tuple[Callable[[], Awaitable[Finding] | Finding], ...] = (
        lambda: _configuration(paths),
        lambda: _enrolment(paths),
        lambda: _policy(paths, clock),
        lambda: _certificate(paths, clock),
        lambda: _consents(paths),
        lambda: _opt_outs(paths, environment),
        lambda: display(environment),
        _tray,
        _tray_host,
        lambda: _disk(paths),
        _swap,
        lambda: _identity(paths),
        lambda: _collector(paths, clock),
        lambda: _agent(paths),
    )
    findings = []
    for check in checks:
        found = check()
        findings.append(found if isinstance(found, Finding) else await found)
    return findings


def _configuration(paths: Paths) -> Finding:
    name = "configuration"
    try:
        configuration.load(paths.config)
    except AssentError as exc:
        return Finding(name=name, what=str(exc), mend="Correct the file.", blocks=True)
    return Finding(name=name, what="can be read, or there is none")


def _enrolment(paths: Paths) -> Finding:
    try:
        device = enroll.load_device(paths.state)
    except AssentError as exc:
        mend = "Ask who runs the programme for an enrolment file."
        return Finding(name="enrolment", what=str(exc), mend=mend, blocks=True)
    return Finding(name="enrolment", what=f"enrolled at {device.enrolment.origin}")


def _is_enrolled(paths: Paths) -> bool:
    return (paths.state / enroll.ENROLMENT).exists()


def _policy(paths: Paths, clock: Clock) -> Finding:
    in_force = load_policy(paths.state, clock.now())
    policy = in_force.policy
    if not _is_enrolled(paths):
        return Finding(name="policy", what="it comes with the enrolment")
    if policy is None:
        mend = "Check the clock; then ask who runs the programme for a current policy."
        return Finding(name="policy", what=in_force.problem, mend=mend, blocks=True)
    if not policy.applications:
        what = "the policy lists no program, so nothing is ever recorded"
        return Finding(name="policy", what=what, mend="Ask who runs the programme.", blocks=True)
    programs = sorted({application.process for application in policy.applications})
    what = f"{policy.programme}, for {', '.join(programs)}"
    return Finding(name="policy", what=what)


def _certificate(paths: Paths, clock: Clock) -> Finding:
    if not _is_enrolled(paths):
        return Finding(name="certificate", what="it comes with the enrolment")
    ends = enroll.certificate_ends_at(paths.state / enroll.CERTIFICATE)
    now = datetime.fromtimestamp(clock.now().wall // NANOSECONDS, UTC)
    what = f"valid until {ends:%Y-%m-%d %H:%M} UTC"
    if ends > now:
        return Finding(name="certificate", what=what)
    mend = "It is renewed by itself when the agent runs and reaches the collector."
    return Finding(name="certificate", what=f"expired: {what}", mend=mend)


def _consents(paths: Paths) -> Finding:
    path = paths.state / ledger.FILE_NAME
    aside = sorted(paths.state.glob("consent.unreadable-*.jsonl"))
    if aside:
        what = f"an earlier record could not be read and is kept as {aside[-1].name}"
        return Finding(name="consents", what=what, mend="Agree again in the tray if you want to.")
    what = "a record is here" if path.exists() else "nothing is agreed to yet"
    return Finding(name="consents", what=what)


def _opt_outs(paths: Paths, environment: Mapping[str, str]) -> Finding:
    try:
        settings = configuration.load(paths.config)
    except AssentError:
        settings = configuration.Config(opt_out=("all",))
    found = configuration.outside_opt_outs(settings, environment)
    if not found:
        return Finding(name="opt-outs", what="none outside the tray")
    what = "; ".join(f"{place}: {', '.join(sorted(c))}" for place, c in found.items())
    mend = f"These keep it from recording: {configuration.VARIABLE}, "
    mend += f"{configuration.MACHINE_FLAG}, or opt_out in {configuration.FILE_NAME}."
    return Finding(name="opt-outs", what=what, mend=mend)


def is_wayland(environment: Mapping[str, str]) -> bool:
    """Say whether the session is a Wayland one, where nothing is recorded."""
    wayland = environment.get("XDG_SESSION_TYPE") == "wayland"
    return wayland or bool(environment.get("WAYLAND_DISPLAY"))


def display(environment: Mapping[str, str]) -> Finding:
    """Find out whether there is a desktop that can be recorded at all."""
    name = "display"
    if is_wayland(environment):
        what = "this is a Wayland session, in which nothing is recorded"
        mend = "Choose an Xorg session at the login screen (docs/known-issues.md says why)."
        return Finding(name=name, what=what, mend=mend, blocks=True)
    address = environment.get("DISPLAY", "")
    if not address:
        mend = "Start the agent inside a desktop session."
        return Finding(name=name, what="DISPLAY is not set", mend=mend, blocks=True)
    if not _answers(address):
        mend = "Check DISPLAY and that the X server of this session runs."
        return Finding(name=name, what=f"no X server at {address}", mend=mend, blocks=True)
    return Finding(name=name, what=f"X11 at {address}")


def _answers(display: str) -> bool:
    host, _, number = display.partition(":")
    if host not in ("", "unix"):
        return True  # another machine's: only trying tells
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(f"/tmp/.X11-unix/X{number.partition('.')[0]}")  # noqa: S108 - X's own place
        except OSError:
            return False
    return True


async def _tray() -> Finding:
    """Load in another process what the tray needs; the agent itself never does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _TRAY_NEEDS,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await asyncio.wait_for(process.wait(), IMPORT_SECONDS)
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code == 0:
        return Finding(name="tray", what="its libraries are here")
    mend = "Install python3-gi, gir1.2-gtk-3.0 and gir1.2-ayatanaappindicator3-0.1."
    return Finding(name="tray", what="its libraries are missing", mend=mend, blocks=True)


async def _tray_host() -> Finding:
    why = await why_no_tray()
    if not why:
        return Finding(name="indicator", what="this desktop shows tray icons")
    mend = "Without a visible icon nothing is recorded."
    return Finding(name="indicator", what=why, mend=mend, blocks=True)


def _disk(paths: Paths) -> Finding:
    existing = next(p for p in (paths.state, *paths.state.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    what = f"{free >> 20} MiB free for {paths.state}"
    if free >= LEAST_FREE_BYTES:
        return Finding(name="disk", what=what)
    return Finding(name="disk", what=what, mend="Make room: a full disk stops recording.")


def _swap() -> Finding:
    try:
        lines = Path("/proc/swaps").read_text("utf-8").splitlines()[1:]
    except OSError:
        lines = []
    plain = [words[0] for words in map(str.split, lines) if words and not _is_safe(words[0])]
    if not plain:
        return Finding(name="swap", what="none, or encrypted, or in memory")
    mend = "Encrypt it: what is in memory may be written there in the clear."
    return Finding(name="swap", what=f"not known to be encrypted: {', '.join(plain)}", mend=mend)


def _is_safe(device: str) -> bool:
    name = Path(device).resolve().name
    if name.startswith("zram"):
        return True
    try:
        return Path(f"/sys/block/{name}/dm/uuid").read_text("ascii").startswith("CRYPT-")
    except OSError:
        return False


def _identity(paths: Paths) -> Finding:
    if enroll.is_in_memory(paths.runtime):
        return Finding(name="identity", what="the runtime folder is in memory")
    what = f"{paths.runtime} is on a disk, so your identity is not kept there"
    return Finding(name="identity", what=what, mend="Have your rights key at hand to look inside.")


async def _collector(paths: Paths, clock: Clock) -> Finding:
    name, policy = "collector", load_policy(paths.state, clock.now()).policy
    if policy is None:
        return Finding(name=name, what="not asked: there is no valid policy")
    try:
        device = enroll.load_device(paths.state)
        same_origin(policy.collector.origin, device.enrolment.origin)
        state = await asyncio.to_thread(device.door(policy.collector.tls_pins).state)
    except (AssentError, WireError) as exc:
        mend = "Recording goes on without it until the disk space for it is used up."
        return Finding(name=name, what=str(exc), mend=mend)
    if state.halted:
        what = f"the programme is halted: {state.why}"
        return Finding(name=name, what=what, mend="Ask who runs the programme.", blocks=True)
    return Finding(name=name, what=f"{policy.collector.origin} answers")


async def _agent(paths: Paths) -> Finding:
    try:
        answer = await asyncio.to_thread(control.ask, paths.runtime, GetStatus())
    except AssentError as exc:
        return Finding(name="agent", what=str(exc), mend="Stop it and start it again.", blocks=True)
    if not isinstance(answer, Status):
        return Finding(name="agent", what="not running", mend="Start it: `assent-agent run`.")
    return Finding(name="agent", what=f"{answer.reason}: {answer.detail}")
