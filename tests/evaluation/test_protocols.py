"""Each protocol scores the pixels that it says, and the same ones for all methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.evaluation.protocols import (
    AsterProtocol,
    FourKilometreProtocol,
    NestedProtocol,
    ReportProtocol,
    warped,
)
from keras_lstsr.evaluation.result import METRICS, score_maps
from keras_lstsr.grids.registration import Shift
from keras_lstsr.grids.resample import block_mean, norm_l4
from keras_lstsr.sharpening import sharpen
from keras_lstsr.testing.samples import made_scene, utm_raster


def sharpened(sample, *names):
    return {name: sharpen(sample.lst, sample.guides["ndvi"], method=name) for name in names}


def test_aster_protocol_scores_what_is_valid_after_erosion():
    scene = made_scene(coarse_pixels=12)
    scene.truth.values[20, 25] = 250.0
    protocol = AsterProtocol()
    prepared = protocol.prepared(scene, 4)
    (maps,) = protocol.images(prepared, sharpened(prepared, "tsharp", "nearest"), None)
    # The truth has 5 pixels more at each edge; results cover the 48 × 48 inside.
    covered = np.zeros(scene.truth.shape, bool)
    covered[5:53, 5:53] = True
    covered[20, 25] = False
    diamond = np.add.outer(np.abs(np.arange(-6, 7)), np.abs(np.arange(-6, 7))) <= 6
    expected = ndimage.binary_erosion(covered, diamond)
    np.testing.assert_array_equal(np.isfinite(maps.truth), expected)
    np.testing.assert_allclose(
        maps.maps["tsharp"][expected], scene.truth.values[expected], atol=2e-3
    )
    scores = {score.method: score for score in score_maps(maps)}
    assert scores["tsharp"].values["rmse_kelvin"] < 2e-3
    assert scores["tsharp"].values["high_pass_correlation"] > 0.9999
    assert scores["tsharp"].scored_pixels == scores["nearest"].scored_pixels == expected.sum()
    assert tuple(scores["nearest"].values) == METRICS
    assert scores["nearest"].values["consistency_kelvin"] < 1e-4


@pytest.mark.parametrize("warp", ["gdal", "exact"])
def test_a_shift_brings_the_truth_home(warp):
    scene = made_scene(off=(1, -2))
    protocol = AsterProtocol(warp=warp)
    prepared = protocol.prepared(scene, 4)
    fine = sharpened(prepared, "tsharp")
    (home,) = protocol.images(prepared, fine, Shift(-1, 2, 1.0))
    (away,) = protocol.images(prepared, fine, None)
    rmse = [score_maps(maps)[0].values["rmse_kelvin"] for maps in (home, away)]
    assert rmse[0] < 2e-3 < 1 < rmse[1]


def test_a_gap_of_one_method_is_a_gap_for_all():
    scene = made_scene()
    protocol = AsterProtocol()
    prepared = protocol.prepared(scene, 4)
    fine = sharpened(prepared, "tsharp", "bicubic")
    (whole,) = protocol.images(prepared, fine, None)
    fine["tsharp"].values[40:44, 40:44] = np.nan
    (holed,) = protocol.images(prepared, fine, None)
    counts = {score.scored_pixels for score in score_maps(holed)}
    assert len(counts) == 1
    # The 4 × 4 gap grows by 6 steps of the four neighbours.
    assert counts.pop() == np.isfinite(whole.truth).sum() - (16 + 4 * 4 * 6 + 2 * 6 * 5)


def test_gdal_and_exact_warps_agree_on_a_ramp():
    rows, columns = np.mgrid[:60, :60]
    source = utm_raster(290 + 0.1 * rows + 0.2 * columns, name="lst_kelvin")
    target = utm_raster(np.zeros((30, 30)), row=10.4, column=12.7, name="lst_kelvin")
    rows, columns = np.mgrid[:30, :30]
    expected = 290 + 0.1 * (rows + 10.4) + 0.2 * (columns + 12.7)
    for how in ("gdal", "exact"):
        np.testing.assert_allclose(warped(source, target, how), expected, atol=1e-3)
    with pytest.raises(ConfigError, match="unknown warp"):
        warped(source, target, "cubic")


@pytest.mark.parametrize("subdivisions", [1, 2, 4])
def test_report_protocol_cuts_edges_and_divides(subdivisions):
    scene = made_scene(coarse_pixels=20)
    # Room for the truth's own erosion beyond the 16 pixels that are cut.
    protocol = ReportProtocol(subdivisions)
    prepared = protocol.prepared(scene, 4)
    fine = sharpened(prepared, "nearest")
    images = list(protocol.images(prepared, fine, None))
    assert len(images) == subdivisions**2 == len({maps.image for maps in images})
    side = 48 // subdivisions
    assert all(maps.truth.shape == (side, side) for maps in images)
    rows = [
        np.hstack([m.truth for m in images[i : i + subdivisions]])
        for i in range(0, len(images), subdivisions)
    ]
    np.testing.assert_allclose(np.vstack(rows), scene.truth.values[21:69, 21:69], atol=1e-4)
    assert "consistency_kelvin" not in score_maps(images[0])[0].values


def test_report_protocol_needs_more_than_edges():
    scene = made_scene(coarse_pixels=8)
    protocol = ReportProtocol()
    prepared = protocol.prepared(scene, 4)
    with pytest.raises(GridError, match="cover the whole scene"):
        list(protocol.images(prepared, sharpened(prepared, "nearest"), None))


def test_four_kilometre_protocol_degrades_both_and_scores_1_km():
    scene = made_scene(coarse_pixels=22)
    protocol = FourKilometreProtocol()
    prepared = protocol.prepared(scene, 4)
    whole = scene.lst.values[:20, :20]
    np.testing.assert_array_equal(prepared.lst.values, norm_l4(whole, 4))
    guide, expected = prepared.guides["ndvi"], block_mean(scene.guides["ndvi"].values, 4)
    np.testing.assert_allclose(guide.values, expected[:20, :20], rtol=1e-6)
    assert prepared.lst.rio.transform().a == 4000 and guide.rio.transform().a == 1000
    (maps,) = protocol.images(prepared, sharpened(prepared, "bicubic", "tsharp"), None)
    np.testing.assert_array_equal(maps.truth, whole)
    values = {score.method: score.values for score in score_maps(maps)}
    # Norm-L4 against the mean is all that keeps TsHARP from the truth.
    assert values["tsharp"]["rmse_kelvin"] < 0.1 < values["bicubic"]["rmse_kelvin"]
    assert maps.pixel_size_m == 1000


def test_nested_protocol_takes_the_truth_as_it_lies():
    scene = made_scene(coarse_pixels=8)
    protocol = NestedProtocol()
    prepared = protocol.prepared(scene, 4)
    (maps,) = protocol.images(prepared, sharpened(prepared, "tsharp"), None)
    np.testing.assert_array_equal(maps.truth, scene.truth.values[5:37, 5:37])
    beside = replace(prepared, truth=utm_raster(scene.truth.values, row=-4.5, name="t"))
    with pytest.raises(GridError, match="does not cover"):
        list(protocol.images(beside, sharpened(prepared, "tsharp"), None))


@pytest.mark.parametrize("protocol", [NestedProtocol, FourKilometreProtocol])
def test_near_a_gap_is_left_out_where_asked_for(protocol):
    scene = made_scene(coarse_pixels=40)
    scene.lst.values[16:20, 20:24] = np.nan  # a 4 km pixel, or 4 × 4 of 1 km
    counts = {}
    for clear in (False, True):
        chosen = protocol(clear_of_gaps=clear)
        prepared = chosen.prepared(scene, 4)
        (maps,) = chosen.images(prepared, sharpened(prepared, "bicubic"), None)
        counts[clear] = score_maps(maps)[0].scored_pixels
    side, gap = (160, 16) if protocol is NestedProtocol else (40, 4)
    # The kernel reaches less than two coarse pixels: 6 fine pixels further on each side.
    assert counts == {False: side**2 - gap**2, True: side**2 - (gap + 12) ** 2}
