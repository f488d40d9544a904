"""The real agent, watched: when did each of its sources fall silent, and what came last from it?

    ASSENT_WATCHED=FOLDER python -m benchmarks.watched_agent run

Agent, sensors, tray and icon are the real ones, and do what they always do; only that a child that
ended is started again each time after half a second: on a starved machine sensors are killed for
closing late, and a thousand stops would be hours of back-off.  Two things are added:

- a line in `FOLDER/silences.jsonl` (`Silence`) for each opening of a source, once it is over;
- a socket below `FOLDER/clicks`: a command that is said there is carried out as one that the
  tray's own window says.  A click takes a person seconds, and a thousand of them an hour.

It can lead to more capture without a click, so it is never installed: no package has this folder.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

import agent.__main__ as program
import agent.children
import agent.sources
from agent.children import Listener, Sensor, Starter
from agent.control import SOCKET
from agent.service import Service
from agent.sources import SERVES
from base.clock import boot_ns
from base.ipc import read, write
from wire.category import Category
from wire.control import (
    Command,
    FromSensor,
    InputSettings,
    Items,
    Settings,
    SourceClosed,
    SourceOpened,
)

VARIABLE: Final = "ASSENT_WATCHED"
SILENCES: Final = "silences.jsonl"
CLICKS: Final = "clicks"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """One opening of a source that is over; instants of the boot clock, 0 for never."""

    sensor: str
    categories: frozenset[Category]
    asked_at: int  # when the agent asked for it
    opened_at: int  # by the sensor's own word
    unhooked_at: int  # the same; 0: it was killed
    silent_at: int  # when the agent had the sensor's word and all that it had sent
    happened_at: int  # the youngest of what it saw
    arrived_at: int  # when the last of it came to the agent
    items: int


class WatchedSensor(Sensor):
    """A sensor as the agent has it, which writes down what is over."""

    def __init__(self, name: str, start: Starter, listener: Listener) -> None:
        super().__init__(name, start, _Between(listener, self))
        self._file = Path(os.environ[VARIABLE]) / SILENCES
        self._now = _begun(name, None)

    def open(self, epoch: int, settings: Settings) -> None:
        """Open the source, and begin a new line."""
        begun = _begun(self.name, settings)
        super().open(epoch, settings)
        if self.settings is settings:
            self._now = begun

    def note_items(self, items: Items) -> None:
        """Note what came, and when it had happened."""
        instants = list(_instants(items))
        self._now = msgspec.structs.replace(
            self._now,
            happened_at=max(self._now.happened_at, *instants, 0),
            arrived_at=boot_ns(),
            items=self._now.items + len(instants),
        )

    def note_silence(self) -> None:
        """Write the line down."""
        line = msgspec.structs.replace(self._now, silent_at=boot_ns())
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def _on_message(self, message: FromSensor) -> None:
        match message:
            case SourceOpened(at=at):
                self._now = msgspec.structs.replace(self._now, opened_at=at)
            case SourceClosed(at=at):
                self._now = msgspec.structs.replace(self._now, unhooked_at=at)
            case _:
                pass
        super()._on_message(message)


class _Between:
    """Hears what the sensor tells the agent, and passes it on."""

    def __init__(self, listener: Listener, watched: WatchedSensor) -> None:
        self._listener, self._watched = listener, watched

    def on_items(self, sensor: Sensor, items: Items) -> None:
        self._watched.note_items(items)
        self._listener.on_items(sensor, items)

    def on_closed(self, sensor: Sensor) -> None:
        self._watched.note_silence()
        self._listener.on_closed(sensor)

    def on_redaction(self, sensor: Sensor, why: str) -> None:
        self._listener.on_redaction(sensor, why)

    def on_trouble(self, sensor: Sensor, why: str) -> None:
        self._listener.on_trouble(sensor, why)


class WatchedService(Service):
    """The agent as it is, with one more place at which it hears clicks."""

    async def run(self) -> None:
        """Run until `stop`."""
        folder = Path(os.environ[VARIABLE]) / CLICKS
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / SOCKET).unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._hear, folder / SOCKET)
        try:
            await super().run()
        finally:
            server.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
        try:
            while (command := await read(reader, decoder)) is not None:
                await write(writer, await self.answer(command))
        finally:
            writer.close()


def _begun(name: str, settings: Settings | None) -> Silence:
    categories = SERVES[name]
    if isinstance(settings, InputSettings):
        asked = {Category.KEYS: settings.keys, Category.POINTER: settings.pointer}
        categories = frozenset(category for category, wanted in asked.items() if wanted)
    return Silence(
        sensor=name,
        categories=categories,
        asked_at=boot_ns(),
        opened_at=0,
        unhooked_at=0,
        silent_at=0,
        happened_at=0,
        arrived_at=0,
        items=0,
    )


def _instants(items: Items) -> Iterator[int]:
    for group in (items.events, items.focus, items.secrets):
        yield from (each.at for each in group)


if __name__ == "__main__":
    agent.children.BACK_OFF_SECONDS = agent.children.BACK_OFF_SECONDS[:1]  # type: ignore[assignment,misc]
    agent.sources.Sensor = WatchedSensor  # type: ignore[attr-defined]
    program.Service = WatchedService  # type: ignore[attr-defined]
    sys.argv[0] = "assent-agent"
    program.main()
