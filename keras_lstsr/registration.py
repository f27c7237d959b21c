"""What is registered: our layers with Keras, and a user's names in our tables.

Our layers register themselves with Keras when ``keras_lstsr.models`` is imported, and then
``keras.saving.load_model`` reads our files. Importing it with ``keras_lstsr`` would cost every user
Keras and its backend; so it is imported right after Keras is, whoever imports it. A hook of the
standard library does it: wrapt's takes 0.15 s to import. Our files hold models that are not
compiled, and so no losses.

Tables of names (networks, losses, methods, products, guides) stand with their settings; here is how
an entry is added, how code is found by its place, and how installed extensions are loaded.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

from keras_lstsr.errors import ConfigError, LstsrError

_REGISTERING = "keras_lstsr.models"
EXTENSIONS = "keras_lstsr"
"""The group of entry points by which an installed package names the module that registers."""

Code = Callable[..., Any] | str
"""A function or class, or ``"package.module:name"``, which is imported when it is wanted."""

_Entry = TypeVar("_Entry")


def register_with_keras() -> None:
    """Imports what registers the layers: at once if Keras is there, else after it."""
    if "keras" in sys.modules:
        importlib.import_module(_REGISTERING)
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(MetaPathFinder):
    """Finds Keras where the other finders do, and adds our imports to the end of its own."""

    _searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras" or self._searching:
            return None
        self._searching = True
        try:
            spec = find_spec(name)
        finally:
            self._searching = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            importlib.import_module(_REGISTERING)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


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
    from importlib.metadata import entry_points  # slower than all of this package to import

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
                action=f"Repair {point.value}, or uninstall it.",
            ) from error
