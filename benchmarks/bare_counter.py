"""The floors: processes that watch input and do nothing but count.

    python -m benchmarks.bare_counter xinput2    raw events by way of libXi, through ctypes
    python -m benchmarks.bare_counter pynput     pynput's two listeners with empty callbacks

Prints `ready`, counts until SIGTERM, prints the count.
"""

import ctypes
import os
import select
import signal
import struct
import sys
from typing import Final

RAW_EVENTS: Final = range(13, 18)  # XI_RawKeyPress to XI_RawMotion
ALL_MASTERS: Final = 1
GENERIC: Final = 35
MASK: Final = struct.Struct("@iiP")  # XIEventMask: device, length, where the bits are
EVENT_BYTES: Final = 192  # of the union XEvent


def stop_pipe() -> int:
    """Return a descriptor that becomes readable at SIGTERM."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writing)
    return reading


class Selection:
    """A connection to the X server on which raw events are selected, or not."""

    def __init__(self) -> None:
        self.x, self._xi = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXi.so.6")
        self.x.XOpenDisplay.restype = ctypes.c_void_p
        self.x.XDefaultRootWindow.restype = ctypes.c_ulong
        self.display = ctypes.c_void_p(self.x.XOpenDisplay(None))
        numbers = [ctypes.c_int() for _ in range(3)]
        self.x.XQueryExtension(self.display, b"XInputExtension", *map(ctypes.byref, numbers))
        version = (ctypes.byref(ctypes.c_int(2)), ctypes.byref(ctypes.c_int(2)))
        self._xi.XIQueryVersion(self.display, *version)
        self._root = ctypes.c_ulong(self.x.XDefaultRootWindow(self.display))
        self.connection = int(self.x.XConnectionNumber(self.display))

    def select(self, *, wanted: bool) -> None:
        """Select all raw events or none, and wait until the server has done so."""
        bits = (ctypes.c_ubyte * 4)()
        for number in RAW_EVENTS if wanted else ():
            bits[number >> 3] |= 1 << (number & 7)
        mask = MASK.pack(ALL_MASTERS, len(bits), ctypes.addressof(bits))
        self._xi.XISelectEvents(self.display, self._root, mask, 1)
        self.x.XSync(self.display, 0)


def xinput2() -> int:
    """Count raw events; return how many there were."""
    selection = Selection()
    selection.select(wanted=True)
    stop = stop_pipe()
    event, counted = ctypes.create_string_buffer(EVENT_BYTES), 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        while selection.x.XPending(selection.display):
            selection.x.XNextEvent(selection.display, event)
            counted += ctypes.c_int.from_buffer(event).value == GENERIC
        if stop in select.select([selection.connection, stop], [], [])[0]:
            return counted


def pynput() -> int:
    """Count what pynput's listeners call back for."""
    from pynput import keyboard, mouse  # noqa: PLC0415 - it connects to a display when imported

    counted = 0

    def count(*_what: object) -> None:
        nonlocal counted
        counted += 1

    listeners = (
        keyboard.Listener(on_press=count, on_release=count),
        mouse.Listener(on_move=count, on_click=count, on_scroll=count),
    )
    for listener in listeners:
        listener.start()
        listener.wait()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    select.select([stop_pipe()], [], [])
    return counted


if __name__ == "__main__":
    counter = {"xinput2": xinput2, "pynput": pynput}[sys.argv[1]]
    sys.stdout.write(f"{counter()}\n")
    sys.stdout.flush()
    os._exit(0)  # pynput's threads end with the next event, which may never come
