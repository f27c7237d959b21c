"""The shift of a set is found from its rasters alone."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.methods import SharpeningMethod
from keras_lstsr.pairs.files import LoadedPair, find_pairs
from keras_lstsr.pairs.registration import register_pairs


@pytest.mark.parametrize("off", [(0, 0), (1, 1), (-2, 3)])
def test_finds_the_shift_that_was_put_in(make_pair, off):
    sources = [
        LoadedPair(make_pair(str(seed), seed=seed, coarse_pixels=24, off=off, noise_kelvin=0.2))
        for seed in range(2)
    ]
    done = []
    found = register_pairs(sources, 4, progress=done.append)
    assert (found.whole_pixels.rows, found.whole_pixels.columns) == (-off[0], -off[1])
    assert found.constant.rows == pytest.approx(-off[0], abs=0.05)
    assert found.constant.columns == pytest.approx(-off[1], abs=0.05)
    assert list(found.shifts) == done == ["0", "1"]


def test_pairs_without_texture_or_clear_pixels_do_not_count(make_pair):
    pairs = [make_pair(str(seed), seed=seed, coarse_pixels=24, off=(1, 1)) for seed in range(3)]
    pairs[1].lst.values[:] = np.nan
    pairs[2].truth.values[:] = 300.0
    found = register_pairs([LoadedPair(pair) for pair in pairs], 4)
    assert set(found.shifts) == {"0", "2"}
    assert found.constant.count == 1
    assert (found.whole_pixels.rows, found.whole_pixels.columns) == (-1, -1)
    with pytest.raises(GridError, match="no raster could be registered"):
        register_pairs([LoadedPair(pairs[2])], 4)


@pytest.mark.real_data
def test_lst_alone_gives_the_same_whole_pixels_as_tsharp(lstsr_data):
    sources = find_pairs(lstsr_data / "modis_aster")[::6]
    for method in ("tsharp", "bicubic"):
        found = register_pairs(sources, 4, reference=SharpeningMethod(method))
        assert (found.whole_pixels.rows, found.whole_pixels.columns) == (-1, -1), method
