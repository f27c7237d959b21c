"""Shows pretraining: a live bar in a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.progress import Progress, TaskID

from keras_lstsr.training.progress import (
    SECONDS_BETWEEN_LINES,
    SECONDS_BETWEEN_UPDATES,
    make_bar,
)


class PretrainProgress(Protocol):
    """What pretraining tells while it runs."""

    def note(self, text: str) -> None:
        """Called with a line of what has been found or done."""

    def started(self, what: str, total: int, unit: str) -> None:
        """Called before something that takes a while: so many steps or pairs."""

    def step(self, number: int, text: str) -> None:
        """Called after each, counted from 1, with what there is to say of it."""

    def finished(self) -> None:
        """Called at its end, and at the end of all, also if it failed."""


class SilentPretrainProgress:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Does nothing."""

    def started(self, what: str, total: int, unit: str) -> None:
        """Does nothing."""

    def step(self, number: int, text: str) -> None:
        """Does nothing."""

    def finished(self) -> None:
        """Does nothing."""


class RichPretrainProgress:
    """Shows a bar in a terminal; in logs prints a line every half a minute.

    Args:
        console: Where to print; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what, self._unit, self._total = "", "", 0
        self._began = self._last = time.monotonic()

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    def started(self, what: str, total: int, unit: str) -> None:
        """Opens a bar."""
        self.finished()
        self._what, self._unit, self._total = what, unit, total
        self._began = self._last = time.monotonic()
        if self._console.is_terminal:
            self._bar = make_bar(self._console, unit)
            self._task = self._bar.add_task(what, total=total)
            self._bar.start()

    def step(self, number: int, text: str) -> None:
        """Moves the bar, or prints a line."""
        now = time.monotonic()
        pause = SECONDS_BETWEEN_UPDATES if self._bar else SECONDS_BETWEEN_LINES
        if now - self._last < pause and number < self._total:
            return
        self._last = now
        if self._bar:
            self._bar.update(self._task, completed=number, description=f"{self._what} {text}")
        else:
            self.note(
                f"{self._what}  {number}/{self._total} {self._unit}  {text}  "
                f"{now - self._began:.0f} s".replace("    ", "  ")
            )

    def finished(self) -> None:
        """Closes the bar."""
        if self._bar:
            self._bar.stop()
            self._bar = None
