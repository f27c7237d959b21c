"""Records to batches in NumPy, for the backends of Keras that are not TensorFlow.

The tensors are those of ``make_dataset``, and crops the very same. What differs is where the
randomness of whole samples comes from: their order is a permutation of the whole split instead of
one within a buffer.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import keras
import numpy as np

from keras_lstsr.records.arrays import Batch, batch_of, filled_up, turned
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.reading import check_split, decoded_split, input_side
from keras_lstsr.records.variation import FEEDING_THREADS, CropBatches


class SampleFeed(keras.utils.PyDataset):
    """The batches of a split, in any order and as often as wanted.

    The samples are decoded once, see ``records.store``; ``settings.cache`` keeps them in memory.
    A pass is numbered: the same pass of the same seed gives the same batches, so that training
    can go on in the middle. Arguments and errors are those of ``make_dataset``, but for these.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        settings: What a batch holds. A ``shuffle_buffer`` above zero shuffles the whole split.
        training: See there.
        seed: See there; not below zero.
        steps: Batches in a pass: any number of crops, or at most so many of whole samples; None
            gives as many as there are whole samples for.
    """

    def __init__(
        self,
        records_dir: str | PathLike[str],
        split: str,
        settings: BatchSettings,
        *,
        training: bool,
        seed: int = 0,
        steps: int | None = None,
    ) -> None:
        crops = training and settings.crop_pixels is not None
        super().__init__(
            workers=FEEDING_THREADS if crops else 1, max_queue_size=2 * FEEDING_THREADS
        )
        full = training and not crops
        metadata, files = check_split(records_dir, split, settings, full_batches=full)
        count, size = metadata.counts[split], settings.batch_size  # type: ignore[index]
        self._settings, self._training, self._seed = settings, training, seed
        self._factor = metadata.scale_factor
        self._side = input_side(metadata, settings)
        self._samples = decoded_split(Path(records_dir), split, files, count, settings)
        batches = count // size if training else -(-count // size)
        self._crops: CropBatches | None = None
        if crops:
            self._crops = CropBatches(self._samples, settings, self._factor, seed)
            self._batches = max(1, batches) if steps is None else steps
        else:
            self._batches = batches if steps is None else min(batches, steps)
        self.begin_pass(0)

    def begin_pass(self, number: int) -> None:
        """Shuffles and draws the symmetries of a pass.

        Args:
            number: Counted from 0; an epoch's number.
        """
        self._pass = number
        random = np.random.default_rng([self._seed, number])
        count = len(self._samples)
        shuffle = self._training and self._settings.shuffle_buffer > 0
        self._order = random.permutation(count) if shuffle else np.arange(count)
        self._symmetries = random.integers(8, size=count)

    def __len__(self) -> int:
        """Returns the number of batches of a pass."""
        return self._batches

    def __getitem__(self, index: int) -> Batch:
        """Returns batch ``index`` of the pass: inputs and target as ``make_dataset`` gives them."""
        if self._crops is not None:
            return self._crops.batch(self._pass * self._batches + index)
        settings, size = self._settings, self._settings.batch_size
        chosen = self._order[index * size : (index + 1) * size].tolist()
        whole = [
            filled_up(self._samples[number], self._side, self._side, self._factor)
            for number in chosen
        ]
        if self._training and settings.augment:
            whole = [
                turned(rasters, int(self._symmetries[number]))
                for rasters, number in zip(whole, chosen, strict=True)
            ]
        return batch_of(whole, settings, self._factor)
