"""Land cover: forest, field parcels, rangeland and towns, on the ground of a tile."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.simulate.fields import (
    Float32Array,
    RandomStreams,
    power_law_field,
    sigmoid,
    uniform_hash,
)
from keras_lstsr.simulate.place import FINE_FACTOR, PIXEL_SIZE_M
from keras_lstsr.simulate.terrain import FINE_PIXEL_M, Terrain, make_terrain, refine

_TREE_LINE_KM = 1.9
_REGIONS = 5
# Villages and towns per 1000 km² of land, and the radius of the largest town on a whole tile.
_TOWNS_PER_1000_KM2 = 3.0
_LARGEST_TOWN_M = 11_000.0
_TILE_AREA_KM2 = 1_236_000.0


class Crop(IntEnum):
    """What grows on a parcel."""

    NONE = 0
    WINTER_CEREAL = 1
    SUMMER_CROP = 2
    FALLOW = 3
    MEADOW = 4


@dataclass(frozen=True)
class Ground:
    """What does not change from day to day, on the 250 m grid, ``[N, N]`` each.

    Attributes:
        terrain: Relief and water.
        forest: Share of the pixel under trees.
        crop: :class:`Crop` of each parcel, as uint8; NONE off the fields.
        vigour: How well a parcel grows, 0 to 1; one number per parcel.
        greenness: How green rangeland gets, 0 (desert) to 1 (lush).
        urban: Share of the pixel that is built over.
        texture: Unresolved differences of soil and moisture, mean 0, standard deviation 1.
    """

    terrain: Terrain
    forest: Float32Array
    crop: NDArray[np.uint8]
    vigour: Float32Array
    greenness: Float32Array
    urban: Float32Array
    texture: Float32Array


def make_ground(streams: RandomStreams, pixels: int) -> Ground:
    """Builds the ground of a tile; the same streams and size give the same ground."""
    terrain = make_terrain(streams, pixels)
    texture = power_law_field(
        streams.generator("texture"), pixels * 4, exponent=3.0, outer_scale_pixels=120
    )
    urban = _towns(streams.generator("towns"), terrain, texture)
    forest, greenness = _vegetation(streams, terrain, pixels)
    forest *= 1 - urban
    crop, vigour = _parcels(streams, terrain, forest, urban, pixels)
    return Ground(terrain, forest, crop, vigour, greenness, urban, texture)


def _vegetation(
    streams: RandomStreams, terrain: Terrain, pixels: int
) -> tuple[Float32Array, Float32Array]:
    climate = power_law_field(streams.generator("climate"), pixels, 3.6, 500)
    stands = power_law_field(
        streams.generator("forest"), pixels * 4, exponent=3.3, outer_scale_pixels=160
    )
    wetness = refine(climate, "bilinear")
    favour = stands + 0.5 * wetness + 0.6 * terrain.ruggedness - 0.55
    # Clearings have edges, and above the tree line the wood thins out within 200 m.
    forest = sigmoid(5.0 * favour)
    forest *= sigmoid((_TREE_LINE_KM - terrain.elevation_km) / 0.08)
    greenness = sigmoid(0.9 * wetness + 0.45 * stands + 1.2 * terrain.valley - 0.5)
    greenness *= sigmoid((_TREE_LINE_KM + 0.6 - terrain.elevation_km) / 0.25)
    return forest, greenness


def _towns(generator: np.random.Generator, terrain: Terrain, texture: Float32Array) -> Float32Array:
    """Draws towns with Zipf's sizes along rivers on low and level ground."""
    fine = texture.shape[0]
    urban = np.zeros_like(texture)
    coarse = (slice(2, None, 4), slice(2, None, 4))
    land = ~terrain.sea[coarse]
    suits = land * np.exp(-terrain.elevation_km[coarse] / 0.4) * (0.05 + terrain.valley[coarse])
    suits = suits * (1 - terrain.ruggedness[coarse]) ** 2
    area_km2 = land.sum() * (PIXEL_SIZE_M / 1000) ** 2
    number = round(float(_TOWNS_PER_1000_KM2 * area_km2 / 1000))
    number = min(number, int(np.count_nonzero(suits)))
    if not number:
        return urban
    chance = (suits / suits.sum()).ravel().astype(np.float64)
    chance /= chance.sum()
    places = generator.choice(suits.size, size=number, replace=False, p=chance)
    largest = _LARGEST_TOWN_M * (area_km2 / _TILE_AREA_KM2) ** 0.25
    radii = np.maximum(largest * np.arange(1, number + 1) ** -0.45, 250.0) / FINE_PIXEL_M
    for place, radius in zip(places, radii, strict=True):
        row, column = np.divmod(place, suits.shape[1])
        centre = (4 * row + 2, 4 * column + 2)
        reach = int(np.ceil(2.2 * radius)) + 1
        top, left = max(centre[0] - reach, 0), max(centre[1] - reach, 0)
        bottom, right = min(centre[0] + reach, fine), min(centre[1] + reach, fine)
        window = (slice(top, bottom), slice(left, right))
        rows = np.arange(top, bottom, dtype=np.float32)[:, None] - centre[0]
        columns = np.arange(left, right, dtype=np.float32)[None, :] - centre[1]
        distance = np.hypot(rows, columns) / radius
        built = sigmoid(5.0 * (1.0 - distance + 0.35 * texture[window])) * np.exp(-0.3 * distance)
        np.maximum(urban[window], built, out=urban[window])
    urban *= 1 - terrain.water_fraction
    urban[terrain.sea] = 0
    return np.where(urban > 0.08, urban, 0).astype(np.float32)


def _parcels(
    streams: RandomStreams,
    terrain: Terrain,
    forest: Float32Array,
    urban: Float32Array,
    pixels: int,
) -> tuple[NDArray[np.uint8], Float32Array]:
    """Divides arable land into parcels; each region has its own bearing and parcel size."""
    generator = streams.generator("parcels")
    zones = power_law_field(streams.generator("parcel regions"), pixels, 3.2, 150)
    region = refine(zones, "bilinear")
    limits = np.quantile(zones, np.arange(1, _REGIONS) / _REGIONS)
    region_number = np.digitize(region, limits).astype(np.uint8)
    bend = refine(power_law_field(streams.generator("parcel bends"), pixels, 3.6, 30))
    bearings = generator.uniform(0, np.pi / 2, _REGIONS).astype(np.float32)
    sizes_m = generator.uniform(2000, 5000, _REGIONS).astype(np.float32)
    aspects = generator.uniform(0.6, 1.0, _REGIONS).astype(np.float32)

    metres = (np.arange(pixels * 4, dtype=np.float32) + 0.5) * np.float32(FINE_PIXEL_M)
    cosine, sine = np.cos(bearings)[region_number], np.sin(bearings)[region_number]
    size = sizes_m[region_number]
    along = (metres[None, :] * cosine + metres[:, None] * sine) / size + 0.35 * bend
    across = metres[:, None] * cosine - metres[None, :] * sine
    across /= size * aspects[region_number]
    across += 0.35 * bend[::-1, ::-1]
    del cosine, sine, size
    identity = _split_blocks(along, across, region_number)
    crop, vigour = _crops(identity, along, across, generator)
    del identity, along, across, bend

    soil = power_law_field(streams.generator("arable"), pixels, 3.0, 90)
    arable = refine(soil, "bilinear") + 0.8 * terrain.valley - 3.0 * terrain.ruggedness > -0.6
    # A parcel edge is sharp at 250 m; woods, towns and water take their share of it.
    arable &= (forest < 0.5) & (urban < 0.5) & (terrain.water_fraction < 0.5) & ~terrain.sea
    arable &= terrain.elevation_km < 1.2
    crop[~arable] = Crop.NONE
    return crop, vigour


def _split_blocks(
    along: Float32Array, across: Float32Array, region: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """Numbers the parcels: each block of the pattern stays whole or falls into 2, 4 or 6."""
    column = np.floor(along).astype(np.int32)
    row = np.floor(across).astype(np.int32)
    choice = uniform_hash(column, row, region)
    pieces_along = np.where(choice < 0.45, 1, np.where(choice < 0.8, 2, 3)).astype(np.int32)
    pieces_across = np.where((choice * 7.0) % 1.0 < 0.5, 1, 2).astype(np.int32)
    column = column * 6 + np.floor((along - column) * pieces_along).astype(np.int32)
    row = row * 6 + np.floor((across - row) * pieces_across).astype(np.int32)
    return column, row, region


def _crops(
    identity: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]],
    along: Float32Array,
    across: Float32Array,
    generator: np.random.Generator,
) -> tuple[NDArray[np.uint8], Float32Array]:
    salt = int(generator.integers(1, 2**31))
    draw = uniform_hash(*identity, salt)
    vigour = uniform_hash(*identity, salt + 1)
    limits = np.array([0.34, 0.68, 0.80], dtype=np.float32)
    crop = (np.digitize(draw, limits) + Crop.WINTER_CEREAL).astype(np.uint8)
    # In one region irrigation pivots draw circles: what lies outside them is fallow.
    pivots = identity[2] == int(generator.integers(0, _REGIONS))
    radius = np.hypot(along - np.floor(along) - 0.5, across - np.floor(across) - 0.5)
    crop[pivots & (radius > 0.47)] = Crop.FALLOW
    return crop, vigour


def relative_height(elevation_km: Float32Array, scale_m: float = 3000.0) -> Float32Array:
    """Height above the mean of the surroundings, in km: below zero in valleys."""
    coarse = block_mean(elevation_km, FINE_FACTOR)
    smooth = ndimage.gaussian_filter(coarse, scale_m / PIXEL_SIZE_M, truncate=3.0)
    return elevation_km - refine(smooth, "bilinear")
