"""Weights of the reference networks in the reference's own names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden_state_dict(reference_networks: ModuleType) -> Callable[[Path], dict[str, np.ndarray]]:
    """A function that makes the golden outputs' weights from the list beside them."""

    def make(architecture_json: Path) -> dict[str, np.ndarray]:
        listing = json.loads(architecture_json.read_text())
        weights = {}
        for listed in listing["entries"]:
            parts = listed["name"], tuple(listed["shape"]), listed["module"], listed["dead"]
            entry = reference_networks.Entry(*parts)
            value = reference_networks.procedural(entry, listing["conv_weight_scale"])
            if "first" in listed:
                assert value.ravel()[0] == np.float32(listed["first"])
            weights[entry.name] = value
        return weights

    return make
