"""What MODIS delivers of the true surface: MOD11A1 and MOD09GQ fields as stored numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.grids.resample import block_mean, norm_l4
from keras_lstsr.simulate.climate import View
from keras_lstsr.simulate.clouds import CloudScene
from keras_lstsr.simulate.fields import Float32Array, RandomStreams
from keras_lstsr.simulate.landcover import Ground
from keras_lstsr.simulate.place import FINE_FACTOR
from keras_lstsr.simulate.surface import Surface

LST_SCALE_KELVIN = 0.02
"""Of MOD11A1, and of the truth's GeoTIFF: at the 0.1 K of ASTER's AST_08 the rounding of the
truth would be as large as the noise of a 1 km pixel."""

Layers = Mapping[str, NDArray[Any]]

# A 1 km pixel counts as cloudy from this cover on; thinner cover slips through the cloud mask.
_MASKED_COVER = 0.25
# Depths between the veil's limit and 0 (the cloud's edge) chill LST by up to this much.
_VEIL_DEPTH = -0.35
_VEIL_KELVIN = 0.9
_CLOUD_TOP_KELVIN_BELOW_GROUND = 18.0
# LST error classes 0 to 3 (<= 1, 2, 3 and > 3 K): noise beside that of a good pixel.
_NOISE_OF_CLASS = np.array([1.0, 1.6, 2.5, 4.0], dtype=np.float32)
# Reflectance noise: 0.0012 plus 0.4 % of the value.
_REFLECTANCE_NOISE = (0.0012, 0.004)
_REFLECTANCE_SCALE = 0.0001
_REFLECTANCE_FILL = -28672
_QC_ATMOSPHERICALLY_CORRECTED = 1 << 12
_QC_NOT_PROCESSED = (15 << 4) | (15 << 8)


def quantise_lst(lst_kelvin: Float32Array) -> NDArray[np.uint16]:
    """Turns LST in kelvin into multiples of 0.02 K; NaN becomes 0."""
    steps = np.rint(np.nan_to_num(lst_kelvin, nan=0.0) / np.float32(LST_SCALE_KELVIN))
    return steps.astype(np.uint16)


def _aggregate_lst(truth: NDArray[np.uint16]) -> Float32Array:
    """Kelvin at 1 km as radiance adds up; NaN where any of the sixteen pixels has no value."""
    # In strips: the fourth powers are float64, and a whole tile of them would be 180 MB each.
    strip = 64 * FINE_FACTOR
    parts = []
    for start in range(0, truth.shape[0], strip):
        stored = truth[start : start + strip]
        kelvin = (stored.astype(np.float64) * LST_SCALE_KELVIN).astype(np.float32)
        kelvin[stored == 0] = np.nan
        parts.append(norm_l4(kelvin, FINE_FACTOR))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Overpass:
    """One of the two observations of a day.

    Attributes:
        name: ``"Day"`` or ``"Night"``, as in the field names.
        truth: ``[4n, 4n]``, stored numbers of the true LST.
        clouds: Clouds at that hour.
        view: Geometry at that hour.
    """

    name: str
    truth: NDArray[np.uint16]
    clouds: CloudScene
    view: View


def observe_mod11a1(
    ground: Ground,
    surface: Surface,
    overpasses: tuple[Overpass, Overpass],
    streams: RandomStreams,
    noise_kelvin: float,
) -> dict[str, NDArray[Any]]:
    """Simulates the fields of MOD11A1 by day and night: name -> stored numbers ``[n, n]``.

    The noise is the standard deviation of good 1 km pixels.
    """
    urban = block_mean(ground.urban, FINE_FACTOR)
    ndvi = block_mean(surface.ndvi, FINE_FACTOR)
    water = block_mean(ground.terrain.water_fraction, FINE_FACTOR)
    # Emissivity is taken from the land cover: less sure in towns and on bare rock and soil.
    unsure = (urban > 0.25) | ((ndvi < 0.12) & (water < 0.1))
    layers: dict[str, NDArray[Any]] = {}
    produced_any = np.zeros(urban.shape, dtype=bool)
    for overpass in overpasses:
        layers |= _observe_lst(overpass, unsure, streams, noise_kelvin)
        produced_any |= layers[f"LST_{overpass.name}_1km"] > 0
    cover = np.clip((ndvi - 0.1) / 0.7, 0, 1)
    for field, bare, change in (("Emis_31", 0.972, 0.012), ("Emis_32", 0.977, 0.006)):
        emissivity = bare + change * cover - 0.006 * urban
        stored = np.rint((emissivity - 0.49) / 0.002).astype(np.uint8)
        layers[field] = np.where(produced_any, stored, 0).astype(np.uint8)
    return layers


def _observe_lst(
    overpass: Overpass, unsure: NDArray[np.bool_], streams: RandomStreams, noise_kelvin: float
) -> dict[str, NDArray[Any]]:
    clouds, view, name = overpass.clouds, overpass.view, overpass.name
    lst = _aggregate_lst(overpass.truth)
    elsewhere = np.isnan(lst)
    cloudy = (clouds.cover > _MASKED_COVER) & ~elsewhere
    lst, error_class = _contaminate(lst, clouds)
    generator = streams.generator(f"{name} noise")
    noise = generator.standard_normal(lst.shape, dtype=np.float32)
    lst += np.float32(noise_kelvin) * _NOISE_OF_CLASS[error_class] * noise
    produced = ~elsewhere & ~cloudy
    stored = np.where(produced, quantise_lst(lst), 0).astype(np.uint16)

    good = (error_class == 0) & ~unsure
    qc = np.where(good, 0, 1) | (unsure << 4) | (error_class << 6) | ((error_class == 3) << 2)
    qc = np.where(cloudy, 2, np.where(elsewhere, 3, qc)).astype(np.uint8)
    hours = np.rint(view.solar_hours / 0.1)
    angle = np.rint(view.zenith_degrees + 65.0)
    clear = np.rint((1 - clouds.cover) / 0.0005)
    return {
        f"LST_{name}_1km": stored,
        f"QC_{name}": qc,
        f"{name}_view_time": np.where(produced, np.clip(hours, 0, 240), 255).astype(np.uint8),
        f"{name}_view_angl": np.where(produced, np.clip(angle, 0, 130), 255).astype(np.uint8),
        f"Clear_{name.lower()}_cov": np.where(produced, clear, 0).astype(np.uint16),
    }


def _contaminate(lst: Float32Array, clouds: CloudScene) -> tuple[Float32Array, NDArray[np.int64]]:
    """Chills pixels with cloud in them and under the veil beside clouds; classes the error."""
    veil = np.clip(1 - clouds.coarse_depth / _VEIL_DEPTH, 0, 1)
    chill = _VEIL_KELVIN * veil
    cover = clouds.cover
    top = lst - _CLOUD_TOP_KELVIN_BELOW_GROUND
    mixed = ((1 - cover) * lst**4 + cover * top**4) ** 0.25 - chill
    error_class = np.digitize(chill + cover * _CLOUD_TOP_KELVIN_BELOW_GROUND, (1e-6, 2.0, 3.0))
    return np.where(error_class > 0, mixed, lst).astype(np.float32), error_class


def observe_mod09gq(
    ground: Ground,
    surface: Surface,
    clouds: CloudScene,
    view: View,
    streams: RandomStreams,
) -> dict[str, NDArray[Any]]:
    """Simulates the fields of MOD09GQ in the morning: name -> stored numbers ``[4n, 4n]``.

    Reflectances at sea and under cloud are fill values, as where NASA has not produced them;
    beside clouds they are brightened and flagged as less than ideal.
    """
    cloudy, sea = clouds.cloudy, ground.terrain.sea
    veil = np.clip(1 - clouds.depth / np.float32(_VEIL_DEPTH), 0, 1)
    missing = cloudy | sea
    generator = streams.generator("reflectance noise")
    layers: dict[str, NDArray[Any]] = {}
    for field, sign in (("sur_refl_b01_1", -1), ("sur_refl_b02_1", 1)):
        reflectance = surface.brightness * (1 + sign * surface.ndvi) * np.float32(0.5)
        reflectance += np.float32(0.03) * veil
        spread = np.float32(_REFLECTANCE_NOISE[0]) + np.float32(_REFLECTANCE_NOISE[1]) * reflectance
        reflectance += spread * generator.standard_normal(reflectance.shape, dtype=np.float32)
        stored = np.clip(np.rint(reflectance / np.float32(_REFLECTANCE_SCALE)), -100, 16000)
        layers[field] = np.where(missing, _REFLECTANCE_FILL, stored).astype(np.int16)
    qc = np.where(veil > 0, 1, 0) | _QC_ATMOSPHERICALLY_CORRECTED
    qc = np.where(cloudy, 2 | _QC_NOT_PROCESSED, qc)
    layers["QC_250m_1"] = np.where(sea, 3 | _QC_NOT_PROCESSED, qc).astype(np.uint16)
    # Pixels seen at an angle share their footprint with their neighbours.
    coverage = np.rint(100 * np.cos(np.radians(view.zenith_degrees))).astype(np.int8)
    layers["obscov_1"] = coverage.repeat(FINE_FACTOR, axis=0).repeat(FINE_FACTOR, axis=1)
    shape, one = surface.ndvi.shape, np.int8(1)
    layers["num_observations"] = np.full(shape, one)
    layers["iobs_res_1"] = np.full(shape, np.uint8(1))
    layers["orbit_pnt_1"] = np.full(shape, np.int8(0))
    layers["granule_pnt_1"] = np.full(shape, np.uint8(0))
    return layers
