"""Scenes made so that TsHARP is right to the last digit, and what must come out is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.scene_sample import SceneSample
from keras_lstsr.testing.rasters import FINE_PIXEL_M, utm_grid, utm_raster, write_geotiff

# The truth reaches so many fine pixels beyond LST.
_MARGIN_PIXELS = 5


def texture(size: int, seed: int) -> NDArray[np.float64]:
    """Returns texture ``[size, size]`` of all scales with values between 0 and 1."""
    rng = np.random.default_rng(seed)
    field = np.zeros((size, size))
    for scale in (0.7, 1.5, 4.0, 10.0):
        noise = rng.normal(size=(size, size))
        field += scale * ndimage.gaussian_filter(noise, scale, mode="wrap")
    return np.clip(0.5 + 0.15 * (field - field.mean()) / field.std(), 0.02, 0.98)


def made_scene(
    name: str = "000",
    *,
    group: str = "0",
    seed: int = 0,
    coarse_pixels: int = 20,
    off: tuple[int, int] = (0, 0),
    noise_kelvin: float = 0.0,
) -> SceneSample:
    """Makes a scene whose LST is 320 K − 25 K · NDVI exactly, on both grids.

    Args:
        name: Its name.
        group: Its group.
        seed: Of the texture.
        coarse_pixels: LST pixels of 1 km along a side.
        off: By how many fine rows and columns down and right of its place the truth says to lie.
        noise_kelvin: Standard deviation of the noise that is added to the truth, which reaches 5
            fine pixels beyond LST on each side.
    """
    margin, size = _MARGIN_PIXELS, 4 * coarse_pixels
    ndvi = texture(size + 2 * margin, seed)
    truth = 320 - 25 * ndvi
    inner = slice(margin, margin + size)
    noise = noise_kelvin * np.random.default_rng(seed + 99).normal(size=truth.shape)
    return SceneSample(
        name,
        group,
        day_night="day",
        lst=utm_raster(block_mean(truth[inner, inner], 4), 4 * FINE_PIXEL_M, name="lst_kelvin"),
        guides={"ndvi": utm_raster(ndvi[inner, inner], name="ndvi")},
        truth=utm_raster(
            truth + noise, row=off[0] - margin, column=off[1] - margin, name="lst_kelvin"
        ),
    )


def moved(scene: SceneSample, *, rows: int) -> SceneSample:
    """Returns a scene on ground so many LST pixels further south."""
    assert scene.truth is not None

    def south(raster: xr.DataArray, by: int) -> xr.DataArray:
        return Grid.of(raster).shifted(by, 0).raster(raster.values, name=raster.name)

    return replace(
        scene,
        lst=south(scene.lst, rows),
        guides={name: south(guide, 4 * rows) for name, guide in scene.guides.items()},
        truth=south(scene.truth, 4 * rows),
    )


def made_track(count: int) -> list[SceneSample]:
    """Makes scenes of one group that follow each other to the south and overlap by half."""
    scenes = (made_scene(str(number), seed=number) for number in range(count))
    return [moved(scene, rows=10 * number) for number, scene in enumerate(scenes)]


def write_pair(folder: Path, scene: SceneSample) -> None:
    """Writes a scene as a pair, under the names that ``records.pairs.find_pairs`` looks for."""
    assert scene.truth is not None
    parts = {"lst_1km": scene.lst, "aster_lst_250m": scene.truth}
    parts |= {f"{name}_250m": guide for name, guide in scene.guides.items()}
    for role, part in parts.items():
        part.rio.write_nodata(np.nan).rio.to_raster(folder / f"{scene.name}_{role}.tif")


def write_pairs(folder: Path, count: int = 4) -> Path:
    """Writes pairs in groups of two, truths one pixel down and right of where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_pair(folder, made_scene(f"{number:03d}", seed=number, off=(1, 1), noise_kelvin=0.3))
    groups = "".join(f"{number:03d},{number // 2}\n" for number in range(count))
    (folder / "pairs.csv").write_text("id,overlap_group\n" + groups)
    return folder


def place_lst(date: int, size: int = 48, seed: int = 0) -> NDArray[np.float64]:
    """Returns LST of a date in kelvin: the ground's texture, stronger and warmer each date."""
    return 290 + date + (10 + date) * texture(size, seed)


def write_places(folder: Path) -> Path:
    """Writes two places of 48 × 48 fine pixels of 250 m, each of 3 × 3 stored pixels.

    ``coast`` has two days, a morning, a night and a night under clouds, and NDVI of a median;
    ``river`` lies on a part of the same ground, with one day and classes of land cover.
    """
    stored = 3

    def write(
        name: str, values: NDArray[np.float64], kind: str, scale: float, column: int = 0
    ) -> None:
        grid = utm_grid(values.shape, FINE_PIXEL_M, column=column).finer(stored)
        counts = np.round(values / scale).astype(kind)
        fine = np.repeat(np.repeat(counts, stored, axis=0), stored, axis=1)
        nodata = {"uint16": 0, "int16": -32768, "uint8": 255}[kind]
        units = "K" if "_lst_" in name else ""
        write_geotiff(folder / name, fine, grid, scale=scale, units=units, nodata=nodata)

    dates = ["20230601_day", "2023170201530_day", "20230620_morning", "20230602_night"]
    for date, stem in enumerate(dates):
        write(f"coast/{stem}_lst_83m.tif", place_lst(date), "uint16", 0.01)
    cloudy = place_lst(4)
    cloudy[20:24, 20:24] -= 60
    write("coast/20230603_night_lst_83m.tif", cloudy, "uint16", 0.01)
    write("coast/median_day_ndvi_83m.tif", 0.7 - 0.8 * texture(48, 0), "int16", 1e-4)
    write("river/unknown-warm_day_lst_83m.tif", place_lst(0, 32, 1), "uint16", 0.01, 40)
    water = np.where(texture(32, 1) < 0.4, 1, 2)
    write("river/land_cover_83m.tif", water, "uint8", 1, 40)
    return folder
