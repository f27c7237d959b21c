"""Simulated scenes with known truth as a source of samples that needs no data.

The scenes are written as MOD11A1 and MOD09GQ granules and read like any others, so the benchmark
tries the whole way from file to score. The truth lies on the fine grid nested in LST, exactly in
its place. What such a benchmark can tell is bounded by what the simulation knows: it serves to
compare versions of a method and to find faults, and is no substitute for scores on real scenes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.grids.resample import block_mean, upsample_nearest
from keras_lstsr.products import guide_layer, lst_layers, open_product
from keras_lstsr.records.scene_sample import SceneSample
from keras_lstsr.simulate import DEFAULT_NOISE_KELVIN, SimulatedScene, simulate_scenes

DEFAULT_SCENES = 16
"""Two days at each of eight places, by day and by night: 32 samples."""

DEFAULT_SEED = 250
DEFAULT_SIZE_PIXELS = 64
DEFAULT_CLOUD_FRACTION = 0.1

DAY_NIGHT = ("day", "night")

# Land's NDVI is above zero; open water absorbs near-infrared more strongly than red light.
_WATER_NDVI = 0.0


def simulated_samples(
    *,
    scenes: int = DEFAULT_SCENES,
    seed: int = DEFAULT_SEED,
    size_pixels: int = DEFAULT_SIZE_PIXELS,
    cloud_fraction: float | None = DEFAULT_CLOUD_FRACTION,
    noise_kelvin: float = DEFAULT_NOISE_KELVIN,
    day_night: Collection[str] = DAY_NIGHT,
    mask_water: bool = True,
    min_clear_share: float = 0.1,
    progress: Callable[[SimulatedScene], None] | None = None,
) -> list[SceneSample]:
    """Simulates scenes and returns them as samples of LST, NDVI and true fine LST.

    Scenes go round eight places, so that from the ninth on a place comes up again on another day.
    All samples of a place share its ground and form one group.

    Open water has low NDVI and is cool by day, against the relation that land follows. As usual
    for sharpening by NDVI, 1 km pixels with water in them are therefore left out, unless
    ``mask_water`` is False.

    Args:
        scenes: Number of scenes, of one or two samples each.
        seed: Another seed is another ground; the same one gives the same samples.
        size_pixels: 1 km pixels along a side.
        cloud_fraction: Share of each overpass under cloud; None draws it between 0.05 and 0.45.
        noise_kelvin: Standard deviation of the noise of a good 1 km LST pixel.
        day_night: ``"day"``, ``"night"`` or both.
        mask_water: Leave out 1 km pixels in which any NDVI is below 0.
        min_clear_share: Samples with a smaller share of 1 km pixels that have LST and any NDVI are
            left out.
        progress: Called with each scene once it is simulated.

    Returns:
        Samples named ``h18v04_2019-07-10_day`` of the group ``h18v04``: LST float32 ``[n, n]`` and
        truth float32 ``[4n, 4n]`` in kelvin, NDVI float32 ``[4n, 4n]``; NaN under cloud (not in the
        truth), at sea and, with ``mask_water``, at water.

    Raises:
        ConfigError: If an argument is out of range.
        ProductError: If no sample has enough clear pixels.
    """
    unknown = set(day_night) - set(DAY_NIGHT)
    if unknown or not day_night:
        raise ConfigError(
            "unknown time of day",
            field="day_night",
            found=", ".join(sorted(unknown)) or "none",
            expected="day, night or both",
        )
    samples: list[SceneSample] = []
    with tempfile.TemporaryDirectory(prefix="keras-lstsr-simulated-") as folder:
        for scene in simulate_scenes(
            folder,
            scenes=scenes,
            seed=seed,
            size_pixels=size_pixels,
            noise_kelvin=noise_kelvin,
            cloud_fraction=cloud_fraction,
            progress=progress,
        ):
            samples += _samples_of_scene(scene, day_night, mask_water)
    clear = [sample for sample in samples if _clear_share(sample) >= min_clear_share]
    if not clear:
        raise ProductError(
            "no simulated scene is clear enough",
            field="min_clear_share",
            found=f"at most {max(map(_clear_share, samples)):.0%} of the pixels clear",
            expected=f"at least {min_clear_share:.0%}",
            action="Simulate more scenes, larger ones, or fewer clouds.",
        )
    return clear


def _samples_of_scene(
    scene: SimulatedScene, day_night: Collection[str], mask_water: bool
) -> list[SceneSample]:
    ndvi = guide_layer(open_product(scene.mod09gq), "ndvi")
    granule = open_product(scene.mod11a1)
    layers = lst_layers(granule)
    truths = {"day": scene.truth_day, "night": scene.truth_night}
    samples = []
    for half in (half for half in DAY_NIGHT if half in day_night):
        (truth,) = lst_layers(open_product(truths[half])).values()
        lst, guide = layers[half], ndvi
        if mask_water:
            lst, guide, truth = _without_water(lst, guide, truth)
        samples.append(
            SceneSample(
                name=f"{scene.tile}_{scene.date:%Y-%m-%d}_{half}",
                group=scene.tile,
                day_night=half,
                lst=lst,
                guides={"ndvi": guide},
                truth=truth,
                origin="degraded",
                product=granule.attrs["product"],
                tile=scene.tile,
                acquisition_date=f"{scene.date:%Y-%m-%d}",
            )
        )
    return samples


def _without_water(
    lst: xr.DataArray, ndvi: xr.DataArray, truth: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Empties the 1 km pixels that hold water in all three, so that none sees what others don't."""
    factor = ndvi.sizes["y"] // lst.sizes["y"]
    wet = block_mean((ndvi.values < _WATER_NDVI).astype(np.float32), factor)
    blocks, fine = wet > 0, upsample_nearest(wet, factor) > 0
    return _emptied(lst, blocks), _emptied(ndvi, fine), _emptied(truth, fine)


def _emptied(raster: xr.DataArray, where: NDArray[np.bool_]) -> xr.DataArray:
    return raster.copy(data=np.where(where, np.float32(np.nan), raster.values))


def _clear_share(sample: SceneSample) -> float:
    (guide,) = sample.guides.values()
    height, width = sample.lst.shape
    factor = guide.sizes["y"] // height
    guided = np.isfinite(guide.values).reshape(height, factor, width, factor).any(axis=(1, 3))
    return float(np.mean(guided & np.isfinite(sample.lst.values)))
