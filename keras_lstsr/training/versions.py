"""The versions of the libraries that a model was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

import keras

from keras_lstsr import __version__


def library_versions() -> dict[str, str]:
    """Returns the versions of keras-lstsr, Python, Keras, its backend and NumPy."""
    libraries = {name: version(name) for name in ("keras", keras.config.backend(), "numpy")}
    return {"keras_lstsr": __version__, "python": platform.python_version(), **libraries}
