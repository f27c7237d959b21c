"""Mergeable statistics against NumPy on the whole."""

from __future__ import annotations

import itertools
import pickle
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.statistics import CoMoments, Moments, SampleStatistics
from keras_lstsr.testing.rasters import utm_grid


def statistics_of(lst, ndvi=None, day_night="day", truth=None):
    guides = {} if ndvi is None else {"ndvi": ndvi}
    grid = utm_grid(lst.shape, 1000.0)
    return SampleStatistics.of(Sample("", lst, guides, truth, grid, day_night=day_night))


KELVIN = st.floats(200, 350, width=32)


@given(parts=st.lists(arrays(np.float32, st.integers(0, 20), elements=KELVIN), min_size=1))
def test_merged_moments_are_those_of_the_whole(parts):
    merged = reduce(Moments.merge, map(Moments.of, parts))
    whole = np.concatenate(parts).astype(np.float64)
    assert merged.count == whole.size
    if whole.size:
        summary = merged.summary()
        assert summary.mean == pytest.approx(whole.mean(), rel=1e-12)
        assert summary.std == pytest.approx(whole.std(), abs=1e-5)
        assert (summary.min, summary.max) == (whole.min(), whole.max())


def test_order_of_merging_does_not_change_a_bit():
    rng = np.random.default_rng(0)
    parts = [
        statistics_of(
            rng.normal(300, 8, (4, 4)).astype(np.float32),
            rng.random((16, 16)).astype(np.float32),
            ("day", "night")[i % 2],
        )
        for i in range(5)
    ]
    reference = reduce(SampleStatistics.merge, parts)
    assert reference.summaries()["lst_kelvin"].count == 5 * 16
    for order in itertools.permutations(parts):
        merged = reduce(SampleStatistics.merge, order)
        assert merged.summaries() == reference.summaries()
        assert merged.relations() == reference.relations()


def test_naive_float_sums_would_depend_on_the_order():
    # The reason for exact sums: with floats the same three parts do not add up alike.
    parts = [Moments.of(np.array([value], np.float64)) for value in (0.1, 0.2, 0.3)]
    assert (0.1 + 0.2) + 0.3 != 0.1 + (0.2 + 0.3)
    left = parts[0].merge(parts[1]).merge(parts[2])
    right = parts[0].merge(parts[1].merge(parts[2]))
    assert left == right


def test_relation_is_the_regression_on_the_coarse_grid():
    rng = np.random.default_rng(1)
    ndvi = rng.random((64, 64)).astype(np.float32)
    coarse = block_mean(ndvi, 4)
    lst = (310 - 12 * coarse + rng.normal(0, 0.5, coarse.shape)).astype(np.float32)
    lst[0, :5] = np.nan
    ndvi[8, 8] = np.nan
    statistics = statistics_of(lst, ndvi, truth=ndvi + 300)
    relation = statistics.relations()["ndvi"]["day"]
    coarse = block_mean(ndvi, 4)
    both = ~np.isnan(lst) & ~np.isnan(coarse)
    slope = np.polyfit(coarse[both].astype(np.float64), lst[both].astype(np.float64), 1)[0]
    assert relation.count == both.sum() == 256 - 5 - 1
    assert relation.slope_kelvin == pytest.approx(slope, rel=1e-7)
    assert relation.correlation == pytest.approx(np.corrcoef(coarse[both], lst[both])[0, 1], 1e-5)
    assert relation.covariance_kelvin == pytest.approx(
        np.cov(coarse[both], lst[both], bias=True)[0, 1], rel=1e-5
    )
    assert statistics.relations()["ndvi"]["all"] == relation
    assert statistics.summaries()["ndvi"].count == 64 * 64 - 1
    truth = statistics.summaries()["truth_kelvin"]
    assert truth.mean == pytest.approx(np.nanmean(ndvi + 300, dtype=np.float64), rel=1e-9)


def test_constant_fields_have_no_slope_and_nothing_is_left_out_silently():
    flat = CoMoments.of(np.full((2, 2), 300.1, np.float32), np.full((2, 2), 0.3, np.float32))
    relation = flat.relation()
    assert (relation.slope_kelvin, relation.correlation) == (0.0, 0.0)
    nothing = statistics_of(np.full((4, 4), np.nan, np.float32))
    assert nothing.summaries() == {}
    assert nothing.relations() == {}


def test_statistics_travel_between_workers():
    statistics = statistics_of(np.full((4, 4), 300.0, np.float32))
    assert pickle.loads(pickle.dumps(statistics)) == statistics
