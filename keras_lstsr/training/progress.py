"""Shows training: a live bar in a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Reading the loss of a step makes the processor wait for the GPU, so it is not done at each.
SECONDS_BETWEEN_UPDATES = 0.5
SECONDS_BETWEEN_LINES = 30.0


class TrainingProgress:
    """What training tells while it runs; shows nothing. Epochs and steps are counted from 1."""

    def started(self, facts: Mapping[str, str], *, epochs: int, first: int, steps: int) -> None:
        """Called before the first epoch, ``first``; ``facts`` say what is trained on what."""

    def note(self, text: str) -> None:
        """Called between trainings with a line of what has been found or done."""

    def wants_step(self) -> bool:
        """Returns whether the loss of this step is worth reading."""
        return False

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Called after a step, if it was wanted."""

    def epoch(self, record: Mapping[str, float], *, best: bool) -> None:
        """Called after an epoch with its metrics; ``best`` if it has the lowest loss so far."""

    def finished(self, message: str) -> None:
        """Called at the end."""


class RichProgress(TrainingProgress):
    """Shows a bar in a terminal; prints a line per epoch, and in logs every half a minute.

    Args:
        console: Where to print; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._epochs = self._steps = 0
        self._last = time.monotonic()

    def started(self, facts: Mapping[str, str], *, epochs: int, first: int, steps: int) -> None:
        """Prints the facts and opens the bar."""
        for name, value in facts.items():
            self._console.print(
                f"  {name:<12} {value}", highlight=False, markup=False, soft_wrap=True
            )
        self._epochs, self._steps = epochs, steps
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[progress.description]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            done = (first - 1) * steps
            self._task = self._bar.add_task("training", total=epochs * steps, completed=done)
            self._bar.start()

    def note(self, text: str) -> None:
        """Prints the line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def wants_step(self) -> bool:
        """Returns whether the last update is old enough."""
        pause = SECONDS_BETWEEN_UPDATES if self._bar else SECONDS_BETWEEN_LINES
        return time.monotonic() - self._last >= pause

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Moves the bar, or prints a line."""
        self._last = time.monotonic()
        text = f"epoch {epoch}/{self._epochs}, loss {loss:.5g}"
        if self._bar:
            completed = (epoch - 1) * self._steps + step
            self._bar.update(self._task, completed=completed, description=text)
        else:
            self._console.print(
                f"  epoch {epoch}/{self._epochs}  step {step}/{self._steps}  loss {loss:.5g}",
                highlight=False,
            )

    def epoch(self, record: Mapping[str, float], *, best: bool) -> None:
        """Prints the epoch's line."""
        number = int(record["epoch"])
        if self._bar:
            self._bar.update(self._task, completed=number * self._steps)
        line = f"  epoch {number:>{len(str(self._epochs))}}/{self._epochs}"
        line += f"  loss {record['loss']:.5g}"
        if "val_loss" in record:
            line += f"  val loss {record['val_loss']:.5g}"
        if "val_rmse_kelvin" in record:
            line += f"  val RMSE {record['val_rmse_kelvin']:.3f} K"
        if "bicubic_val_rmse_kelvin" in record:
            line += f" (bicubic {record['bicubic_val_rmse_kelvin']:.3f} K)"
        line += f"  {record['seconds']:.1f} s" + ("  best" if best else "")
        self._console.print(line, highlight=False, soft_wrap=True)

    def finished(self, message: str) -> None:
        """Closes the bar and prints the message."""
        if self._bar:
            self._bar.stop()
            self._bar = None
        if message:
            self._console.print(f"  {message}", highlight=False, soft_wrap=True)
