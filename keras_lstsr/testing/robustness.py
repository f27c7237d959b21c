"""Trials with hostile input: each is run in a process of its own kind, judged, and counted.

A section of ``benchmarks/robustness.py`` is a function that takes :class:`Round` and yields
:class:`Trial`; what it mutates stands in a module of its own in ``keras_lstsr.testing``.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path

from keras_lstsr.errors import LstsrError

# What the process of the trials needs to start, above the time of a trial.
_START_SECONDS = 60.0


class Verdict(StrEnum):
    """How a trial came out; the values are the heads of the table's columns."""

    REFUSED = "refused well"
    RIGHT = "right"
    WRONG = "silently wrong"
    CRASHED = "crashed"
    HUNG = "hung"
    RAW = "raw exception"


ACCEPTED = (Verdict.REFUSED, Verdict.RIGHT)
"""What may come out."""


@dataclass(frozen=True)
class Round:
    """What a section works with.

    Attributes:
        folder: An empty folder of its own.
        seed: The same seed gives the same trials.
        count: About how many trials to make.
        real_data: Folder of real data, or None.
    """

    folder: Path
    seed: int
    count: int
    real_data: Path | None = None


@dataclass(frozen=True)
class Trial:
    """One hostile input.

    Attributes:
        kind: What was done to the input; trials of one kind are counted together.
        name: Which one it is, so that it can be made again.
        call: Does what a user does, and returns whether the result is right. It is pickled: a
            function of a module, or ``functools.partial`` of one. An ``LstsrError`` refuses.
        named: What the text of a refusal must hold, such as the file's name.
        limit_s: After so many seconds it hangs.
    """

    kind: str
    name: str
    call: Callable[[], bool]
    named: str = ""
    limit_s: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """How one trial came out, and the text of its error."""

    trial: Trial
    verdict: Verdict
    text: str = ""


Section = Callable[[Round], Iterable[Trial]]


def judged(trial: Trial) -> tuple[Verdict, str]:
    """Runs a trial in this process and judges it."""
    try:
        right = trial.call()
    except LstsrError as error:
        text = str(error)
        return (Verdict.REFUSED if trial.named in text else Verdict.RAW), text
    except Exception as error:
        return Verdict.RAW, f"{type(error).__name__}: {error}"
    return (Verdict.RIGHT if right else Verdict.WRONG), ""


def _serve(connection: Connection) -> None:
    while True:
        try:
            trial = connection.recv()
        except EOFError:
            return
        connection.send(judged(trial))


class Bench:
    """Runs trials in a process beside, which is replaced when it crashes or hangs."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def run(self, trial: Trial) -> Outcome:
        """Runs one trial."""
        started = self._connection is None
        if self._connection is None:
            self._connection, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,))
            self._process.start()
            theirs.close()
        self._connection.send(trial)
        if not self._connection.poll(trial.limit_s + (_START_SECONDS if started else 0.0)):
            self.close()
            return Outcome(trial, Verdict.HUNG)
        try:
            return Outcome(trial, *self._connection.recv())
        except EOFError:
            self.close()
            return Outcome(trial, Verdict.CRASHED)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None


def run_trials(trials: Iterable[Trial]) -> Iterator[Outcome]:
    """Runs trials one after the other; a crash or a hang ends none but its own."""
    bench = Bench()
    try:
        for trial in trials:
            yield bench.run(trial)
    finally:
        bench.close()


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts the outcomes by kind, as a table in Markdown with a last row of sums."""
    kinds = dict.fromkeys(outcome.trial.kind for outcome in outcomes)
    counts = {kind: Counter(o.verdict for o in outcomes if o.trial.kind == kind) for kind in kinds}
    counts["all"] = Counter(outcome.verdict for outcome in outcomes)
    lines = [
        "| kind | tried | " + " | ".join(Verdict) + " |",
        "|---" * (2 + len(Verdict)) + "|",
    ]
    for kind, found in counts.items():
        cells = [str(found[verdict]) for verdict in Verdict]
        lines.append(f"| {kind} | {found.total()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
