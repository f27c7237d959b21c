"""Classical sharpening of LST with guides; see docs/architecture.md."""

from keras_lstsr.sharpening.fallback import ConstantGuideError, SharpeningWarning
from keras_lstsr.sharpening.raster import METHODS, Sharpener, register_method, sharpen

__all__ = [
    "METHODS",
    "ConstantGuideError",
    "Sharpener",
    "SharpeningWarning",
    "register_method",
    "sharpen",
]
