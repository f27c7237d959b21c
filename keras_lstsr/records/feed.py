"""Records to batches in NumPy, for the backends of Keras that are not TensorFlow.

The tensors are those of ``make_dataset``. What differs is where the randomness comes from: the
order is a permutation of the whole split instead of one within a buffer.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import DataConfig
from keras_lstsr.errors import RecordsError
from keras_lstsr.records.arrays import guide_on_target_grid, model_tensors, turn
from keras_lstsr.records.codec import decode_patch
from keras_lstsr.records.dataset import SHARDS_AT_A_TIME, check_split
from keras_lstsr.records.tfrecord import read_shard


class PatchFeed(keras.utils.PyDataset):
    """The batches of a split, in any order and as often as wanted.

    Shards are compressed and can only be read from the start, so the patches are decoded once,
    into a nameless temporary file (``TMPDIR`` says where) that the system maps into memory as far
    as there is room, and removes with the process. ``data.cache`` keeps them in memory instead.

    A pass is numbered: the same pass of the same seed gives the same batches, so that training
    can go on in the middle.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        data: The task, and how to shuffle, augment, upsample and cache. A ``shuffle_buffer``
            above zero shuffles the whole split.
        batch_size: Patches per batch.
        training: Shuffle and augment, as ``data`` says.
        seed: Of shuffling and augmentation; not below zero.
        drop_remainder: Leave out a last batch that is not full; by default only in training.
        with_guide: Add NDVI as channel 1 of the target.
        steps: At most so many batches in a pass; None gives all.

    Raises:
        RecordsError: As ``make_dataset``; or if a shard is damaged, records are lost, or there is
            no room for the patches.
    """

    def __init__(
        self,
        records_dir: str | PathLike[str],
        split: str,
        data: DataConfig,
        *,
        batch_size: int,
        training: bool,
        seed: int = 0,
        drop_remainder: bool | None = None,
        with_guide: bool = False,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        drop_remainder = training if drop_remainder is None else drop_remainder
        metadata, files = check_split(
            records_dir,
            split,
            batch_size=batch_size,
            drop_remainder=drop_remainder,
            with_guide=with_guide,
        )
        self._count = metadata.counts[split]  # type: ignore[index]  # check_split checked it
        self._factor = metadata.scale_factor
        self._data = data
        self._batch_size = batch_size
        self._shuffle = training and data.shuffle_buffer > 0
        self._augment = training and data.augment
        self._seed = seed
        batches = self._count // batch_size if drop_remainder else -(-self._count // batch_size)
        self._batches = batches if steps is None else min(batches, steps)
        self._lst, self._guide = self._read(
            Path(records_dir), split, files, metadata.patch_size, with_guide
        )
        self.begin_pass(0)

    def begin_pass(self, number: int) -> None:
        """Shuffles and draws the symmetries of a pass.

        Args:
            number: Counted from 0; an epoch's number.
        """
        random = np.random.default_rng([self._seed, number])
        self._order = random.permutation(self._count) if self._shuffle else np.arange(self._count)
        self._symmetries = random.integers(8, size=self._count)

    def __len__(self) -> int:
        """Returns the number of batches of a pass."""
        return self._batches

    def __getitem__(self, index: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
        """Returns batch ``index`` of the pass: inputs and target as ``make_dataset`` gives them."""
        first = index * self._batch_size
        chosen = self._order[first : first + self._batch_size]
        rasters = [self._lst[chosen]]
        if self._guide is not None:
            rasters.append(self._guide[chosen])
        if self._augment:
            rasters = [turn(raster, self._symmetries[chosen]) for raster in rasters]
        guide = rasters[1] if self._guide is not None else None
        return model_tensors(rasters[0], guide, self._data, self._factor)

    def _read(
        self, folder: Path, split: str, files: list[Path], side: int, with_guide: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        found, guide_side = 0, 0
        with tempfile.TemporaryFile() as lst, tempfile.TemporaryFile() as guides:
            try:
                for record in _interleave([read_shard(path) for path in files]):
                    patch = decode_patch(record)
                    found += 1
                    lst.write(patch.lst_kelvin.tobytes())
                    if with_guide and patch.ndvi is not None:
                        guide = guide_on_target_grid(patch.ndvi, self._data, self._factor)
                        guides.write(guide.tobytes())
                        guide_side = guide.shape[-1]
                lst.flush()
                guides.flush()
            except OSError as error:
                raise RecordsError(
                    "there is no room for the decoded patches",
                    path=tempfile.gettempdir(),
                    found=error.strerror,
                    expected=f"room for {self._count} patches of the split {split}",
                    action="Set TMPDIR to a folder with more room.",
                ) from error
            if found != self._count:
                raise RecordsError(
                    f"the shards of the split {split} are not complete",
                    path=folder,
                    found=f"{found} patches",
                    expected=self._count,
                    action="Copy the whole folder again, or prepare the records again.",
                )
            return (
                self._mapped(lst, side),
                self._mapped(guides, guide_side) if with_guide else None,
            )

    def _mapped(self, file: IO[bytes], side: int) -> NDArray[np.float32]:
        # The map keeps the nameless file alive when Python has closed it.
        mapped = np.memmap(file, np.float32, "r", shape=(self._count, side, side))
        return np.array(mapped) if self._data.cache else np.asarray(mapped)


def _interleave(shards: list[Iterator[bytes]]) -> Iterator[bytes]:
    """Takes a record of each open shard in turn, in the order of tf.data's ``interleave``."""
    waiting = deque(shards)
    slots: list[Iterator[bytes] | None] = [None] * min(SHARDS_AT_A_TIME, len(shards))
    while waiting or any(slots):
        for number, shard in enumerate(slots):
            if shard is None and waiting:
                shard = waiting.popleft()
            record = None if shard is None else next(shard, None)
            slots[number] = None if record is None else shard
            if record is not None:
                yield record
