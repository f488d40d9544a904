"""Types and points without getting tired, and writes down every event it made.

Input goes through the server's XTEST extension, from a process of its own, so that it looks
to the recorder as a device does, and keeps coming whatever the test is doing.  The record is
one JSON object a line, written before the event is sent:

    {"at": 81234567890, "kind": "key", "pressed": true, "char": "A", "code": 38}
    {"at": ..., "kind": "move", "x": 400, "y": 300}
    {"at": ..., "kind": "button", "button": 1, "pressed": true, "x": 400, "y": 300}
    {"at": ..., "kind": "scroll", "dy": -1, "x": 400, "y": 300}

`at` is the boot clock in nanoseconds, as in recorded events.  `char` is empty for Shift.
Beside it, in RECORD.sent, stands for each line the time by which the server had the event: the
machine may stop the typist between writing down and sending.
`Typist` is the side that the test holds; `python -m demo.typist RECORD` is the process.
"""

import contextlib
import json
import math
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import msgspec
from Xlib import XK, X
from Xlib.display import Display
from Xlib.ext import xtest

from base.clock import boot_ns
from base.errors import AssentError

LETTERS: Final = "the quick brown fox jumps over the lazy dog "
HELD_SHARE: Final = 0.4  # of the time from one key to the next
CONTROL: Final = {"\n": XK.XK_Return, "\t": XK.XK_Tab, "\b": XK.XK_BackSpace, "\x1b": XK.XK_Escape}
UNICODE_KEYSYMS: Final = 0x0100_0000
WHEEL_UP: Final = 4
WHEEL_DOWN: Final = 5


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much is to be injected each second, and where.

    `text` is typed again and again; the pointer stays within `area` (x, y, width, height),
    which should lie inside a window that takes clicks in good part.
    """

    keys: float = 0.0
    moves: float = 0.0
    clicks: float = 0.0
    scrolls: float = 0.0
    text: str = LETTERS
    area: tuple[int, int, int, int] = (200, 200, 400, 200)


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the typist is asked to do; each order is answered with one line when it is done."""

    type: str = ""
    keys_per_second: float = 30.0
    load: Load | None = None
    stop_load: bool = False
    mouse: bool | None = None  # False: leave it alone until the order with True


class TypistError(AssentError):
    """The typist's process ended, or cannot do what was asked."""


class Typist:
    """A typist at work on the desktop with the environment *env*; record in *record*."""

    def __init__(self, env: Mapping[str, str], record: Path) -> None:
        self.record = record
        self._leaving = 0  # how many callers want the mouse now
        repository = str(Path(__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo.typist", str(record)],
            env=dict(env) | {"PYTHONPATH": repository},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def type_text(self, text: str, *, keys_per_second: float = 30.0) -> None:
        """Type *text* into whatever has the focus and return when it is done.

        The keys of a running load wait meanwhile, so the text stays in one piece.
        """
        self._do(Order(type=text, keys_per_second=keys_per_second))

    def start(self, load: Load) -> None:
        """Inject *load* until `stop`, in place of any other load."""
        self._do(Order(load=load))

    def stop(self) -> None:
        """End the load; what was pressed is released."""
        self._do(Order(stop_load=True))

    @contextlib.contextmanager
    def leave_the_mouse(self) -> Iterator[None]:
        """Let somebody else have the mouse meanwhile; the keys of a running load go on.

        There is one pointer.  Who presses a button while another moves it presses elsewhere,
        and a menu that is clicked beside closes.
        """
        if not self._leaving:
            self._do(Order(mouse=False))
        self._leaving += 1
        try:
            yield
        finally:
            self._leaving -= 1
            if not self._leaving:
                self._do(Order(mouse=True))

    def events(self) -> list[dict[str, Any]]:
        """Return the record so far."""
        return [json.loads(line) for line in _written(self.record)]

    def sent(self) -> list[int]:
        """Return for each event of the record by when it had happened."""
        return [int(line) for line in _written(sent_file(self.record))]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # it ends at end-of-file
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _do(self, order: Order) -> None:
        stream: IO[bytes] | None = self._process.stdin
        if stream is None:
            raise TypistError("the typist was started without a way to talk to it")
        stream.write(msgspec.json.encode(order) + b"\n")
        stream.flush()
        self._answer()

    def _answer(self) -> None:
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if line != b"done\n":
            raise TypistError(line.decode().strip() or "the typist's process ended")


def _written(file: Path) -> list[str]:
    """Return the lines that stand there whole: another process may be writing the next one."""
    return file.read_text("utf-8").split("\n")[:-1]


def sent_file(record: Path) -> Path:
    """Return where it stands by when the events of *record* had happened."""
    return record.with_name(f"{record.name}.sent")


# --- the process --------------------------------------------------------------------------


@dataclass(slots=True)
class Stream:
    """Something that is done again and again, `rate` times a second."""

    rate: float
    due: float = field(default_factory=time.monotonic)

    def is_due(self, now: float) -> bool:
        """Whether it is time; if so, the next time is set."""
        if not self.rate or now < self.due:
            return False
        self.due = max(self.due + 1 / self.rate, now)
        return True


class Hands:
    """Makes single events and writes them down."""

    def __init__(self, record: Path) -> None:
        self._display = Display()
        self._record = record.open("a", encoding="utf-8", buffering=1)  # whole lines, at once
        self._sent = sent_file(record).open("a", encoding="ascii", buffering=1)
        self._shift = self._display.keysym_to_keycode(XK.XK_Shift_L)

    def keys_of(self, char: str) -> list[tuple[int, str, bool]]:
        """Return the strokes that make *char*: keycode, what it says, pressed or released."""
        keysym = CONTROL.get(char) or (
            ord(char) if ord(char) < 0x100 else ord(char) | UNICODE_KEYSYMS
        )
        for code, level in sorted(self._display.keysym_to_keycodes(keysym), key=lambda key: key[1]):
            if level == 0:
                return [(code, char, True), (code, char, False)]
            if level == 1:
                inside = [(code, char, True), (code, char, False)]
                return [(self._shift, "", True), *inside, (self._shift, "", False)]
        raise TypistError(f"no key makes {char!r} on this keyboard")

    def key(self, code: int, char: str, *, pressed: bool) -> None:
        """Press or release a key."""
        self._note(kind="key", pressed=pressed, char=char, code=code)
        xtest.fake_input(self._display, X.KeyPress if pressed else X.KeyRelease, code)
        self._send()

    def move(self, x: int, y: int) -> None:
        """Put the pointer at (x, y)."""
        self._note(kind="move", x=x, y=y)
        xtest.fake_input(self._display, X.MotionNotify, x=x, y=y)
        self._send()

    def click(self, x: int, y: int) -> None:
        """Click with the left button at (x, y)."""
        for pressed in (True, False):
            self._note(kind="button", button=1, pressed=pressed, x=x, y=y)
            self._button(1, pressed=pressed)
            self._send()

    def turn(self, x: int, y: int, *, up: bool) -> None:
        """Turn the wheel by one step at (x, y)."""
        self._note(kind="scroll", dy=1 if up else -1, x=x, y=y)
        for pressed in (True, False):
            self._button(WHEEL_UP if up else WHEEL_DOWN, pressed=pressed)
        self._send()

    def settle(self) -> None:
        """Return when the server has done all that was asked of it."""
        self._display.sync()

    def _button(self, number: int, *, pressed: bool) -> None:
        xtest.fake_input(self._display, X.ButtonPress if pressed else X.ButtonRelease, number)

    def _send(self) -> None:
        """Send what was asked for, wait until the server has it, and note when that was."""
        self._display.sync()
        self._sent.write(f"{boot_ns()}\n")

    def _note(self, **what: Any) -> None:  # noqa: ANN401 - the fields of one line
        self._record.write(json.dumps({"at": boot_ns(), **what}) + "\n")


class Worker:
    """Does the orders; asks the clock, never sleeps longer than to the next event."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._text: deque[str] = deque()
        self._strokes: deque[tuple[float, int, str, bool]] = deque()
        self._typing = Stream(0)
        self._order_open = False
        self._streams: dict[str, Stream] = {}
        self._load = Load()
        self._letters: Iterator[str] = iter(())
        self._has_mouse = True
        self._step = 0

    def take(self, order: Order) -> bool:
        """Begin with *order*; True when that was all."""
        if order.type:
            for char in order.type:
                self._hands.keys_of(char)  # refuse before the first key, not in the middle
            self._text.extend(order.type)
            self._typing = Stream(order.keys_per_second)
            self._order_open = True
            return False
        if order.mouse is not None:
            self._has_mouse = order.mouse
            self._hands.settle()
            return True
        self._load = order.load or Load()
        self._letters = _for_ever(self._load.text)
        self._streams = {
            "keys": Stream(self._load.keys),
            "moves": Stream(self._load.moves),
            "clicks": Stream(self._load.clicks),
            "scrolls": Stream(self._load.scrolls),
        }
        if order.stop_load:
            self._streams = {}
        return True

    def work(self, now: float) -> bool:
        """Do all that is due; True when a text has just been finished."""
        while self._strokes and self._strokes[0][0] <= now:
            _due, code, char, pressed = self._strokes.popleft()
            self._hands.key(code, char, pressed=pressed)
        if self._text or self._order_open:
            if not self._text:
                if self._strokes:
                    return False
                self._order_open = False
                return True
            if not self._strokes and self._typing.is_due(now):
                self._press(now, self._text.popleft(), self._typing.rate)
        elif not self._strokes and self._is_due("keys", now):
            self._press(now, next(self._letters), self._load.keys)
        self._point(now)
        return False

    def wait(self, now: float) -> float:
        """Return how long nothing is due, at most a tenth of a second."""
        times = [
            stream.due
            for name, stream in self._streams.items()
            if stream.rate and (self._has_mouse or name == "keys")
        ]
        times += [stroke[0] for stroke in list(self._strokes)[:1]]
        if self._order_open:
            times.append(self._typing.due)
        return max(0.0, min([0.1, *(due - now for due in times)]))

    def _press(self, now: float, char: str, rate: float) -> None:
        strokes = self._hands.keys_of(char)
        step = HELD_SHARE / rate / (len(strokes) - 1)
        for number, (code, name, pressed) in enumerate(strokes):
            self._strokes.append((now + number * step, code, name, pressed))

    def _point(self, now: float) -> None:
        if not self._has_mouse:
            return
        if self._is_due("moves", now):
            self._step += 1
            self._hands.move(*self._place())
        if self._is_due("clicks", now):
            self._hands.click(*self._place())
        if self._is_due("scrolls", now):
            self._hands.turn(*self._place(), up=self._step % 2 == 0)

    def _place(self) -> tuple[int, int]:
        x, y, width, height = self._load.area
        turn = self._step / 25
        return (
            x + round(width / 2 * (1 + math.sin(turn))),
            y + round(height / 2 * (1 + math.sin(1.7 * turn))),
        )

    def _is_due(self, name: str, now: float) -> bool:
        stream = self._streams.get(name)
        return stream is not None and stream.is_due(now)


def main() -> None:
    """Take orders from standard input until it ends."""
    worker = Worker(Hands(Path(sys.argv[1])))
    orders = sys.stdin.buffer
    _answer("done")
    while True:
        now = time.monotonic()
        if worker.work(now):
            _answer("done")
        ready, _, _ = select.select([orders], [], [], worker.wait(time.monotonic()))
        if not ready:
            continue
        line = orders.readline()  # each order is answered before the next one is sent
        if not line:
            return
        try:
            if worker.take(msgspec.json.decode(line, type=Order)):
                _answer("done")
        except TypistError as exc:
            _answer(str(exc))


def _answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _for_ever(text: str) -> Iterator[str]:
    while text:
        yield from text


if __name__ == "__main__":
    main()
