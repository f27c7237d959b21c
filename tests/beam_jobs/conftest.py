"""Small rasters for the job to work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine


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
        return _write(tmp_path / folder / name, values, Affine(1000, 0, left, 0, -1000, top), 0.02)

    return write


@pytest.fixture
def write_ndvi(tmp_path) -> Callable[..., Path]:
    """Writes an NDVI GeoTIFF of int16 × 0.0001 on the fine grid of ``write_lst``."""

    def write(
        name: str, *, size: int = 160, left: float = 5e5, top: float = 5e6, seed: int = 0
    ) -> Path:
        rng = np.random.default_rng(seed)
        values = rng.integers(-2000, 10000, (size, size)).astype(np.int16)
        transform = Affine(250, 0, left, 0, -250, top)
        return _write(tmp_path / "ndvi" / name, values, transform, 0.0001)

    return write


def _write(path: Path, values: np.ndarray, transform: Affine, scale: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs="EPSG:32633",
        transform=transform,
        nodata=0 if values.dtype == np.uint16 else -32768,
    ) as dataset:
        dataset.write(values, 1)
        dataset.scales = (scale,)
    return path
