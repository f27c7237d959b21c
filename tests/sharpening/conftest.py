"""One real pair, and how sharpened LST agrees with its ASTER."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.registration import Shift, shifted
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.metrics.image import bias_free_rmse
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.scene_sample import SceneSample, cropped_to_guides, usable_truth


@pytest.fixture(scope="session")
def real_pair(lstsr_data: Path) -> SceneSample:
    """The first pair, NDVI nested in LST."""
    pair = find_pairs(lstsr_data / "modis_aster")[0].load()
    return cropped_to_guides(pair, 4)


@pytest.fixture(scope="session")
def real_error_kelvin(real_pair: SceneSample) -> Callable[[np.ndarray], float]:
    """Gives the standard deviation of the error of fine LST on ASTER's grid."""
    # ASTER lies one pixel up and left of where it says.
    truth = shifted(real_pair.truth.where(usable_truth(real_pair.truth)), Shift(-1, -1, 1.0))
    grid = Grid.of(real_pair.lst).finer(4)
    return lambda fine: bias_free_rmse(truth.values, warp_bilinear(grid.raster(fine), truth).values)
