"""Float64 on every backend."""

from __future__ import annotations

import keras

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)
