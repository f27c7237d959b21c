from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.grids.resample import norm_l4
from keras_lstsr.metrics import image
from keras_lstsr.pairs.files import Pair
from keras_lstsr.pairs.simulated import simulated_pairs
from keras_lstsr.sharpening.residual import upsampled_residual
from keras_lstsr.sharpening.tsharp import tsharp


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """The default benchmark."""
    return simulated_pairs()


def values(pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return pair.lst.values, pair.guide.values, pair.truth.values


def test_two_days_at_each_of_eight_places_by_day_and_night(pairs):
    assert len(pairs) == 32
    assert len({pair.name for pair in pairs}) == 32
    groups = [pair.group for pair in pairs]
    assert {groups.count(group) for group in groups} == {4}
    assert pairs[0].name == "h18v04_2019-07-10_day"
    assert pairs[0].group == "h18v04"
    for pair in pairs:
        assert pair.name.startswith(pair.group)
        assert pair.lst.attrs["day_night"] == pair.truth.attrs["day_night"]


def test_all_is_in_memory_on_nested_grids(pairs):
    for pair in pairs:
        assert pair.lst.shape == (64, 64)
        assert pair.guide.shape == pair.truth.shape == (256, 256)
        assert {str(raster.dtype) for raster in (pair.lst, pair.guide, pair.truth)} == {"float32"}
        coarse, fine = pair.lst.rio.transform(), pair.truth.rio.transform()
        assert (fine.c, fine.f) == pytest.approx((coarse.c, coarse.f), abs=1e-3)
        assert fine.a * 4 == pytest.approx(coarse.a)
        assert pair.guide.rio.transform().almost_equals(fine, precision=1e-3)
        assert pair.lst.rio.crs == pair.guide.rio.crs == pair.truth.rio.crs


def test_lst_is_what_the_truth_aggregates_to(pairs):
    for pair in pairs:
        lst, _, truth = values(pair)
        difference = lst - norm_l4(truth, 4)
        difference = difference[np.isfinite(difference)]
        # Noise of 0.12 K, more in poorer classes and under thin clouds; a shift would be kelvins.
        assert np.median(np.abs(difference)) < 0.2
        assert abs(np.median(difference)) < 0.05


def test_water_is_left_out_of_all_three(pairs):
    for pair in pairs:
        assert np.nanmin(pair.guide.values) >= 0
    kept = simulated_pairs(scenes=1, size_pixels=32, mask_water=False)
    masked = simulated_pairs(scenes=1, size_pixels=32)
    for before, after in zip(kept, masked, strict=True):
        water = before.guide.values < 0
        assert water.any()
        blocks = water.reshape(32, 4, 32, 4).any(axis=(1, 3))
        fine = np.kron(blocks, np.ones((4, 4))).astype(bool)
        for name, gone in (("lst", blocks), ("guide", fine), ("truth", fine)):
            old, new = getattr(before, name), getattr(after, name)
            assert np.isnan(new.values[gone]).all()
            np.testing.assert_array_equal(new.values[~gone], old.values[~gone])
            assert new.rio.transform() == old.rio.transform()


def test_ndvi_tells_of_lst_by_day_more_than_by_night(pairs):
    correlations: dict[str, list[float]] = {"day": [], "night": []}
    for pair in pairs:
        _, guide, truth = values(pair)
        correlations[pair.lst.attrs["day_night"]].append(image.correlation(truth, guide))
    assert -0.85 < np.mean(correlations["day"]) < -0.6
    assert -0.45 < np.mean(correlations["night"]) < -0.1


def test_sharpening_by_ndvi_beats_bicubic_by_day(pairs):
    gains = []
    for pair in pairs:
        if pair.lst.attrs["day_night"] == "night":
            continue
        lst, guide, truth = values(pair)
        sharpened = tsharp(lst, guide, 4)
        bicubic = upsampled_residual(lst, 4, "bicubic")
        scored = np.where(np.isfinite(sharpened), truth, np.nan)
        errors = [image.bias_free_rmse(scored, result) for result in (bicubic, sharpened)]
        gains.append(1 - errors[1] / errors[0])
    assert np.mean(gains) > 0.03
    assert np.mean(np.array(gains) > 0) > 0.7


def test_the_seed_decides():
    settings = {"scenes": 1, "size_pixels": 16, "day_night": ["day"], "min_clear_share": 0.0}
    first, again, other = (simulated_pairs(seed=seed, **settings) for seed in (3, 3, 4))
    assert [pair.name for pair in first] == [pair.name for pair in again]
    for name in ("lst", "guide", "truth"):
        np.testing.assert_array_equal(getattr(first[0], name), getattr(again[0], name))
        assert not np.array_equal(getattr(first[0], name), getattr(other[0], name))


def test_one_half_of_the_day_and_progress():
    seen: list[str] = []
    night = simulated_pairs(
        scenes=2,
        size_pixels=16,
        cloud_fraction=0.0,
        day_night=["night"],
        progress=lambda scene: seen.append(scene.tile),
    )
    assert {pair.lst.attrs["day_night"] for pair in night} == {"night"}
    assert seen == ["h18v04", "h11v05"]


def test_scenes_without_clear_pixels_are_refused():
    with pytest.raises(ProductError, match="clear enough"):
        simulated_pairs(scenes=1, size_pixels=16, cloud_fraction=1.0)


@pytest.mark.parametrize("day_night", [[], ["noon", "day"]])
def test_unknown_times_of_day_are_refused(day_night):
    with pytest.raises(ConfigError, match="time of day"):
        simulated_pairs(day_night=day_night)


def test_bad_sizes_are_refused():
    with pytest.raises(ConfigError, match="size_pixels"):
        simulated_pairs(size_pixels=8)
