"""One real pair on nested grids."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_lstsr.grids.registration import Shift
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.scene_sample import nested


@pytest.fixture(scope="session")
def real_sample(lstsr_data: Path) -> Sample:
    """The first pair, its ASTER one pixel up and left of where it says it is."""
    return nested(find_pairs(lstsr_data / "modis_aster")[0].load(), 4, Shift(-1, -1, 1.0))
