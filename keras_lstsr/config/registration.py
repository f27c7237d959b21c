"""How names are added to the tables of networks, losses, methods, products and guides."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, MutableMapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from keras_lstsr.errors import ConfigError, LstsrError

EXTENSIONS = "keras_lstsr"
"""The group of entry points by which an installed package names the module that registers."""

Code = Callable[..., Any] | str
"""A function or class, or ``"package.module:name"``, which is imported when it is wanted."""

_Entry = TypeVar("_Entry")


def register(
    table: MutableMapping[str, _Entry], name: str, entry: _Entry, *, field: str, replace: bool
) -> None:
    """Adds an entry to a table.

    Args:
        table: Name → entry.
        name: The new name.
        entry: What it stands for.
        field: What the name is in the settings or the call, for errors.
        replace: Whether an entry of that name may be replaced.

    Raises:
        ConfigError: If the name is taken.
    """
    if not replace and name in table:
        raise ConfigError(
            "this name is taken", field=field, found=repr(name), action="Choose another name."
        )
    table[name] = entry


def code_of(code: Code) -> Callable[..., Any]:
    """Returns the function or class, imported if only its place is given."""
    return pkgutil.resolve_name(code) if isinstance(code, str) else code


@cache
def load_extensions() -> None:
    """Imports the modules that installed packages name as entry points of ``EXTENSIONS``.

    The command line and the jobs do this before anything else.

    Raises:
        ConfigError: If one cannot be imported.
    """
    for point in entry_points(group=EXTENSIONS):
        try:
            point.load()
        except LstsrError:
            raise
        except Exception as error:
            raise ConfigError(
                "an installed extension cannot be imported",
                field=point.name,
                found=f"{type(error).__name__}: {error}",
                action=f"Mend {point.value}, or uninstall it.",
            ) from error
