"""Weights of the reference networks: procedural values and where they go in the Keras models."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

# PyTorch's index in a Sequential -> part of the Keras layer's name.
_DOUBLE_CONV = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}
_BRIDGE = {"1": "conv1", "2": "norm1", "5": "conv2", "6": "norm2"}
_OUT_CONV = {"0": "conv", "1": "norm"}
_RULES: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"inc\.double_conv\.(\d)", lambda m: f"inc_{_DOUBLE_CONV[m[1]]}"),
    (r"(down\d)\.in_conv", lambda m: f"{m[1]}_in_conv"),
    (r"(down\d)\.mid_conv\.double_conv\.(\d)", lambda m: f"{m[1]}_mid_{_DOUBLE_CONV[m[2]]}"),
    (r"(down\d)\.out_conv\.(\d)", lambda m: f"{m[1]}_out_{_OUT_CONV[m[2]]}"),
    (r"(down\d)\.maxpool_conv\.1\.double_conv\.(\d)", lambda m: f"{m[1]}_{_DOUBLE_CONV[m[2]]}"),
    (r"resblocks\.(\d)\.conv_block\.(\d)", lambda m: f"bridge{int(m[1]) + 1}_{_BRIDGE[m[2]]}"),
    (r"(up\d)\.up", lambda m: f"{m[1]}_up"),
    (r"(up\d)\.conv\.double_conv\.(\d)", lambda m: f"{m[1]}_{_DOUBLE_CONV[m[2]]}"),
    (r"outc\.conv", lambda m: "outc"),
]
_VARIABLES = {
    "Conv2d": {"weight": "kernel", "bias": "bias"},
    "ConvTranspose2d": {"weight": "kernel", "bias": "bias"},
    "BatchNorm2d": {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
}


def _keras_layer(block: str) -> str:
    for pattern, name in _RULES:
        match = re.fullmatch(pattern, block)
        if match:
            return name(match)
    raise AssertionError(f"no Keras layer for {block}")


def _procedural(entry: dict[str, object]) -> np.ndarray:
    name, shape = str(entry["name"]), tuple(entry["shape"])  # type: ignore[arg-type]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        fan = (shape[0] if entry["module"] == "ConvTranspose2d" else shape[1]) * shape[2] * shape[3]
        value = rng.standard_normal(shape) * np.sqrt(2 / fan)
    elif name.endswith(("running_mean", "bias")):
        value = 0.1 * rng.standard_normal(shape)
    else:
        value = rng.uniform(0.5, 1.5, shape)
    return value.astype(np.float32)


@pytest.fixture(scope="session")
def load_procedural_weights() -> Callable[[keras.Model, Path], None]:
    """A function that gives a core network the golden outputs' weights, each of them once."""

    def load(model: keras.Model, architecture_json: Path) -> None:
        given = set()
        for entry in json.loads(architecture_json.read_text())["entries"]:
            block, part = entry["name"].rsplit(".", 1)
            if entry["dead"] or part == "num_batches_tracked":
                continue
            value = _procedural(entry)
            assert value.ravel()[0] == np.float32(entry["first"])
            variable = getattr(
                model.get_layer(_keras_layer(block)), _VARIABLES[entry["module"]][part]
            )
            variable.assign(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
            given.add(variable.path)
        assert given == {variable.path for variable in model.variables}

    return load
