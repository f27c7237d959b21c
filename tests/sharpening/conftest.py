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


@pytest.fixture(scope="session")
def block_means() -> Callable[[np.ndarray], np.ndarray]:
    """Gives means over 4 × 4 pixels; NaN pixels are left out, a block of NaN is NaN."""

    def means(fine):
        height, width = (side // 4 for side in fine.shape)
        blocks = fine.reshape(height, 4, width, 4).swapaxes(1, 2).reshape(height, width, -1)
        counts = (~np.isnan(blocks)).sum(axis=-1)
        total = np.nansum(blocks, axis=-1)
        return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

    return means


@pytest.fixture(scope="session")
def linear_scene(block_means) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Makes coarse LST, up to three guides in which it is linear, and the fine LST of both."""

    def make(guides=1, shape=(10, 12), seed=0):
        rng = np.random.default_rng(seed)
        guide = rng.uniform(0.1, 0.9, (guides, 4 * shape[0], 4 * shape[1]))
        fine = 305.0 + np.tensordot(np.array([-8.0, 5.0, 3.0])[:guides], guide, axes=1)
        return block_means(fine), guide, fine

    return make


@pytest.fixture(scope="session")
def noisy_scene_with_gaps(linear_scene) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Makes coarse LST and guides that explain a part of it, with shares of each missing."""

    def make(seed, lst_gaps, guide_gaps, guides=1, shape=(10, 12)):
        rng = np.random.default_rng(seed)
        lst, guide, _ = linear_scene(guides, shape, seed)
        lst = lst + rng.normal(0, 1, shape)
        lst[rng.uniform(size=shape) < lst_gaps] = np.nan
        guide[0][rng.uniform(size=guide.shape[1:]) < guide_gaps] = np.nan
        return lst, guide

    return make


@pytest.fixture(scope="session")
def expected_gaps() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Says where LST ``[h, w]`` or one of the guides is missing, on the fine grid."""

    def gaps(lst, guide):
        return np.isnan(np.repeat(np.repeat(lst, 4, 0), 4, 1)) | np.isnan(guide).any(axis=0)

    return gaps


@pytest.fixture(scope="session")
def noise_with_gaps() -> Callable[..., np.ndarray]:
    """Makes white noise of 2 K, such as a residual, NaN on a share of its pixels."""

    def make(seed, gaps, shape=(8, 9)):
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 2, shape)
        values[rng.uniform(size=shape) < gaps] = np.nan
        return values

    return make
