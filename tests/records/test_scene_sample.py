"""Scenes come onto nested grids: LST cropped to its guides, the truth in its place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.registration import Shift
from keras_lstsr.records.sample import Encoding
from keras_lstsr.records.scene_sample import (
    cropped_to_guides,
    eroded,
    extent_of,
    nested,
    shift_of_scene,
)
from keras_lstsr.testing.rasters import utm_raster
from keras_lstsr.testing.samples import made_scene


def test_crop_leaves_what_the_guide_covers_whole():
    scene = made_scene(coarse_pixels=12)
    # A guide that begins 3 fine rows lower and ends 5 fine columns earlier.
    ndvi = scene.guides["ndvi"].values
    guide = utm_raster(ndvi[3:, :-5], row=3, name="ndvi")
    guide.values[20, 20] = np.nan
    cropped = cropped_to_guides(replace(scene, guides={"ndvi": guide}), 4)
    np.testing.assert_array_equal(cropped.lst.values, scene.lst.values[1:, :10])
    expected = ndvi[4:, :40].copy()
    expected[19, 20] = np.nan
    np.testing.assert_array_equal(cropped.guides["ndvi"].values, expected)
    corner = Grid.of(cropped.lst).transform @ (0, 0)
    assert corner == (400_000.0, 4_999_000.0) == Grid.of(cropped.guides["ndvi"]).transform @ (0, 0)
    assert cropped.lst.y.values[0] == 4_998_500.0
    assert cropped.load() is cropped


def test_two_guides_crop_to_the_ground_of_both():
    scene = made_scene(coarse_pixels=12)
    ndvi = scene.guides["ndvi"]
    guides = {"ndvi": ndvi.isel(y=slice(4, None)), "elevation": ndvi.isel(x=slice(None, -4))}
    cropped = cropped_to_guides(replace(scene, guides=guides), 4)
    np.testing.assert_array_equal(cropped.lst.values, scene.lst.values[1:, :11])
    for name in guides:
        np.testing.assert_array_equal(cropped.guides[name].values, ndvi.values[4:, :44])
    for guides in ({}, {"water": ndvi.isel(x=slice(None, -4))}):
        whole = cropped_to_guides(replace(scene, guides=guides), 4)
        np.testing.assert_array_equal(whole.lst.values, scene.lst.values)
    assert np.isnan(whole.guides["water"].values[:, -4:]).all()


def test_rasters_may_lie_any_way_round():
    made = made_scene(off=(2, 1))
    turned = replace(
        made,
        lst=made.lst.sortby("y"),
        guides={"ndvi": made.guides["ndvi"].transpose("x", "y")},
        truth=made.truth.sortby("x", ascending=False).rename(y="northing", x="easting"),
    )
    right, got = (nested(scene, 4, Shift(-2.0, -1.0, 1.0)) for scene in (made, turned))
    assert got.grid == right.grid
    np.testing.assert_array_equal(got.lst_kelvin, right.lst_kelvin)
    np.testing.assert_array_equal(got.guides["ndvi"], right.guides["ndvi"])
    np.testing.assert_array_equal(got.truth_kelvin, right.truth_kelvin)
    shifts = [shift_of_scene(cropped_to_guides(scene, 4), 4) for scene in (made, turned)]
    assert shifts[0] == shifts[1]


def test_guide_elsewhere_is_an_error():
    scene = made_scene(coarse_pixels=8)
    guide = utm_raster(scene.guides["ndvi"].values, row=900, name="ndvi")
    with pytest.raises(ProductError, match=r"ndvi.*covers no pixel"):
        cropped_to_guides(replace(scene, guides={"ndvi": guide}), 4)


def exact(scene):
    return 320 - 25 * scene.guides["ndvi"].values


def test_a_known_shift_is_undone_exactly():
    made = made_scene(off=(2, 1))
    sample = nested(made, 4, Shift(-2.0, -1.0, 1.0))
    valid = np.isfinite(sample.truth_kelvin)
    # The truth reaches 5 pixels beyond the guide and is eroded by 6.
    assert 0.85 < sample.valid_share == valid.mean() < 1
    np.testing.assert_allclose(sample.truth_kelvin[valid], exact(made)[valid], atol=2e-3)
    assert (sample.lst_kelvin.dtype, sample.truth_kelvin.dtype) == (np.float32, np.float32)
    assert sample.fine_grid == Grid.of(made.guides["ndvi"])


def test_cold_truth_and_its_surroundings_are_left_out():
    made = made_scene(coarse_pixels=20)
    made.truth.values[45, 45] = 250.0
    truth = nested(made, 4).truth_kelvin
    # 5 pixels of the truth's margin, and 6 steps of the four neighbours.
    assert np.isnan(truth[40, 34:47]).all()
    assert np.isnan(truth[34:47, 40]).all()
    assert np.isfinite(truth[44, 44]) and np.isfinite(truth[40, 33])


def test_a_clearly_finer_truth_is_averaged():
    made = made_scene(coarse_pixels=20)
    rng = np.random.default_rng(0)
    finer = 300 + rng.normal(0, 5, (4 * 80, 4 * 80))
    sample = nested(replace(made, truth=utm_raster(finer, 62.5, name="lst_kelvin")), 4)
    valid = np.isfinite(sample.truth_kelvin)
    # 6 of its own pixels are eroded all round.
    assert valid[2:-2, 2:-2].all() and not valid[0].any()
    means = finer.reshape(80, 4, 80, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(sample.truth_kelvin[valid], means[valid], atol=1e-3)


def test_a_truth_that_lst_was_made_of_is_taken_as_it_is():
    made = replace(made_scene(coarse_pixels=8), origin="degraded")
    sample = nested(made, 4)
    np.testing.assert_array_equal(sample.truth_kelvin, made.truth.values[5:-5, 5:-5])
    assert (sample.valid_share, sample.origin) == (1, "degraded")


def test_a_sample_knows_what_its_scene_knew():
    made = made_scene("there", coarse_pixels=8)
    made.guides["ndvi"].encoding |= {"dtype": "int16", "scale_factor": 0.0001, "_FillValue": -9}
    made = replace(made, tile="h18v04", acquisition_date="2020-06-01", product="MOD11A1")
    sample = nested(replace(made, truth=None), 4)
    assert (sample.name, sample.scene, sample.day_night) == ("there", "there", "day")
    assert (sample.product, sample.tile, sample.acquisition_date) == (
        "MOD11A1",
        "h18v04",
        "2020-06-01",
    )
    assert sample.encodings["ndvi"] == Encoding("int16", 0.0001, 0.0, -9.0)
    assert sample.encodings["lst_kelvin"] == Encoding()
    assert sample.truth_kelvin is None and sample.valid_share == 0


def test_erosion_is_by_the_four_neighbours():
    usable = np.ones((9, 9), bool)
    usable[4, 4] = False
    distance = np.add.outer(np.abs(np.arange(-4, 5)), np.abs(np.arange(-4, 5)))
    expected = distance > 2
    expected[[0, 1, -1, -2]] = expected[:, [0, 1, -1, -2]] = False
    np.testing.assert_array_equal(eroded(usable, 2), expected)
    assert eroded(usable, 0) is usable


def test_extent_with_margin():
    marked = np.zeros((20, 30), bool)
    marked[4:6, 25] = True
    assert extent_of(marked) == (slice(4, 6), slice(25, 26))
    assert extent_of(marked, 5) == (slice(0, 11), slice(20, 30))
