"""Content that cannot be drawn is refused where it is made, with its name."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.report.content import Evaluation, SceneMaps, Spectra

FINE, COARSE = np.zeros((8, 8)), np.zeros((2, 2))


def test_map_off_the_truths_grid():
    with pytest.raises(GridError, match="ATPRK") as caught:
        SceneMaps("scene 7", "a", COARSE, FINE, {"ATPRK": COARSE})
    assert "scene 7" in str(caught.value)


@pytest.mark.parametrize("field", ["coarse_kelvin", "truth_kelvin", "guides"])
def test_map_of_three_dimensions(field):
    arrays = {"coarse_kelvin": COARSE, "truth_kelvin": FINE, "guides": {"NDVI": FINE}}
    arrays[field] = {"NDVI": np.zeros((2, 4, 4))} if field == "guides" else np.zeros((2, 4, 4))
    with pytest.raises(GridError, match=field):
        SceneMaps("scene", "", maps={}, **arrays)


@pytest.mark.parametrize("field", ["truth", "methods", "ring_correlation"])
def test_spectrum_of_another_length(field):
    right, wrong = np.ones(5), np.ones(4)
    curves = {"truth": right, "methods": {"a": right}, "ring_correlation": {"a": right}}
    curves[field] = wrong if field == "truth" else {"a": wrong}
    with pytest.raises(GridError, match=field):
        Spectra(np.arange(5.0), **curves)


def test_scatter_of_unequal_lengths():
    with pytest.raises(GridError, match="bicubic"):
        Evaluation("t", [], scatter={"bicubic": (np.zeros(3), np.zeros(4))})
