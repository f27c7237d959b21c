"""keras-lstsr: from 1 km MODIS land surface temperature to 250 m maps.

The public names are imported on first use, so that ``import keras_lstsr`` costs no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "open_product": "keras_lstsr.products",
    "build_model": "keras_lstsr.models",
    "ExperimentConfig": "keras_lstsr.config",
    "load_predictor": "keras_lstsr.inference.loading",
    "predict_scene": "keras_lstsr.inference.scene",
    "sharpen": "keras_lstsr.sharpening",
    "LstsrError": "keras_lstsr.errors",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'keras_lstsr' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
