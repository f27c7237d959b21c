"""Batches for the guided network: patches of pairs, varied anew at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.pairs.patches import PatchSampler, augmented

# Threads that make batches while the network computes. NumPy lets go of Python's lock for most of
# the work, and two keep up with any processor that the network trains on.
FEEDING_THREADS = 2


@dataclass(frozen=True, eq=False)
class PatchSource:
    """A set of pairs to draw patches from.

    Attributes:
        sampler: Cuts the patches.
        weight: How often it is drawn from beside other sources.
        teaches_spread: Whether its errors are of the size that the uncertainty is to tell.
    """

    sampler: PatchSampler
    weight: float = 1.0
    teaches_spread: bool = True


class GuidedBatches(keras.utils.PyDataset):
    """Batches of varied patches.

    Batch ``index`` depends on the seed and the index alone, not on who asks for it and when: a run
    can be repeated, on any backend and with any number of threads.

    Args:
        sources: Where patches come from.
        augmentation: How they are varied; None leaves them as cut.
        batch_size: Patches per batch.
        steps: Batches.
        seed: Another seed is another sequence of patches.
        threads: Threads that make batches ahead.
    """

    def __init__(
        self,
        sources: Sequence[PatchSource],
        augmentation: AugmentationConfig | None,
        *,
        batch_size: int,
        steps: int,
        seed: int = 0,
        threads: int = FEEDING_THREADS,
    ) -> None:
        super().__init__(workers=threads, use_multiprocessing=False, max_queue_size=2 * threads)
        self._sources = list(sources)
        weights = np.array([source.weight for source in sources], np.float64)
        self._shares = weights / weights.sum()
        self._augmentation = augmentation
        self._batch_size, self._steps, self._seed = batch_size, steps, seed

    def __len__(self) -> int:
        """Returns the number of batches."""
        return self._steps

    def __getitem__(self, index: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
        """Returns a batch.

        Returns:
            Inputs ``lst_kelvin`` ``[B, n, n, 1]`` and ``ndvi`` ``[B, n · f, n · f, 1]``, and the
            truth ``[B, n · f, n · f, 2]``: kelvin, NaN where missing, and 1 where the spread of
            the error is learnt, else 0.
        """
        patches, spread = [], []
        for number in range(self._batch_size):
            rng = np.random.default_rng([self._seed, index, number])
            source = self._sources[rng.choice(len(self._sources), p=self._shares)]
            patch = source.sampler.draw(rng)
            if self._augmentation is not None:
                patch = augmented(patch, self._augmentation, rng)
            patches.append(patch)
            spread.append(np.full_like(patch.truth_kelvin, source.teaches_spread))

        def stacked(name: str) -> Any:
            return np.stack([getattr(patch, name) for patch in patches])[..., None]

        inputs = {"lst_kelvin": stacked("lst_kelvin"), "ndvi": stacked("ndvi")}
        return inputs, np.concatenate(
            [stacked("truth_kelvin"), np.stack(spread)[..., None]], axis=-1
        )
