"""Everything on this machine that keeps the agent from working, and how to mend it.

Each check is a function that returns one finding; none changes anything.  A finding that
blocks ends the command with an exit code of its own.
"""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent import config as configuration
from agent import control, enroll, lock, on_disk, renewal, session
from agent.consent import ledger
from agent.consent.policy import load as load_policy
from agent.indicator import why_no_tray
from agent.numbers import Numbers
from agent.remedies import REMEDIES, Finding, from_the_gate
from agent.transport import same_origin
from base.clock import NANOSECONDS, Clock
from base.errors import AssentError, line_of
from base.logs import LARGEST_BYTES, OLDER, log_file
from base.paths import Paths
from wire.control import GetStatus, Reason, Status
from wire.errors import WireError

PROGRAM: Final = "agent"  # what its log is called
LEAST_FREE_BYTES: Final = 256 << 20
LONGEST_SOCKET_BYTES: Final = 108  # unix(7), sun_path with its final zero
OWNER: Final = "Check who owns it and its mode: it has to be yours, 0700."
RENEWED: Final = "It is renewed by itself when the agent runs and reaches the collector."
IMPORT_SECONDS: Final = 20.0
PROXY_VARIABLES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_TRAY_NEEDS: Final = (
    "import gi; gi.require_version('Gtk', '3.0'); "
    "gi.require_version('AyatanaAppIndicator3', '0.1'); "
    "from gi.repository import AyatanaAppIndicator3"
)


async def examine(paths: Paths, clock: Clock, environment: Mapping[str, str]) -> list[Finding]:
    """Return all findings, in the order in which one would mend them."""
    checks: tuple[Callable[[], Awaitable[Finding] | Finding], ...] = (
        lambda: folders(paths),
        lambda: _configuration(paths),
        lambda: _enrolment(paths),
        lambda: _policy(paths, clock),
        lambda: _certificate(paths, clock),
        lambda: _consents(paths),
        lambda: _opt_outs(paths, environment),
        lambda: display(environment),
        lambda: _sources(environment),
        _tray,
        _tray_host,
        _session,
        lambda: _disk(paths),
        _swap,
        lambda: _identity(paths),
        lambda: _log(paths),
        lambda: _proxy(paths, environment),
        lambda: _collector(paths, clock),
        lambda: _agent(paths),
    )
    findings = []
    for check in checks:
        try:
            found = check()
            findings.append(found if isinstance(found, Finding) else await found)
        except OSError as exc:  # whatever it was about, it cannot even be looked at
            findings.append(Finding(name="files", what=line_of(exc), mend=OWNER, blocks=True))
        if findings[-1].name == "consents":
            findings += _from_the_gate(paths, clock, environment)
    return findings


def folders(paths: Paths) -> Finding:
    """Find out whether our folders can be used; none is made, and none is changed."""
    name, others = "folders", ("config", "state", "logs", "runtime")
    for folder in (getattr(paths, other) for other in others):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        if not existing.is_dir():
            what = f"{existing} is no folder"
            return Finding(name=name, what=what, mend="Move it away.", blocks=True)
        if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
            what = f"{existing} cannot be entered or written to"
            return Finding(name=name, what=what, mend=OWNER, blocks=True)
        if folder.exists() and folder.stat().st_uid != os.getuid():
            what = f"{folder} belongs to somebody else"
            return Finding(name=name, what=what, mend=OWNER, blocks=True)
    if len(os.fsencode(paths.runtime / control.SOCKET)) >= LONGEST_SOCKET_BYTES:
        what = f"{paths.runtime} has too long a name for a socket below it"
        mend = "Choose a shorter XDG_RUNTIME_DIR or ASSENT_HOME."
        return Finding(name=name, what=what, mend=mend, blocks=True)
    return Finding(name=name, what="are there and yours, or can be made")


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
    what = f"enrolled at {device.enrolment.origin}"
    return Finding(name="enrolment", what=what, told="enrolled")


def _is_enrolled(paths: Paths) -> bool:
    return (paths.state / enroll.ENROLMENT).exists()


def _policy(paths: Paths, clock: Clock) -> Finding:
    in_force = load_policy(paths.state, clock.now())
    policy = in_force.policy
    if not _is_enrolled(paths):
        return Finding(name="policy", what="it comes with the enrolment")
    if policy is None:
        mend = REMEDIES[Reason.POLICY_INVALID].mend
        return Finding(name="policy", what=in_force.problem, mend=mend, blocks=True)
    if not policy.applications:
        what = "the policy lists no program, so nothing is ever recorded"
        return Finding(name="policy", what=what, mend="Ask who runs the programme.", blocks=True)
    programs = sorted({application.process for application in policy.applications})
    what = f"{policy.programme}, for {', '.join(programs)}"
    told = f"valid, lists {len(programs)} programs"
    return Finding(name="policy", what=what, told=told)


def _certificate(paths: Paths, clock: Clock) -> Finding:
    if not _is_enrolled(paths):
        return Finding(name="certificate", what="it comes with the enrolment")
    ends = renewal.certificate_ends_at(paths.state / enroll.CERTIFICATE)
    if ends.timestamp() == 0:
        what = f"{enroll.CERTIFICATE} cannot be read"
        return Finding(name="certificate", what=what, mend=RENEWED)
    now = datetime.fromtimestamp(clock.now().wall // NANOSECONDS, UTC)
    what = f"valid until {ends:%Y-%m-%d %H:%M} UTC"
    if ends > now:
        return Finding(name="certificate", what=what)
    return Finding(name="certificate", what=f"expired: {what}", mend=RENEWED)


def _consents(paths: Paths) -> Finding:
    path = paths.state / ledger.FILE_NAME
    if (paths.state / ledger.MARK_NAME).exists():
        what = "something that you asked for was begun, and a crash came before its end"
        return Finding(name="consents", what=what, mend="Resume in the tray's menu.")
    aside = sorted(paths.state.glob("consent.unreadable-*.jsonl"))
    if aside:
        what = f"an earlier record could not be read and is kept as {aside[-1].name}"
        return Finding(name="consents", what=what, mend="Agree again in the tray if you want to.")
    what = "a record is here" if path.exists() else "nothing is agreed to yet"
    return Finding(name="consents", what=what)


def _from_the_gate(paths: Paths, clock: Clock, environment: Mapping[str, str]) -> Iterable[Finding]:
    """Return what the gate would have against recording, by what lies on the disk."""
    try:
        config, device = configuration.load(paths.config), enroll.load_device(paths.state)
        policy = load_policy(paths.state, clock.now())
        looked_at = on_disk.situation(paths, config, device, policy, clock, environment)
        Numbers(paths.state)  # whether they can be read
    except AssentError as exc:
        if not _is_enrolled(paths):
            return ()  # said before, with what to do
        mend = "Nothing is lost: do what it says. Nothing is recorded until then."
        return (Finding(name="state", what=str(exc), mend=mend, blocks=True),)
    return from_the_gate(*looked_at)


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


def _sources(environment: Mapping[str, str]) -> Finding:
    """Find out what the display lets us record; nothing is recorded by that."""
    # Here and not above: the agent itself, which starts with `display`, never loads Xlib.
    from agent.capture import permission  # noqa: PLC0415

    why = permission.examine(environment)
    if refused := "; ".join(dict.fromkeys(filter(None, (why.window, why.input, why.screen)))):
        mend = "Choose another X server or session; docs/known-issues.md says which work."
        return Finding(name="sources", what=refused, mend=mend, blocks=True)
    return Finding(name="sources", what="keyboard, pointer, screen and windows can be watched")


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
        async with asyncio.timeout(IMPORT_SECONDS):
            code = await process.wait()
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
    mend = REMEDIES[Reason.INDICATOR_MISSING].mend
    return Finding(name="indicator", what=why, mend=mend, blocks=True)


async def _session() -> Finding:
    """Find out whose session this is, and which source proves what."""
    seen = await session.look()
    if why := seen.why_not():
        mend = REMEDIES[Reason.SESSION_BLOCKED].mend
        return Finding(name="session", what=why, mend=mend, blocks=True)
    names = {name.replace("_", " "): fact.by for name, fact in seen.facts().items()}
    what = "; ".join(f"{name}: {by}" for name, by in names.items())
    return Finding(name="session", what=what, told="is ours")


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


def _proxy(paths: Paths, environment: Mapping[str, str]) -> Finding:
    name = "proxy"
    try:
        settings = configuration.load(paths.config)
    except AssentError:
        return Finding(name=name, what="not known without the configuration")
    try:
        proxy = configuration.proxy_of(settings)
    except AssentError as exc:
        return Finding(name=name, what=str(exc), mend="Correct the file.", blocks=True)
    if proxy is not None:
        return Finding(name=name, what=f"the collector is reached through {proxy}")
    named = [each for each in PROXY_VARIABLES if environment.get(each)]
    if not named:
        return Finding(name=name, what="none is configured")
    mend = f"If there is no other way out: proxy in {configuration.FILE_NAME}, or "
    mend += f"{configuration.MACHINE_PROXY}."
    return Finding(name=name, what=f"{', '.join(named)} is set and not used", mend=mend)


async def _collector(paths: Paths, clock: Clock) -> Finding:
    name, policy = "collector", load_policy(paths.state, clock.now()).reachable
    if policy is None:
        return Finding(name=name, what="not asked: there is no valid policy")
    try:
        proxy = configuration.proxy_of(configuration.load(paths.config))
        device = enroll.load_device(paths.state, proxy)
        same_origin(policy.collector.origin, device.enrolment.origin)
        door = device.door(policy.collector.tls_pins)
        state = await asyncio.to_thread(door.state)
    except (AssentError, WireError) as exc:
        mend = "Recording goes on without it until the disk space for it is used up."
        return Finding(name=name, what=str(exc), mend=mend)
    if state.halted:
        what = f"the programme is halted: {state.why}"
        mend = REMEDIES[Reason.HALTED_BY_ORG].mend
        return Finding(name=name, what=what, mend=mend, blocks=True, told="it is halted")
    what = f"{policy.collector.origin} answers"
    if door.is_newer:
        mend = "It goes on working; install a newer assent when you can."
        what = f"{what}, and is of a newer version"
        return Finding(name=name, what=what, mend=mend, told="it is of a newer version")
    return Finding(name=name, what=what, told="it answers")


def _log(paths: Paths) -> Finding:
    path = log_file(PROGRAM, paths.logs)
    size = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
    most = LARGEST_BYTES * (OLDER + 1) >> 20
    what = f"{path}, {size >> 10} KiB of at most {most} MiB; it names nobody"
    return Finding(name="log", what=what)


async def _agent(paths: Paths) -> Finding:
    holder = on_disk.lock_holder(paths.state / lock.FILE_NAME)
    restart = f"End process {holder}, then: `assent-agent run`." if holder else ""
    try:
        answer = await asyncio.to_thread(control.ask, paths.runtime, GetStatus())
    except AssentError as exc:
        mend = restart or "Stop it and start it again."
        return Finding(name="agent", what=str(exc), mend=mend, blocks=True)
    if not isinstance(answer, Status):
        if holder:
            what = "one of yours runs and cannot be asked; was it started with another runtime?"
            return Finding(name="agent", what=what, mend=restart, blocks=True)
        return Finding(name="agent", what="not running", mend="Start it: `assent-agent run`.")
    remedy = REMEDIES[answer.reason]
    return Finding(
        name="agent",
        what=f"{answer.reason}: {answer.detail}",
        mend=remedy.mend,
        blocks=not remedy.chosen and answer.reason is not Reason.ACTIVE,
        told=answer.reason,
    )
