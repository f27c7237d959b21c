"""Hides TensorFlow: from here on it is as if it were not installed.

Run a script with it, ``python tests/without_tensorflow.py SCRIPT …``, or give it to pytest:
``-p tests.without_tensorflow``.
"""

from __future__ import annotations

import runpy
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_HIDDEN = {"tensorflow", "tensorflow_serving"}
_find_spec = PathFinder.find_spec


def _find_other_spec(name: str, *arguments: Any, **keywords: Any) -> ModuleSpec | None:
    return None if name in _HIDDEN else _find_spec(name, *arguments, **keywords)


if _HIDDEN & sys.modules.keys():
    raise RuntimeError("too late: TensorFlow has been imported")
PathFinder.find_spec = staticmethod(_find_other_spec)  # type: ignore[method-assign, assignment]

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
