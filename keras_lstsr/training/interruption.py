"""Ctrl+C that is not lost.

Python raises KeyboardInterrupt wherever it happens to be. Inside a callback that a C++ library
called, or while an object is destroyed, the library swallows it. So the signal is kept, too.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS_TO_END = 30.0
"""After Ctrl+C, the process has this long to end in order."""


class Interruption:
    """Whether Ctrl+C was pressed."""

    def __init__(self) -> None:
        self.pressed = False

    def check(self) -> None:
        """Raises KeyboardInterrupt if it was."""
        if self.pressed:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Keeps the first Ctrl+C meanwhile; the exception comes at once, and at the end again.

    If what happens meanwhile has not ended half a minute later, the process ends with status 130.
    In another thread than the main one, which alone gets signals, nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    timer = threading.Timer(SECONDS_TO_END, os._exit, [128 + signal.SIGINT])
    timer.daemon = True

    def pressed(number: int, frame: FrameType | None) -> None:
        if not interruption.pressed:
            timer.start()
        interruption.pressed = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield interruption
        interruption.check()
    finally:
        signal.signal(signal.SIGINT, before)
        timer.cancel()
