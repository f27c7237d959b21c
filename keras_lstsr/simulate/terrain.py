"""Terrain and water: relief, sea, valleys, rivers and lakes of a tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.resample import phase_weights
from keras_lstsr.simulate.drainage import Drainage, route_flow
from keras_lstsr.simulate.fields import Float32Array, RandomStreams, power_law_field, sigmoid
from keras_lstsr.simulate.place import FINE_FACTOR, PIXEL_SIZE_M

FINE_PIXEL_M = PIXEL_SIZE_M / FINE_FACTOR

# Of all land, about this share lies under lakes; other hollows are filled with sediment.
_LAKE_SHARE = 0.008
# Width of a river in metres per square root of its basin in km²; a basin below the limit has
# only brooks.
_RIVER_WIDTH_M = 2.5
_RIVER_MINIMUM_KM2 = 40.0
_RIVER_MAXIMUM_M = 900.0


@dataclass(frozen=True)
class Terrain:
    """Relief and water on the 250 m grid, ``[N, N]`` each.

    Attributes:
        elevation_km: Height above the sea; 0 at sea.
        sea: True at sea.
        water_fraction: Share of the pixel under rivers and lakes; 0 at sea.
        ruggedness: 0 on plains to 1 in high mountains, smooth.
        valley: Closeness to a river, 0 to 1, smooth.
    """

    elevation_km: Float32Array
    sea: NDArray[np.bool_]
    water_fraction: Float32Array
    ruggedness: Float32Array
    valley: Float32Array


def refine(values: NDArray[np.floating], method: str = "bicubic") -> Float32Array:
    """Interpolates a 1 km layer to the 250 m grid; borders are clamped.

    The same interpolation as :mod:`keras_lstsr.grids.resample`, but in float32 throughout and
    for layers without gaps: a tile has many layers to refine. ``"bicubic"`` is for those whose
    slopes matter, ``"bilinear"`` for masks and weights.
    """
    weights = phase_weights(FINE_FACTOR, method).astype(np.float32)
    result = np.asarray(values, dtype=np.float32)
    for axis in (0, 1):
        padding = [(2, 2) if a == axis else (0, 0) for a in range(2)]
        padded = np.pad(result, padding, mode="edge")
        length = result.shape[axis]
        shape = [s * FINE_FACTOR if a == axis else s for a, s in enumerate(result.shape)]
        result = np.empty(shape, dtype=np.float32)
        for phase, row in enumerate(weights):
            taps = [
                weight * padded[_along(axis, slice(tap, tap + length))]
                for tap, weight in enumerate(row)
                if weight != 0
            ]
            result[_along(axis, slice(phase, None, FINE_FACTOR))] = sum(taps)
    return result


def _along(axis: int, part: slice) -> tuple[slice, slice]:
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def make_terrain(streams: RandomStreams, pixels: int) -> Terrain:
    """Builds the relief of a tile of 1 km pixels and lets the water run."""
    coarse_elevation, coarse_sea_level, ruggedness = _coarse_relief(streams, pixels)
    drainage = route_flow(coarse_elevation, _outlets(coarse_elevation, coarse_sea_level))
    hollow = (drainage.filled - coarse_elevation).astype(np.float32)
    valley = _valleys(drainage)
    elevation = drainage.filled.astype(np.float32)
    # Rivers cut deepest where there is most to cut, and never below the sea.
    cut = np.minimum(valley * (0.02 + 0.45 * ruggedness), 0.6 * np.maximum(elevation, 0))
    fine = refine(elevation - cut)
    ruggedness_fine = np.clip(refine(ruggedness, "bilinear"), 0, 1)
    detail = power_law_field(
        streams.generator("fine relief"), fine.shape[0], exponent=3.8, outer_scale_pixels=160
    )
    fine += detail * (0.006 + 0.075 * ruggedness_fine)
    sea = refine(coarse_sea_level) + np.float32(0.03) * detail < 0
    water = _lakes(hollow, detail)
    water = np.maximum(water, _rivers(streams.generator("rivers"), drainage, fine.shape[0]))
    water[sea] = 0
    np.maximum(fine, np.float32(0.001), out=fine)
    fine[sea] = 0
    valley_fine = np.clip(refine(valley, "bilinear"), 0, 1)
    return Terrain(fine, sea, water, ruggedness_fine, valley_fine)


def _coarse_relief(
    streams: RandomStreams, pixels: int
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Elevation in km, height of the continent above the shore (sea < 0) and ruggedness."""
    continent = power_law_field(streams.generator("continent"), pixels, 3.8, 600)
    sea_share = streams.generator("sea share").uniform(0.03, 0.18)
    above_shore = continent - np.float32(np.quantile(continent, sea_share))
    belts = power_law_field(streams.generator("mountain belts"), pixels, 3.8, 250)
    inland = np.clip(above_shore / 0.7, 0, 1)
    ruggedness = sigmoid(3.5 * (belts - 0.45)) * inland
    ridges = power_law_field(streams.generator("ridges"), pixels, 3.2, 45)
    rolling = power_law_field(streams.generator("rolling"), pixels, 3.0, 60)
    # 1 - |x| has sharp crests where x crosses zero, and rounded basins between.
    crests = 1.0 - np.abs(ridges)
    elevation = (
        0.16 * above_shore
        + 0.045 * rolling * (0.3 + inland)
        + ruggedness * (0.75 + 0.55 * crests + 0.15 * rolling)
    )
    elevation = np.where(above_shore < 0, np.minimum(0.16 * above_shore, -0.001), elevation)
    return elevation.astype(np.float32), above_shore, ruggedness


def _outlets(elevation: Float32Array, above_shore: Float32Array) -> NDArray[np.bool_]:
    outlets = above_shore < 0
    border = np.zeros_like(outlets)
    border[[0, -1], :] = border[:, [0, -1]] = True
    # Only low ground on the border lets water out, so that basins grow large.
    outlets |= border & (elevation < np.quantile(elevation[border], 0.35))
    return outlets


def _valleys(drainage: Drainage) -> Float32Array:
    strength = np.log10(np.maximum(drainage.upstream_cells / 12.0, 1.0)).astype(np.float32)
    narrow = ndimage.gaussian_filter(strength, 1.0)
    wide = ndimage.gaussian_filter(strength, 3.0)
    return np.clip(0.45 * narrow + 0.9 * wide, 0, 1)


def _lakes(hollow: Float32Array, detail: Float32Array) -> Float32Array:
    depth = float(np.quantile(hollow, 1 - _LAKE_SHARE))
    if depth <= 0:
        return np.zeros_like(detail)
    # Shores are sharper than a pixel but follow the fine relief.
    level = refine(hollow / depth) - 1.0 + 0.12 * detail
    return np.clip(0.5 + 4.0 * level, 0, 1)


def _rivers(generator: np.random.Generator, drainage: Drainage, fine_pixels: int) -> Float32Array:
    """Share of each 250 m pixel that lies under a river."""
    height, width = drainage.upstream_cells.shape
    basin_km2 = drainage.upstream_cells.ravel() * (PIXEL_SIZE_M / 1000) ** 2
    cells = np.flatnonzero((basin_km2 >= _RIVER_MINIMUM_KM2) & (drainage.receiver >= 0))
    covered: NDArray[np.float64] = np.zeros(fine_pixels * fine_pixels)
    if cells.size:
        rows, columns = np.divmod(np.arange(height * width), width)
        bend = generator.uniform(-0.38, 0.38, size=(2, height * width))
        y, x = rows + 0.5 + bend[0], columns + 0.5 + bend[1]
        # Half-way to the receiver: corners of the grid become curves.
        receiver = np.where(drainage.receiver >= 0, drainage.receiver, np.arange(height * width))
        y_path, x_path = 0.5 * (y + y[receiver]), 0.5 * (x + x[receiver])
        target = receiver[cells]
        dy, dx = y_path[target] - y_path[cells], x_path[target] - x_path[cells]
        length = np.hypot(dy, dx)
        width_m = np.minimum(_RIVER_WIDTH_M * np.sqrt(basin_km2[cells]), _RIVER_MAXIMUM_M)
        steps, lanes = 16, 7
        along = (np.arange(steps) + 0.5) / steps
        across = ((np.arange(lanes) + 0.5) / lanes - 0.5)[:, None, None]
        shift = across * (width_m / PIXEL_SIZE_M)[:, None] / np.maximum(length, 1e-6)[:, None]
        y_samples = y_path[cells][:, None] + dy[:, None] * along - shift * dx[:, None]
        x_samples = x_path[cells][:, None] + dx[:, None] * along + shift * dy[:, None]
        area = length * PIXEL_SIZE_M * width_m / (steps * lanes * FINE_PIXEL_M**2)
        weights = np.broadcast_to(area[:, None], y_samples.shape)
        row = np.clip((y_samples * FINE_FACTOR).astype(np.int64), 0, fine_pixels - 1)
        column = np.clip((x_samples * FINE_FACTOR).astype(np.int64), 0, fine_pixels - 1)
        pixel = (row * fine_pixels + column).ravel()
        covered += np.bincount(pixel, weights.ravel(), minlength=covered.size)
    return np.clip(covered, 0, 1).astype(np.float32).reshape(fine_pixels, fine_pixels)
