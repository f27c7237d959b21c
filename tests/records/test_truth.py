"""The shift of a set, and of each truth, is found from the rasters alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import GridError
from keras_lstsr.grids.registration import Shift
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.scene_sample import (
    clear_shift,
    common_shift,
    cropped_to_guides,
    nested,
    register_scenes,
    shift_of_scene,
)
from keras_lstsr.testing.samples import made_scene


@pytest.mark.parametrize("off", [(0, 0), (1, 1), (-2, 3)])
def test_finds_the_shift_that_was_put_in(off):
    sources = [
        made_scene(str(seed), seed=seed, coarse_pixels=24, off=off, noise_kelvin=0.2)
        for seed in range(2)
    ]
    done = []
    found = register_scenes(sources, 4, progress=done.append)
    assert (found.whole_pixels.rows, found.whole_pixels.columns) == (-off[0], -off[1])
    assert found.constant.rows == pytest.approx(-off[0], abs=0.05)
    assert found.constant.columns == pytest.approx(-off[1], abs=0.05)
    assert list(found.shifts) == done == ["0", "1"]


def test_scenes_without_texture_or_clear_pixels_do_not_count():
    scenes = [made_scene(str(seed), seed=seed, coarse_pixels=24, off=(1, 1)) for seed in range(3)]
    scenes[1].lst.values[:] = np.nan
    scenes[2].truth.values[:] = 300.0
    found = register_scenes(scenes, 4)
    assert set(found.shifts) == {"0", "2"}
    assert found.constant.count == 1
    assert (found.whole_pixels.rows, found.whole_pixels.columns) == (-1, -1)
    with pytest.raises(GridError, match="no raster could be registered"):
        register_scenes([scenes[2]], 4)


def test_truth_lies_where_lst_and_guide_say():
    made = made_scene(coarse_pixels=24, off=(1, -2))
    shift = clear_shift(shift_of_scene(made, 4))
    assert (shift.rows, shift.columns) == pytest.approx((-1, 2), abs=0.05)
    exact = 320 - 25 * made.guides["ndvi"].values
    error = nested(made, 4, shift).truth_kelvin - exact
    # The shift is found to some hundredths of a pixel of steep texture.
    assert np.nanstd(error) < 0.1 * np.nanstd(exact)


def test_without_a_guide_the_texture_of_lst_serves():
    made = made_scene(coarse_pixels=32, off=(1, -2))
    shift = shift_of_scene(replace(made, guides={}), 4)
    assert (shift.rows, shift.columns) == pytest.approx((-1, 2), abs=0.5)
    assert shift_of_scene(replace(made, truth=None), 4) is None


def test_a_scene_without_a_clear_shift_takes_that_of_the_set():
    scenes = [made_scene(str(seed), seed=seed, coarse_pixels=24, off=(1, 1)) for seed in range(3)]
    # What scene 2 shows has nothing to do with its LST.
    scenes[2].truth.values[:] = 300 + np.random.default_rng(0).normal(size=(106, 106))
    shifts = [shift_of_scene(scene, 4) for scene in scenes]
    assert clear_shift(shifts[0]) is shifts[0] and clear_shift(shifts[2]) is None
    assert clear_shift(None) is None
    common = common_shift(shifts)
    assert common.count == 2
    assert (common.rows, common.columns) == pytest.approx((-1, -1), abs=0.05)
    assert common_shift([shifts[2], None, Shift(np.nan, np.nan, 0.0)]) is None


@pytest.mark.real_data
def test_lst_alone_gives_the_same_whole_pixels_as_tsharp(lstsr_data):
    sources = [pair.load() for pair in find_pairs(lstsr_data / "modis_aster")[::6]]
    without_guides = [replace(cropped_to_guides(scene, 4), guides={}) for scene in sources]
    for scenes in (sources, without_guides):
        found = register_scenes(scenes, 4)
        assert (found.whole_pixels.rows, found.whole_pixels.columns) == (-1, -1)


@pytest.mark.real_data
def test_real_pairs_have_clear_shifts_of_their_own(lstsr_data):
    for source in find_pairs(lstsr_data / "modis_aster")[::9]:
        shift = shift_of_scene(cropped_to_guides(source.load(), 4), 4)
        assert clear_shift(shift) is shift
        assert np.hypot(shift.rows + 0.77, shift.columns + 1.02) < 1.5
