from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.inference.quality import GuideUse, guide_use, made_consistent, share_text


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 0.8, shape).astype(np.float32)


def use_of(lst, ndvi, followed=None):
    return guide_use(lst, {"ndvi": ndvi}, 4, followed)


def test_the_explained_share_is_that_of_a_line():
    ndvi = noise(80, 80)
    coarse = block_mean(ndvi, 4)
    exact = use_of(300 - 12 * coarse, ndvi)
    assert exact.explained_share == pytest.approx(1, abs=1e-6)
    assert (exact.missing_shares, exact.constant, exact.notes()) == ({"ndvi": 0}, False, [])
    lst = 300 - 12 * coarse + np.random.default_rng(1).normal(0, 1, coarse.shape)
    expected = np.corrcoef(lst.ravel(), coarse.ravel())[0, 1] ** 2
    assert use_of(lst, ndvi).explained_share == pytest.approx(expected, abs=1e-6)


def test_the_missing_share_counts_fine_pixels_with_lst_only():
    ndvi = noise(16, 20)
    lst = 300 - 20 * block_mean(ndvi, 4)
    lst[0] = np.nan
    ndvi[:4] = np.nan  # under the gap: does not matter
    ndvi[4:8, :6] = np.nan
    use = use_of(lst, ndvi)
    assert use.missing_shares["ndvi"] == pytest.approx(24 / (15 * 16))
    (note,) = use.notes()
    assert "missing on 10.0%" in note and "bicubic" in note


@pytest.mark.parametrize("constant", [True, False])
def test_a_constant_guide_is_told(constant):
    ndvi = np.full((24, 20), 0.4, np.float32) if constant else noise(24, 20)
    use = use_of(300 + noise(6, 5), ndvi)
    assert use.constant == constant
    assert any("same in all LST pixels" in note for note in use.notes()) == constant
    assert constant == (use.explained_share == 0)


def test_without_common_pixels_nothing_is_known():
    lst, ndvi = np.full((4, 5), np.nan), noise(16, 20)
    lst[0, 0] = 300
    use = use_of(lst, ndvi)
    assert np.isnan(use.explained_share)
    assert use.as_attributes() == {"guide_missing_share": 0}
    assert GuideUse({"ndvi": 0.25, "water": 0.1}, False, 0.5, 0.125).as_attributes() == {
        "guide_missing_share": 0.25,
        "guide_unfollowed_share": 0.125,
        "guide_explained_share": 0.5,
    }


def test_several_guides_explain_together_and_are_named_apart():
    ndvi, elevation = noise(80, 80), 1000 * noise(80, 80, seed=1)
    lst = 300 - 12 * block_mean(ndvi, 4) - 0.006 * block_mean(elevation, 4)
    elevation[:20, :20] = np.nan
    use = guide_use(lst, {"ndvi": ndvi, "elevation": elevation}, 4)
    assert use.explained_share == pytest.approx(1, abs=1e-6)
    assert use_of(lst, ndvi).explained_share < 0.9
    assert use.missing_shares == {"ndvi": 0, "elevation": 1 / 16}
    (note,) = use.notes()
    assert note.startswith("elevation is missing on 6.2%")


def test_the_unfollowed_share_counts_fine_pixels_with_lst_and_guide():
    ndvi = noise(16, 20)
    lst = 300 - 20 * block_mean(ndvi, 4)
    followed = np.full((16, 20), 0.9, np.float32)
    lst[0], followed[:4] = np.nan, np.nan
    ndvi[4:8, :10] = np.nan
    followed[4:8] = 0.2  # half of it without guide
    use = use_of(lst, ndvi, followed)
    assert use.unfollowed_share == pytest.approx(40 / (12 * 20 - 40))
    assert "hardly follows NDVI on 20.0%" in use.notes()[1]
    followed[4:8] = 0.5
    assert use_of(lst, ndvi, followed).unfollowed_share == 0
    assert use_of(lst, np.full_like(ndvi, np.nan), followed).unfollowed_share == 0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1e-6, "less than 0.1%"), (0.001, "0.1%"), (0.1234, "12.3%"), (1.0, "100.0%")],
)
def test_only_no_share_is_written_as_none(share, text):
    assert share_text(share) == text


def test_what_a_correction_took_and_left_is_told():
    rng = np.random.default_rng(0)
    fine = rng.normal(300, 2, (32, 40)).astype(np.float32)
    lst = block_mean(fine, 4) + rng.normal(0, 0.5, (8, 10)).astype(np.float32)
    lst[0, 0], fine[4, 4] = np.nan, np.nan
    result, correction = made_consistent(fine, lst, "block")
    known = np.ones((8, 10), bool)
    known[0, 0] = known[1, 1] = False
    np.testing.assert_allclose(block_mean(result, 4)[known], lst[known], atol=0.011)
    np.testing.assert_allclose(
        correction.before[known], (lst - block_mean(fine, 4))[known], atol=1e-4
    )
    assert np.isnan(correction.before[~known]).all()
    assert correction.before_kelvin == pytest.approx(np.sqrt(np.nanmean(correction.before**2)))
    assert correction.left_kelvin < 0.01 and correction.notes() == []
    first, second = correction.maps()
    assert f"RMS {correction.before_kelvin:.2f} K" in first and "at most 0.00 K" in second
    assert correction.as_attributes()["consistency"] == "block"


def test_a_correction_that_leaves_a_residual_says_so(monkeypatch):
    from keras_lstsr.grids import consistency

    fine, lst = noise(16, 16) + 300, noise(4, 4, seed=1) + 310
    monkeypatch.setattr(consistency, "enforce_consistency", lambda fine, *arguments, **kept: fine)
    _, correction = made_consistent(fine, lst, "psf")
    (note,) = correction.notes()
    assert f"up to {correction.left_kelvin:.2f} K remain" in note
    assert correction.left_kelvin > 5
