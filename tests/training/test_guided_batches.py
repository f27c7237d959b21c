"""Batches hang on seed and index alone."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.pairs.patches import PatchSampler
from keras_lstsr.pairs.training_pairs import nested_pair
from keras_lstsr.training.guided_batches import GuidedBatches, PatchSource
from tests.pairs.made_pairs import make_pair


@pytest.fixture(scope="module")
def samplers() -> list[PatchSampler]:
    """Of two pairs, the second 100 K warmer."""
    pairs = [nested_pair(make_pair(seed=seed, coarse_pixels=14), 4) for seed in range(2)]
    pairs[1].lst_kelvin[:] += 100
    pairs[1].truth_kelvin[:] += 100
    return [PatchSampler([pair], 8, 0.3) for pair in pairs]


def batches(samplers, *, seed=0, weights=(1.0, 1.0), augmentation=None, size=6) -> GuidedBatches:
    sources = [PatchSource(*pair) for pair in zip(samplers, weights, strict=True)]
    return GuidedBatches(sources, augmentation, batch_size=size, steps=5, seed=seed)


def test_shapes_and_units(samplers):
    made = batches(samplers, augmentation=AugmentationConfig())
    assert len(made) == 5
    inputs, truth = made[0]
    assert {name: values.shape for name, values in inputs.items()} == {
        "lst_kelvin": (6, 8, 8, 1),
        "ndvi": (6, 32, 32, 1),
    }
    assert truth.shape == (6, 32, 32, 2)
    assert {values.dtype for values in (*inputs.values(), truth)} == {np.dtype(np.float32)}


def test_a_batch_is_the_same_whoever_asks_and_when(samplers):
    first, again = (batches(samplers, augmentation=AugmentationConfig()) for _ in range(2))
    order = [first[index] for index in range(5)]
    for index in (3, 0, 4, 1, 2):
        inputs, truth = again[index]
        np.testing.assert_array_equal(truth, order[index][1])
        for name, values in inputs.items():
            np.testing.assert_array_equal(values, order[index][0][name])
    other = batches(samplers, augmentation=AugmentationConfig(), seed=1)
    for made in (other[0], first[1]):
        assert not np.array_equal(made[0]["lst_kelvin"], order[0][0]["lst_kelvin"])


@pytest.mark.parametrize(("weights", "low", "high"), [((1, 0), 0, 0), ((1, 3), 60, 90)])
def test_sources_are_mixed_by_weight(samplers, weights, low, high):
    made = batches(samplers, weights=weights, size=100)
    warm = (made[0][0]["lst_kelvin"].mean(axis=(1, 2, 3)) > 360).sum()
    assert low <= warm <= high


def test_a_source_that_teaches_no_spread_says_so(samplers):
    sources = [PatchSource(samplers[0]), PatchSource(samplers[1], teaches_spread=False)]
    made = GuidedBatches(sources, None, batch_size=60, steps=1)
    inputs, truth = made[0]
    warm = inputs["lst_kelvin"].mean(axis=(1, 2, 3)) > 360
    assert 0 < warm.sum() < 60
    np.testing.assert_array_equal(
        truth[..., 1], np.broadcast_to(~warm[:, None, None], (60, 32, 32))
    )
