"""Cutting scenes: what is kept, why the rest is rejected, and what a sample knows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.products import Rejection, lst_layers
from keras_lstsr.records.cutting import (
    CutSettings,
    CutTally,
    SceneContext,
    cut_patches,
    cut_whole,
    missing_reason,
    too_much_missing,
)
from keras_lstsr.records.places import SplitSettings, locate
from keras_lstsr.records.scene_sample import nested
from keras_lstsr.testing.rasters import modis_grid
from keras_lstsr.testing.samples import made_scene

ALL_TRAIN = SplitSettings((1.0, 0.0, 0.0))


def make_scene(codes: np.ndarray) -> xr.Dataset:
    """A MODIS day scene whose pixels are missing for the given reasons, as products makes it."""
    stored = 15000 + np.arange(codes.size).reshape(codes.shape) % 1000
    lst = (stored * 0.02).astype(np.float32)
    lst[codes != Rejection.VALID] = np.nan
    encoding = {"dtype": "uint16", "scale_factor": 0.02, "add_offset": 0.0, "_FillValue": 0}
    reasons = codes.astype(np.uint8)
    return modis_grid(codes.shape).dataset(
        {
            "lst_day_kelvin": xr.Variable(("y", "x"), lst, {"day_night": "day"}, encoding),
            "lst_day_kelvin_rejection": xr.Variable(("y", "x"), reasons),
        },
        {
            "product": "MOD11A1",
            "granule_id": "granule",
            "tile": "h18v04",
            "acquisition_date": "2020-06-01",
        },
    )


def make_ndvi(scene: xr.Dataset, values: np.ndarray, shift: int = 0) -> xr.DataArray:
    fine = Grid.of(scene["lst_day_kelvin"]).finer(4).shifted(shift, shift)
    rows, columns = values.shape
    return fine.window(slice(0, rows), slice(0, columns)).raster(
        values.astype(np.float32), name="ndvi"
    )


def cut(scene, cut_settings, read_ndvi=None):
    window = locate(Grid.of(scene["lst_day_kelvin"]), anchor=cut_settings.anchor)
    tally = CutTally()
    context = SceneContext("a" * 64, window, group="7")
    guides = {} if read_ndvi is None else {"ndvi": read_ndvi}
    return list(cut_patches(scene, lst_layers(scene), context, cut_settings, tally, guides)), tally


def test_a_clear_scene_gives_all_patches_and_they_know_their_ground():
    scene = make_scene(np.zeros((20, 24), int))
    patches, tally = cut(scene, CutSettings(patch_size=8, stride=8, split=ALL_TRAIN))
    assert [(p.row, p.column) for p in patches] == [(r, c) for r in (0, 8) for c in (0, 8, 16)]
    assert tally.accepted == tally.candidates == {"day": 6}
    lst = scene["lst_day_kelvin"].values
    for patch in patches:
        row, col = patch.row, patch.column
        np.testing.assert_array_equal(patch.lst_kelvin, lst[row : row + 8, col : col + 8])
        window = modis_grid((8, 8), row=row, column=col)
        assert patch.grid.transform @ (0, 0) == pytest.approx(window.transform @ (0, 0))
        assert patch.place == f"modis1200/h18v04/r{row // 8:03d}c{col // 8:03d}"
        assert patch.encodings["lst_kelvin"].scale_factor == 0.02
        assert patch.guides == {} and patch.truth_kelvin is None
        assert patch.grid.shape == (8, 8) and patch.group == "7"
        assert patch.scene == f"granule/{'a' * 16}/day"
        assert patch.name == f"{patch.scene}/r{row:05d}c{col:05d}"
    assert len({p.name for p in patches}) == 6


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    fraction=st.sampled_from([0.0, 0.05, 0.3, 0.9]),
    stride=st.sampled_from([4, 8, 12]),
)
def test_counts_are_those_of_a_brute_force_count(seed, fraction, stride):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet([5, 0.3, 0.3, 0.3, 0.3, 0.3])
    blocks = rng.choice(6, size=(5, 6), p=weights)
    codes = np.kron(blocks, np.ones((4, 4), int))
    codes[rng.random(codes.shape) < 0.02] = Rejection.CLOUD
    scene = make_scene(codes)
    patches, tally = cut(
        scene,
        CutSettings(patch_size=8, stride=stride, max_missing_fraction=fraction, split=ALL_TRAIN),
    )
    accepted, rejected = 0, Counter()
    order = ["cloud", "not_produced", "fill", "out_of_range", "quality"]
    for row in range(0, codes.shape[0] - 8 + 1, stride):
        for col in range(0, codes.shape[1] - 8 + 1, stride):
            found = codes[row : row + 8, col : col + 8].ravel().tolist()
            missing = sum(code != 0 for code in found)
            if missing <= fraction * 64 and missing < 64:
                accepted += 1
            else:
                names = {Rejection(code).name.lower() for code in found}
                rejected[next(name for name in order if name in names)] += 1
    assert len(patches) == tally.accepted["day"] == accepted
    assert tally.rejected["day"] == rejected
    assert tally.candidates["day"] == accepted + sum(rejected.values())


def test_an_all_cloud_scene_gives_nothing_and_does_not_fail():
    scene = make_scene(np.full((16, 16), int(Rejection.CLOUD)))
    patches, tally = cut(scene, CutSettings(patch_size=8, stride=8))
    assert patches == []
    assert tally.rejected == {"day": {"cloud": 4}}


def test_ndvi_comes_by_ground_and_its_gaps_reject_patches():
    scene = make_scene(np.zeros((16, 16), int))
    values = np.random.default_rng(0).random((64, 64))
    values[40, 50] = np.nan
    needs = CutSettings(patch_size=8, stride=8, guides=("ndvi",), split=ALL_TRAIN)
    # Cut off the first three fine rows and columns, and shift the transform accordingly.
    patches, tally = cut(scene, needs, lambda: make_ndvi(scene, values[3:, 3:], shift=3))
    assert tally.rejected["day"] == {"missing:ndvi": 4}
    patches, tally = cut(scene, needs, lambda: make_ndvi(scene, values))
    assert tally.rejected["day"] == {"missing:ndvi": 1}
    for patch in patches:
        row, col = 4 * patch.row, 4 * patch.column
        expected = values[row : row + 32, col : col + 32].astype(np.float32)
        np.testing.assert_array_equal(patch.guides["ndvi"], expected)
    with_gaps = CutSettings(
        patch_size=8, stride=8, guides=("ndvi",), max_missing_fraction=0.3, split=ALL_TRAIN
    )
    patches, tally = cut(scene, with_gaps, lambda: make_ndvi(scene, values[3:, 3:], shift=3))
    assert tally.accepted["day"] == 4
    assert (
        np.isnan(patches[0].guides["ndvi"][:3]).all()
        and np.isnan(patches[0].guides["ndvi"][:, :3]).all()
    )
    np.testing.assert_array_equal(
        patches[0].guides["ndvi"][3:, 3:], values[3:32, 3:32].astype(np.float32)
    )


def test_missing_partner_is_counted_after_clouds_and_ndvi_is_read_only_if_needed():
    codes = np.zeros((16, 16), int)
    codes[0, 0] = Rejection.CLOUD
    needs = CutSettings(patch_size=8, stride=8, guides=("ndvi",))
    patches, tally = cut(make_scene(codes), needs, None)
    assert patches == []
    assert tally.rejected["day"] == {"cloud": 1, "no_partner:ndvi": 3}

    def never():
        raise AssertionError("an all-cloud scene needs no NDVI")

    cut(make_scene(np.full((16, 16), int(Rejection.CLOUD))), needs, never)


def test_each_patch_counts_under_its_first_reason():
    codes = np.array([[0, 5], [3, 2]], np.uint8)
    assert missing_reason(codes) == "not_produced"
    codes[0, 0] = 1
    assert missing_reason(codes) == "cloud"


def test_missing_share_is_inclusive():
    values = np.ones((10, 10), np.float32)
    values[0, :5] = np.nan
    assert not too_much_missing(values, 0.05)
    assert too_much_missing(values, 0.049)
    assert too_much_missing(np.full((2, 2), np.nan), 0.99999)


@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": 0},
        {"patch_size": 66},
        {"stride": 0},
        {"max_missing_fraction": 1.0},
        {"max_missing_fraction": -0.1},
        {"anchor": "middle"},
    ],
)
def test_unusable_settings_are_errors(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        CutSettings(**options)


ANY = CutSettings(patch_size=8, guides=("ndvi", "water"), truth=True)


def whole(coarse_pixels, **changed):
    return nested(made_scene("there", coarse_pixels=coarse_pixels, **changed), 4)


def test_a_scene_with_truth_stays_whole_up_to_twice_the_patch_size():
    tally = CutTally()
    scene = whole(16)
    (sample,) = cut_whole(scene, ANY, tally)
    assert (sample.name, sample.grid) == ("there", scene.grid)
    np.testing.assert_array_equal(sample.guides["ndvi"], scene.guides["ndvi"])
    # A guide that it lacks is there, and empty.
    assert np.isnan(sample.guides["water"]).all()
    assert tally.accepted == tally.candidates == {"day": 1}


def test_a_larger_scene_is_cut_from_its_corner_and_nothing_is_lost():
    tally = CutTally()
    scene = whole(20)
    parts = list(cut_whole(scene, ANY, tally))
    assert [part.name for part in parts[:2]] == ["there/r00000c00000", "there/r00000c00008"]
    assert [part.grid.shape for part in parts[:3]] == [(8, 8), (8, 8), (8, 4)]
    assert tally.accepted == {"day": 9}
    lst, truth = np.full((20, 20), np.nan), np.full((80, 80), np.nan)
    for part in parts:
        row, column = part.grid.offset_in(scene.grid)
        assert (row, column) == (part.row, part.column)
        height, width = part.grid.shape
        lst[row : row + height, column : column + width] = part.lst_kelvin
        fine = np.s_[4 * row : 4 * (row + height), 4 * column : 4 * (column + width)]
        truth[fine] = part.truth_kelvin
    np.testing.assert_array_equal(lst, scene.lst_kelvin)
    np.testing.assert_array_equal(truth, scene.truth_kelvin)


def test_parts_with_nothing_to_learn_are_rejected():
    scene = whole(20)
    scene.lst_kelvin[:8] = np.nan
    scene.truth_kelvin[32:64, :32] = np.nan
    tally = CutTally()
    assert len(list(cut_whole(scene, ANY, tally))) == 5
    assert tally.rejected == {"day": {"missing:lst": 3, "missing:truth": 1}}
