"""Cutting scenes: what is kept, why the rest is rejected, and what a patch knows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, modis_sinusoidal_crs
from keras_lstsr.products import Rejection, lst_layers
from keras_lstsr.records.patches import (
    CutSettings,
    CutTally,
    SceneContext,
    cut_patches,
    missing_reason,
    too_much_missing,
)
from keras_lstsr.records.places import SplitSettings, locate

PIXEL = MODIS_TILE_SIZE_M / 1200
TRANSFORM = Affine(PIXEL, 0, 0, 0, -PIXEL, 5 * MODIS_TILE_SIZE_M)
ALL_TRAIN = SplitSettings((1.0, 0.0, 0.0))


def make_scene(codes: np.ndarray) -> xr.Dataset:
    """A MODIS day scene whose pixels are missing for the given reasons, as products makes it."""
    height, width = codes.shape
    stored = 15000 + np.arange(codes.size).reshape(codes.shape) % 1000
    lst = (stored * 0.02).astype(np.float32)
    lst[codes != Rejection.VALID] = np.nan
    scene = xr.Dataset(
        {
            "lst_day_kelvin": (("y", "x"), lst, {"day_night": "day"}),
            "lst_day_kelvin_rejection": (("y", "x"), codes.astype(np.uint8)),
        },
        coords={
            "y": TRANSFORM.f + TRANSFORM.e * (np.arange(height) + 0.5),
            "x": TRANSFORM.c + TRANSFORM.a * (np.arange(width) + 0.5),
        },
        attrs={
            "product": "MOD11A1",
            "granule_id": "granule",
            "tile": "h18v04",
            "acquisition_date": "2020-06-01",
        },
    )
    scene["lst_day_kelvin"].encoding = {
        "dtype": "uint16",
        "scale_factor": 0.02,
        "add_offset": 0.0,
        "_FillValue": 0,
    }
    return scene.rio.write_crs(modis_sinusoidal_crs()).rio.write_transform(TRANSFORM)


def make_ndvi(scene: xr.Dataset, values: np.ndarray, shift: int = 0) -> xr.DataArray:
    fine = Grid.of(scene["lst_day_kelvin"]).finer(4).transform @ Affine.translation(shift, shift)
    return (
        xr.DataArray(
            values.astype(np.float32),
            dims=("y", "x"),
            coords={
                "y": fine.f + fine.e * (np.arange(values.shape[0]) + 0.5),
                "x": fine.c + fine.a * (np.arange(values.shape[1]) + 0.5),
            },
            name="ndvi",
        )
        .rio.write_crs(modis_sinusoidal_crs())
        .rio.write_transform(fine)
    )


def cut(scene, cut_settings, read_ndvi=None):
    transform = tuple(scene.rio.transform())[:6]
    window = locate(
        scene.rio.crs.to_wkt(),
        transform,
        scene.sizes["y"],
        scene.sizes["x"],
        anchor=cut_settings.anchor,
    )
    tally = CutTally()
    context = SceneContext("a" * 64, window)
    patches = list(cut_patches(scene, lst_layers(scene), context, cut_settings, tally, read_ndvi))
    return patches, tally


def test_a_clear_scene_gives_all_patches_and_they_know_their_ground():
    scene = make_scene(np.zeros((20, 24), int))
    patches, tally = cut(scene, CutSettings(patch_size=8, stride=8, split=ALL_TRAIN))
    assert [(p.key.row, p.key.col) for p in patches] == [(r, c) for r in (0, 8) for c in (0, 8, 16)]
    assert tally.accepted == tally.candidates == {"day": 6}
    lst = scene["lst_day_kelvin"].values
    for patch in patches:
        row, col = patch.key.row, patch.key.col
        np.testing.assert_array_equal(patch.lst_kelvin, lst[row : row + 8, col : col + 8])
        assert Affine(*patch.transform) @ (0, 0) == pytest.approx(TRANSFORM @ (col, row))
        assert patch.place == f"modis1200/h18v04/r{row // 8:03d}c{col // 8:03d}"
        assert patch.lst_encoding.scale_factor == 0.02
        assert patch.ndvi is None
    assert len({str(p.key) for p in patches}) == 6
    summary = tally.statistics.summaries()["lst_kelvin"]
    assert summary.mean == pytest.approx(lst[:16].mean(dtype=np.float64), rel=1e-12)


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
    assert tally.statistics.summaries() == {}


def test_ndvi_comes_by_ground_and_its_gaps_reject_patches():
    scene = make_scene(np.zeros((16, 16), int))
    values = np.random.default_rng(0).random((64, 64))
    values[40, 50] = np.nan
    needs = CutSettings(patch_size=8, stride=8, need_ndvi=True, split=ALL_TRAIN)
    # Cut off the first three fine rows and columns, and shift the transform accordingly.
    patches, tally = cut(scene, needs, lambda: make_ndvi(scene, values[3:, 3:], shift=3))
    assert tally.rejected["day"] == {"ndvi_missing": 4}
    patches, tally = cut(scene, needs, lambda: make_ndvi(scene, values))
    assert tally.rejected["day"] == {"ndvi_missing": 1}
    for patch in patches:
        row, col = 4 * patch.key.row, 4 * patch.key.col
        expected = values[row : row + 32, col : col + 32].astype(np.float32)
        np.testing.assert_array_equal(patch.ndvi, expected)
    with_gaps = CutSettings(
        patch_size=8, stride=8, need_ndvi=True, max_missing_fraction=0.3, split=ALL_TRAIN
    )
    patches, tally = cut(scene, with_gaps, lambda: make_ndvi(scene, values[3:, 3:], shift=3))
    assert tally.accepted["day"] == 4
    assert np.isnan(patches[0].ndvi[:3]).all() and np.isnan(patches[0].ndvi[:, :3]).all()
    np.testing.assert_array_equal(patches[0].ndvi[3:, 3:], values[3:32, 3:32].astype(np.float32))


def test_missing_partner_is_counted_after_clouds_and_ndvi_is_read_only_if_needed():
    codes = np.zeros((16, 16), int)
    codes[0, 0] = Rejection.CLOUD
    needs = CutSettings(patch_size=8, stride=8, need_ndvi=True)
    patches, tally = cut(make_scene(codes), needs, None)
    assert patches == []
    assert tally.rejected["day"] == {"cloud": 1, "no_ndvi_partner": 3}

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
