"""The end of a server by signal: heard at once, and not put off by whatever runs."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Termination:
    """Listens for SIGTERM and SIGINT while it is entered, in the main thread.

    A handler in Python runs only between two steps of the main thread, and one that sets an event
    for which that thread is about to wait can block it for ever. So the handlers do nothing: the
    interpreter writes the signal's number into a pipe at once, and a thread reads it there.

    Args:
        most_seconds: The process ends by force so long after the first signal, and at once at the
            second.

    Attributes:
        requested: Set at the first signal.
    """

    def __init__(self, most_seconds: float) -> None:
        self.requested = threading.Event()
        self._most_seconds = most_seconds
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Termination:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._previous_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="lstsr-signals", daemon=True).start()
        self._previous = {name: signal.signal(name, lambda *_: None) for name in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._writing)

    def _listen(self) -> None:
        force: threading.Timer | None = None
        while heard := os.read(self._reading, 1):
            if heard[0] not in SIGNALS:
                continue
            if force is not None:
                os._exit(0)
            force = threading.Timer(self._most_seconds, os._exit, [0])
            force.daemon = True
            force.start()
            self.requested.set()
        os.close(self._reading)
        if force is not None:
            force.cancel()
