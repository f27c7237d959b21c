"""Classical sharpening of LST with guides; see docs/architecture.md."""

from keras_lstsr.sharpening.fallback import ConstantGuideError, SharpeningWarning
from keras_lstsr.sharpening.raster import METHODS, sharpen

__all__ = ["METHODS", "ConstantGuideError", "SharpeningWarning", "sharpen"]
