"""Makes Keras know our layers, so that ``keras.saving.load_model`` reads our files.

They register themselves with Keras when ``keras_lstsr.models`` is imported. Importing it with
``keras_lstsr`` would cost every user Keras and its backend; so it is imported right after Keras
is, whoever imports it. A hook of the standard library does it: wrapt's takes 0.15 s to import.
Our files hold models that are not compiled, and so no losses.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_REGISTERING = "keras_lstsr.models"


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
