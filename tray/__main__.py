"""`assent-tray`: started by the agent, which hands it one end of a socket pair."""

import logging
import os
import signal
import sys
from types import TracebackType
from typing import Final

import click

from base.clock import SystemClock
from base.errors import AssentError, ExitCode
from base.logs import start_logging
from base.paths import paths_for
from base.process import become_undumpable, die_with_parent

_LOG: Final = logging.getLogger(__name__)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--channel",
    type=click.IntRange(min=3),
    metavar="FD",
    required=True,
    help="Descriptor of the socket to the agent, inherited from it.",
)
def tray(channel: int) -> None:
    """Show the icon, its menu and the windows in which you decide what is recorded.

    The agent starts this program by itself; nobody else can give it the channel that it
    needs.  To see the icon, start the agent:

        assent-agent run
    """
    die_with_parent(os.getppid())
    become_undumpable()
    start_logging("tray", None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    sys.excepthook = _end
    _run(channel)


def _run(channel: int) -> None:
    """Wire the parts and serve.  Gtk is loaded only now: without it there is a clear line."""
    from tray._gtk import GLib  # noqa: PLC0415
    from tray.asked import Asked  # noqa: PLC0415
    from tray.channel import Channel  # noqa: PLC0415
    from tray.controls import Controls  # noqa: PLC0415
    from tray.icon import Indicator  # noqa: PLC0415

    GLib.set_prgname("assent-tray")  # the windows' class, and their name for screen readers
    paths = paths_for("tray").make()
    asked = Asked(paths.state / "asked-programmes")
    Controls(Channel(channel), Indicator(paths.runtime), SystemClock(), asked).run()


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End at once on an unforeseen error.

    Gtk would print it and go on, with a control that no longer works behind an icon that
    still says it does.  Ending closes capture, and the agent starts a fresh tray.
    """
    _LOG.critical("the tray ends because of a defect", exc_info=(kind, error, trace))
    os._exit(ExitCode.FAILED)


def main() -> None:
    """Run the command; an error of ours is one line and its exit code."""
    try:
        tray()
    except AssentError as exc:
        click.echo(f"assent-tray: {exc}", err=True)
        sys.exit(exc.exit_code)


if __name__ == "__main__":
    main()
