"""How the command line puts into lines what the agent says."""

import time

from base.command import say
from wire.control import Status


def show(status: Status) -> None:
    """Print a status, a line for each fact."""

    def line(name: str, value: object) -> None:
        say(f"{name:<12} {value}")

    line("state", f"{status.reason}: {status.detail}")
    line("recording", ", ".join(status.recording) or "nothing")
    for each in status.categories:
        level = f"level {each.level}" if each.offered else "not asked for"
        granted = "agreed" if each.granted else "not agreed"
        flag = ", opted out" if each.opted_out else ""
        line(f"  {each.category}", f"{granted}{flag}, {level}")
    line("programme", status.programme or "no valid policy")
    line("indicator", status.indicator or "shown")
    line("receipts", f"{status.receipts}; see `assent-agent receipts`")
    line("kept", _counts(status.kept))
    line("dropped", _counts(status.dropped))
    spool = status.spool
    line(
        "batches",
        f"{spool.held} held, {spool.waiting} waiting, {spool.sent} sent, "
        f"{spool.quarantined} set aside, {spool.forgotten} forgotten",
    )
    line("disk", f"{spool.bytes / 1e6:.1f} of {spool.quota_bytes / 1e6:.0f} MB")
    line("collector", status.collector.origin)
    receipt = status.collector.last_receipt_at
    line("  receipt", "none yet" if receipt is None else time_of(receipt))
    for said in status.unconfirmed:
        line("  erasure", said)
    for said in status.erased:
        line("  erased", said)
    if status.collector.last_error:
        line("  trouble", status.collector.last_error)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())) or "none"


def time_of(wall: int) -> str:
    """Return an instant as a person at this machine reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall / 1e9))


def plain(value: object) -> str:
    """Return *value* as a person would write it."""
    match value:
        case dict():
            return ", ".join(f"{name} ({each})" for name, each in value.items())
        case list() | tuple():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)
