"""How a sharpening method says that it could not do all it promises."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from keras_lstsr.errors import GridError


class SharpeningWarning(UserWarning):
    """A method went on with less than it was asked for; the message says with what."""


class ConstantGuideError(GridError):
    """The guide cannot explain LST: it is constant, or nearly no pixel has both.

    Array-level methods raise it; ``keras_lstsr.sharpening.sharpen`` answers with bicubic
    upsampling and says so.
    """


_notes: ContextVar[list[str] | None] = ContextVar("sharpening_notes", default=None)


def warn(text: str) -> None:
    """Warns the user, and notes the text for ``recorded``."""
    notes = _notes.get()
    if notes is not None:
        notes.append(text)
    warnings.warn(text, SharpeningWarning, stacklevel=3)


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Collects the texts of all ``warn`` calls inside the block, of this thread alone."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
