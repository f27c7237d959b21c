"""Trees with linear leaves: the leaves' regressions, and how far they reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.sharpening.model_trees import (
    fit_bagged_trees,
    fit_model_tree,
    predict_bagged_trees,
)


@pytest.mark.parametrize("guides", [1, 3])
def test_leaves_hold_the_ridge_regressions_of_their_samples(guides):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (200, guides)).astype(np.float32)
    y = 300 + 3 * np.abs(x[:, 0]) + rng.normal(0, 1, 200)
    model = fit_model_tree(x, y, max_leaves=4, seed=0)
    centred = x - x.mean(axis=0)
    whole = np.linalg.lstsq(centred, y - y.mean(), rcond=None)[0]
    leaf = model.tree.apply(x)
    assert len(np.unique(leaf)) == 4
    for node in np.unique(leaf):
        own = leaf == node
        centred = (x[own] - x[own].mean(axis=0)).astype(np.float64)
        matrix = centred.T @ centred
        matrix += np.diag(10.0 / own.sum() * np.diag(matrix))
        rest = y[own] - y[own].mean() - centred @ whole
        slopes = whole + np.linalg.solve(matrix, centred.T @ rest)
        expected = y[own].mean() + centred @ slopes
        margin = 0.25 * np.ptp(y[own])
        expected = np.clip(expected, y[own].min() - margin, y[own].max() + margin)
        np.testing.assert_allclose(model.predict(x[own]), expected, rtol=0, atol=1e-5)


@given(st.integers(0, 10_000), st.floats(1.0, 1e4))
@settings(max_examples=25, deadline=None)
def test_predictions_stay_near_the_samples_for_any_guide(seed, size):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (60, 2)).astype(np.float32)
    y = 300 + 5 * x[:, 0].astype(np.float64) + rng.normal(0, 1, 60)
    model = fit_bagged_trees(x, y, trees=3, max_leaves=5, rng=rng)
    far = (size * rng.normal(0, 1, (50, 2))).astype(np.float32)
    far[0, 1] = np.nan
    found = predict_bagged_trees(model, far)
    assert np.isnan(found[0])
    margin = 0.25 * np.ptp(y)
    assert (found[1:] >= y.min() - margin).all() and (found[1:] <= y.max() + margin).all()
