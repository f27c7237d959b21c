"""Truths come onto the fine grid, each in its place."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.grids.registration import Shift
from keras_lstsr.pairs.files import LoadedPair, cropped_to_guide
from keras_lstsr.pairs.training_pairs import PairSet, nested_pair, training_pair


def test_truth_lies_where_lst_and_guide_say(make_pair):
    made = make_pair(coarse_pixels=24, off=(1, -2))
    (pair,) = PairSet([LoadedPair(made)], 4).selected(["000"], ["000"])
    assert pair.own_shift and pair.shift is not None
    assert (pair.shift.rows, pair.shift.columns) == pytest.approx((-1, 2), abs=0.05)
    exact = 320 - 25 * made.guide.values
    error = pair.truth_kelvin - exact
    # The shift is found to some hundredths of a pixel of steep texture.
    assert np.nanstd(error) < 0.1 * np.nanstd(exact)
    # The truth reaches 5 pixels beyond the guide and is eroded by 6.
    assert 0.85 < pair.valid_share < 1
    assert (pair.lst_kelvin.dtype, pair.truth_kelvin.dtype) == (np.float32, np.float32)


def test_a_known_shift_is_undone_exactly(make_pair):
    made = make_pair(off=(2, 1))
    pair = training_pair(cropped_to_guide(made, 4), shift=Shift(-2.0, -1.0, 1.0))
    exact = 320 - 25 * made.guide.values
    valid = np.isfinite(pair.truth_kelvin)
    np.testing.assert_allclose(pair.truth_kelvin[valid], exact[valid], atol=2e-3)


def test_cold_truth_and_its_surroundings_are_left_out(make_pair):
    made = make_pair(coarse_pixels=20)
    made.truth.values[45, 45] = 250.0
    pair = training_pair(cropped_to_guide(made, 4))
    # 5 pixels of the truth's margin, and 6 steps of the four neighbours.
    assert np.isnan(pair.truth_kelvin[40, 34:47]).all()
    assert np.isnan(pair.truth_kelvin[34:47, 40]).all()
    assert np.isfinite(pair.truth_kelvin[44, 44]) and np.isfinite(pair.truth_kelvin[40, 33])


def test_a_pair_without_a_clear_shift_takes_that_of_the_training_pairs(make_pair):
    pairs = [make_pair(str(seed), seed=seed, coarse_pixels=24, off=(1, 1)) for seed in range(3)]
    # What pair 2 shows has nothing to do with its LST.
    pairs[2].truth.values[:] = 300 + np.random.default_rng(0).normal(size=pairs[2].truth.shape)
    known = PairSet([LoadedPair(pair) for pair in pairs], 4)
    assert known.shifts["2"] is None
    one, two = known.selected(["0", "2"], ["0"])
    assert one.own_shift and not two.own_shift
    assert two.shift is not None
    # Of pair 0 alone: pair 1 may be what is tested.
    assert (two.shift.rows, two.shift.columns) == (
        known.shifts["0"].rows,
        known.shifts["0"].columns,
    )


def test_nested_pairs_are_taken_as_they_are(make_pair):
    made = make_pair(coarse_pixels=8)
    pair = nested_pair(made, 4)
    exact = 320 - 25 * made.guide.values
    np.testing.assert_allclose(pair.truth_kelvin, exact, atol=1e-3)
    assert pair.valid_share == 1 and pair.shift is None
