"""Small rasters for the job to work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from keras_lstsr.grids.grid import Grid
from keras_lstsr.testing.rasters import UTM, write_geotiff


@pytest.fixture
def write_lst(tmp_path) -> Callable[..., Path]:
    """Writes an LST GeoTIFF of uint16 × 0.02 K in UTM, 0 where ``gaps`` says so."""

    def write(
        name: str,
        *,
        size: int = 40,
        left: float = 5e5,
        top: float = 5e6,
        seed: int = 0,
        gaps: tuple = (),
        folder: str = "lst",
    ) -> Path:
        rng = np.random.default_rng(seed)
        values = rng.integers(14000, 16000, (size, size)).astype(np.uint16)
        for window in gaps:
            values[window] = 0
        grid = Grid(UTM, Affine(1000, 0, left, 0, -1000, top), values.shape)
        return write_geotiff(tmp_path / folder / name, values, grid, scale=0.02, nodata=0)

    return write


@pytest.fixture
def write_ndvi(tmp_path) -> Callable[..., Path]:
    """Writes an NDVI GeoTIFF of int16 × 0.0001 on the fine grid of ``write_lst``."""

    def write(name: str, *, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        values = rng.integers(-2000, 10000, (160, 160)).astype(np.int16)
        grid = Grid(UTM, Affine(250, 0, 5e5, 0, -250, 5e6), values.shape)
        path = tmp_path / "ndvi" / name
        return write_geotiff(path, values, grid, scale=0.0001, nodata=-32768)

    return write
