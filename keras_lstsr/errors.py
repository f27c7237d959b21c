"""The exceptions that keras-lstsr raises: one root, few children, each message a way out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from os import PathLike
from typing import Any

_PARTS = ("path", "field", "found", "expected", "action")


class LstsrError(Exception):
    """The root of all errors that a user can cause and mend.

    The message is put together from its parts, so that every error names the file, the field,
    what was found, what was expected and what to do. The command line prints it and exits with
    status 2.

    Args:
        problem: What is wrong, in one clause without a final full stop.
        path: The file or folder concerned.
        field: The field, band, tensor or option concerned.
        found: What was there.
        expected: What should have been there.
        action: What the user can do about it, a whole sentence.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | PathLike[str] | None = None,
        field: str | None = None,
        found: object = None,
        expected: object = None,
        action: str | None = None,
    ) -> None:
        self.problem = problem
        # A name that is not UTF-8 could not be printed, nor written into a list of files.
        self.path = None if path is None else printable(path)
        self.field = field
        self.found = found
        self.expected = expected
        self.action = action
        super().__init__(self._message())

    @classmethod
    def unless(
        cls,
        fits: bool,
        field: str,
        found: object,
        expected: object,
        problem: str = "the setting is not possible",
        **parts: Any,
    ) -> None:
        """Raises the error, with these parts, unless a setting fits."""
        if not fits:
            raise cls(problem, field=field, found=found, expected=expected, **parts)

    def restated(
        self,
        path: str | PathLike[str] | None,
        field: str | None = None,
        kind: type[LstsrError] | None = None,
    ) -> LstsrError:
        """Returns the same error naming the file, and as another field or kind if given."""
        parts = {**self._parts(), "path": path} | ({"field": field} if field else {})
        return (kind or type(self))(self.problem, **parts)

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _PARTS}

    def _message(self) -> str:
        where = ": ".join(part for part in (self.path, self.field) if part)
        text = f"{where}: {self.problem}" if where else self.problem
        if self.found is not None:
            text += f"; found {self.found}"
        if self.expected is not None:
            text += f"; expected {self.expected}"
        return f"{text}. {self.action}" if self.action else f"{text}."

    def __reduce__(self) -> tuple[object, ...]:
        # Beam and multiprocessing pickle exceptions; keyword-only arguments need help with that.
        return partial(type(self), self.problem, **self._parts()), ()


class ProductError(LstsrError):
    """A raster that cannot be read, or is not the product it was taken for."""


class GridError(LstsrError):
    """Grids that do not fit each other, or an array whose shape does not fit its grid."""


class RecordsError(LstsrError):
    """A records folder or a patch that is missing, damaged or of another schema."""


class ConfigError(LstsrError):
    """Settings that are invalid, unknown or contradict each other."""


class ModelError(LstsrError):
    """A model, run folder or SavedModel that is missing, damaged or unfit for its input."""


class ServingError(LstsrError):
    """A prediction server that cannot be reached or refuses the request."""


class MissingExtraError(LstsrError):
    """An optional dependency that is not installed; the message names the extra."""


def printable(path: str | PathLike[str]) -> str:
    """Returns a path as text, with an escape for each byte of it that is not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def unknown(
    what: str, found: object, known: Iterable[object], *, field: str | None = None
) -> ConfigError:
    """Returns the error for a name that is not among those known; the message lists them."""
    names = ", ".join(map(str, known))
    return ConfigError(f"unknown {what}", field=field, found=repr(found), expected=names)


class OldLayoutWarning(FutureWarning):
    """A file as an older version wrote it, which the next release will no longer read."""
