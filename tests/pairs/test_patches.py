"""Patches keep the physics of what they are cut from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.pairs.patches import Patch, PatchSampler, augmented
from keras_lstsr.pairs.training_pairs import TrainingPair, nested_pair

# Nothing varied: single settings are switched on from here.
STILL = {name: 0.0 for name in AugmentationConfig.model_fields if name != "gap_cover"}


def settings(**changed: object) -> AugmentationConfig:
    return AugmentationConfig(**{**STILL, **changed})


def unturned(patch: Patch, asked: AugmentationConfig, rng: np.random.Generator) -> Patch:
    return augmented(patch, asked, rng, turns=False)


def same(left: Patch, right: Patch) -> bool:
    return all(
        np.allclose(getattr(left, name), getattr(right, name), atol=1e-3, equal_nan=True)
        for name in ("lst_kelvin", "ndvi", "truth_kelvin")
    )


@pytest.fixture
def pair(make_pair) -> TrainingPair:
    made = nested_pair(make_pair(coarse_pixels=20), 4)
    made.truth_kelvin[:, :32] = np.nan
    return made


@pytest.fixture
def patch(pair) -> Patch:
    return PatchSampler([pair], 12, 0.3).draw(np.random.default_rng(3))


def test_exactly_the_patches_with_enough_truth_can_be_drawn(pair):
    sampler = PatchSampler([pair], 12, 0.5)
    # Columns 8 and on have truth: half of a patch of 12 begins at column 2, and there are 9 × 7.
    assert len(sampler) == 9 * 7
    rng = np.random.default_rng(0)
    shares = set()
    for _ in range(300):
        drawn = sampler.draw(rng)
        assert drawn.lst_kelvin.shape == (12, 12)
        assert drawn.ndvi.shape == drawn.truth_kelvin.shape == (48, 48)
        shares.add(round(float(np.isfinite(drawn.truth_kelvin).mean()), 3))
    assert min(shares) == 0.5 and max(shares) == 1.0
    # All three show the same ground.
    np.testing.assert_allclose(block_mean(320 - 25 * drawn.ndvi, 4), drawn.lst_kelvin, atol=1e-2)


def test_truth_under_a_cloud_does_not_count(pair):
    pair.lst_kelvin[:, 12:] = np.nan
    with pytest.raises(ConfigError, match="enough truth"):
        PatchSampler([pair], 12, 0.5)


def test_small_pairs_are_filled_up(make_pair):
    small = nested_pair(make_pair(coarse_pixels=8), 4)
    drawn = PatchSampler([small], 12, 0.3).draw(np.random.default_rng(0))
    assert np.isnan(drawn.lst_kelvin[8:]).all() and np.isnan(drawn.truth_kelvin[:, 32:]).all()
    np.testing.assert_array_equal(drawn.ndvi[:32, :32], small.ndvi)


def test_without_settings_nothing_changes(patch):
    assert same(unturned(patch, settings(), np.random.default_rng(0)), patch)


def test_turns_turn_all_three_alike(patch):
    seen = set()
    for seed in range(60):
        turned = augmented(patch, settings(), np.random.default_rng(seed))
        np.testing.assert_allclose(
            block_mean(320 - 25 * turned.ndvi, 4), turned.lst_kelvin, atol=1e-2
        )
        valid = np.isfinite(turned.truth_kelvin)
        np.testing.assert_allclose(
            (320 - 25 * turned.ndvi)[valid], turned.truth_kelvin[valid], atol=1e-2
        )
        seen.add(tuple(np.round(turned.lst_kelvin[0, :3], 3)))
    assert len(seen) == 8


@pytest.mark.parametrize("name", ["lst_contrast", "lst_offset_kelvin"])
def test_lst_and_truth_vary_together(patch, name):
    varied = unturned(patch, settings(**{name: 0.5}), np.random.default_rng(1))
    assert not np.allclose(varied.lst_kelvin, patch.lst_kelvin, atol=0.01)
    np.testing.assert_allclose(varied.ndvi, patch.ndvi, atol=1e-6)
    # One line leads from before to after, for LST and truth alike.
    slope, offset = np.polyfit(patch.lst_kelvin.ravel(), varied.lst_kelvin.ravel(), 1)
    expected = slope * patch.truth_kelvin + offset
    np.testing.assert_allclose(varied.truth_kelvin, expected, atol=2e-2)
    if name == "lst_contrast":
        assert varied.lst_kelvin.mean() == pytest.approx(patch.lst_kelvin.mean(), abs=1e-2)
    else:
        assert slope == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "spread"), [({"lst_noise_kelvin": 0.15}, 0.15), ({"guide_noise": 0.01}, 0.01)]
)
def test_noise_is_the_inputs_alone(patch, changed, spread):
    varied = unturned(patch, settings(**changed), np.random.default_rng(2))
    np.testing.assert_allclose(varied.truth_kelvin, patch.truth_kelvin, atol=1e-3)
    part = "lst_kelvin" if "lst_noise_kelvin" in changed else "ndvi"
    difference = getattr(varied, part) - getattr(patch, part)
    assert difference.std() == pytest.approx(spread, rel=0.2)


def test_ndvi_varies_alone(patch):
    varied = unturned(
        patch, settings(guide_contrast=0.3, guide_offset=0.1), np.random.default_rng(2)
    )
    np.testing.assert_allclose(varied.lst_kelvin, patch.lst_kelvin, atol=1e-3)
    slope, offset = np.polyfit(patch.ndvi.ravel(), varied.ndvi.ravel(), 1)
    np.testing.assert_allclose(varied.ndvi, slope * patch.ndvi + offset, atol=1e-5)
    assert abs(slope - 1) > 0.01 and varied.ndvi.mean() != pytest.approx(patch.ndvi.mean())


def test_ndvi_is_shifted_in_its_share_of_patches(patch):
    asked = settings(guide_shift_pixels=0.3, guide_shift_share=0.5)
    moved = [
        not np.allclose(unturned(patch, asked, np.random.default_rng(k)).ndvi, patch.ndvi)
        for k in range(100)
    ]
    assert 30 < sum(moved) < 70


@pytest.mark.parametrize(
    ("share", "part"),
    [("cloud_share", "lst_kelvin"), ("guide_gap_share", "ndvi"), ("guide_absent_share", "ndvi")],
)
def test_gaps_are_blobs_in_one_input(patch, share, part):
    covers = []
    for seed in range(20):
        varied = unturned(patch, settings(**{share: 1.0}), np.random.default_rng(seed))
        for name in {"lst_kelvin", "ndvi", "truth_kelvin"} - {part}:
            kept, before = getattr(varied, name), getattr(patch, name)
            np.testing.assert_array_equal(np.isnan(kept), np.isnan(before))
        gaps = np.isnan(getattr(varied, part))
        covers.append(gaps.mean())
        if share != "guide_absent_share":
            # Blobs, not salt and pepper: hardly a missing pixel has no missing neighbour.
            alone = gaps & (ndimage.uniform_filter(gaps.astype(float), 3) < 1.5 / 9)
            assert alone.sum() <= 0.1 * gaps.sum()
    if share == "guide_absent_share":
        assert set(covers) == {1.0}
    else:
        assert min(covers) >= 0.03 and max(covers) <= 0.42 and np.std(covers) > 0.03
