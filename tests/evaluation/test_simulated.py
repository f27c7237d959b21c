from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.evaluation.simulated import simulated_samples
from keras_lstsr.grids.resample import norm_l4
from keras_lstsr.metrics import image
from keras_lstsr.records.scene_sample import SceneSample
from keras_lstsr.sharpening.linear import tsharp
from keras_lstsr.sharpening.regression import upsampled_residual


def scenes_of(**settings) -> list[SceneSample]:
    return [source.load() for source in simulated_samples(**settings)]


def layers(sample: SceneSample) -> dict:
    return {"lst": sample.lst, "truth": sample.truth, **sample.guides}


@pytest.fixture(scope="module")
def samples() -> list[SceneSample]:
    """The default benchmark."""
    return scenes_of()


def values(sample: SceneSample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sample.lst.values, sample.guides["ndvi"].values, sample.truth.values


def test_two_days_at_each_of_eight_places_by_day_and_night(samples):
    assert len(samples) == 32
    assert len({sample.name for sample in samples}) == 32
    groups = [sample.group for sample in samples]
    assert {groups.count(group) for group in groups} == {4}
    assert samples[0].name == "h18v04_2019-07-10_day"
    assert samples[0].group == "h18v04"
    for sample in samples:
        assert sample.name.startswith(sample.group)
        assert sample.lst.attrs["day_night"] == sample.truth.attrs["day_night"]


def test_all_is_in_memory_on_nested_grids(samples):
    for sample in samples:
        assert sample.lst.shape == (64, 64)
        assert sample.guides["ndvi"].shape == sample.truth.shape == (256, 256)
        assert {
            str(raster.dtype) for raster in (sample.lst, sample.guides["ndvi"], sample.truth)
        } == {"float32"}
        coarse, fine = sample.lst.rio.transform(), sample.truth.rio.transform()
        assert (fine.c, fine.f) == pytest.approx((coarse.c, coarse.f), abs=1e-3)
        assert fine.a * 4 == pytest.approx(coarse.a)
        assert sample.guides["ndvi"].rio.transform().almost_equals(fine, precision=1e-3)
        assert sample.lst.rio.crs == sample.guides["ndvi"].rio.crs == sample.truth.rio.crs


def test_lst_is_what_the_truth_aggregates_to(samples):
    for sample in samples:
        lst, _, truth = values(sample)
        difference = lst - norm_l4(truth, 4)
        difference = difference[np.isfinite(difference)]
        # Noise of 0.12 K, more in poorer classes and under thin clouds; a shift would be kelvins.
        assert np.median(np.abs(difference)) < 0.2
        assert abs(np.median(difference)) < 0.05


def test_water_is_left_out_of_all_three(samples):
    for sample in samples:
        assert np.nanmin(sample.guides["ndvi"].values) >= 0
    kept = scenes_of(scenes=1, size_pixels=32, mask_water=False)
    masked = scenes_of(scenes=1, size_pixels=32)
    for before, after in zip(kept, masked, strict=True):
        water = before.guides["ndvi"].values < 0
        assert water.any()
        blocks = water.reshape(32, 4, 32, 4).any(axis=(1, 3))
        fine = np.kron(blocks, np.ones((4, 4))).astype(bool)
        for name, gone in (("lst", blocks), ("ndvi", fine), ("truth", fine)):
            old, new = layers(before)[name], layers(after)[name]
            assert np.isnan(new.values[gone]).all()
            np.testing.assert_array_equal(new.values[~gone], old.values[~gone])
            assert new.rio.transform() == old.rio.transform()


def test_ndvi_tells_of_lst_by_day_more_than_by_night(samples):
    correlations: dict[str, list[float]] = {"day": [], "night": []}
    for sample in samples:
        _, guide, truth = values(sample)
        correlations[sample.lst.attrs["day_night"]].append(image.correlation(truth, guide))
    assert -0.85 < np.mean(correlations["day"]) < -0.6
    assert -0.45 < np.mean(correlations["night"]) < -0.1


def test_sharpening_by_ndvi_beats_bicubic_by_day(samples):
    gains = []
    for sample in samples:
        if sample.lst.attrs["day_night"] == "night":
            continue
        lst, guide, truth = values(sample)
        sharpened = tsharp(lst, guide, 4)
        bicubic = upsampled_residual(lst, 4, "bicubic")
        scored = np.where(np.isfinite(sharpened), truth, np.nan)
        errors = [image.bias_free_rmse(scored, result) for result in (bicubic, sharpened)]
        gains.append(1 - errors[1] / errors[0])
    assert np.mean(gains) > 0.03
    assert np.mean(np.array(gains) > 0) > 0.7


def test_the_seed_decides():
    settings = {"scenes": 1, "size_pixels": 16, "day_night": ["day"], "min_clear_share": 0.0}
    first, again, other = (scenes_of(seed=seed, **settings) for seed in (3, 3, 4))
    assert [sample.name for sample in first] == [sample.name for sample in again]
    for name, layer in layers(first[0]).items():
        np.testing.assert_array_equal(layer, layers(again[0])[name])
        assert not np.array_equal(layer, layers(other[0])[name])


def test_one_half_of_the_day_and_progress():
    seen: list[str] = []
    night = scenes_of(
        scenes=2,
        size_pixels=16,
        cloud_fraction=0.0,
        day_night=["night"],
        progress=lambda scene: seen.append(scene.tile),
    )
    assert {sample.lst.attrs["day_night"] for sample in night} == {"night"}
    assert seen == ["h18v04", "h11v05"]


def test_scenes_without_clear_pixels_are_refused():
    with pytest.raises(ProductError, match="clear enough"):
        scenes_of(scenes=1, size_pixels=16, cloud_fraction=1.0)


@pytest.mark.parametrize("day_night", [[], ["noon", "day"]])
def test_unknown_times_of_day_are_refused(day_night):
    with pytest.raises(ConfigError, match="time of day"):
        scenes_of(day_night=day_night)


def test_bad_sizes_are_refused():
    with pytest.raises(ConfigError, match="size_pixels"):
        scenes_of(size_pixels=8)
