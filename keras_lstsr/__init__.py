"""keras-lstsr: from 1 km MODIS land surface temperature to 250 m maps.

The public names are imported on first use, so that ``import keras_lstsr`` costs no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from keras_lstsr.registration import register_with_keras

__version__ = "0.1.0"

_ROOMS = {
    "config": ("ExperimentConfig",),
    "config.guides": ("Guide", "register_guide"),
    "config.losses": ("Loss", "register_loss"),
    "config.networks": ("Network", "register_network"),
    "errors": ("LstsrError",),
    "grids.consistency": ("enforce_consistency",),
    "grids.grid": ("Grid",),
    "inference.predictor": ("load_predictor",),
    "inference.scene": ("predict_scene",),
    "inference.tiles": ("TileSettings",),
    "losses.registry": ("build_loss",),
    "models.registry": ("build_model",),
    "products": ("FileProduct", "HdfProduct", "open_guide", "open_product", "register_product"),
    "sharpening": ("ConstantGuideError", "Sharpener", "register_method", "sharpen"),
    "training.fit": ("train",),
}
# What the documents use, and only that: tests/test_docs.py compares the two.
_EXPORTS: dict[str, str] = {}
for _room, _names in _ROOMS.items():
    _EXPORTS.update(dict.fromkeys(_names, _room))

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'keras_lstsr' has no attribute {name!r}")
    return getattr(importlib.import_module(f"keras_lstsr.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__


register_with_keras()
