"""Weights of the reference networks in the reference's own names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models.reference_networks import Entry, Weights, procedural


@pytest.fixture(scope="session")
def golden_state_dict() -> Callable[[Path], Weights]:
    """A function that makes the golden outputs' weights from the list beside them."""

    def make(architecture_json: Path) -> Weights:
        listing = json.loads(architecture_json.read_text())
        weights = {}
        for listed in listing["entries"]:
            entry = Entry(listed["name"], tuple(listed["shape"]), listed["module"], listed["dead"])
            value = procedural(entry, listing["conv_weight_scale"])
            if "first" in listed:
                assert value.ravel()[0] == np.float32(listed["first"])
            weights[entry.name] = value
        return weights

    return make
