"""A pytest plugin (``-p tests.without_tensorflow``): TensorFlow cannot be imported."""

from __future__ import annotations

import sys

sys.modules["tensorflow"] = None  # type: ignore[assignment]
