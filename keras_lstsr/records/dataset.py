"""Records to batches: tf.data pipelines, and the same arrays in NumPy.

TensorFlow is imported by ``make_dataset`` alone: metadata and ``load_arrays`` need none, nor does
``keras_lstsr.records.feed``, which feeds the other backends of Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import DataConfig
from keras_lstsr.errors import RecordsError
from keras_lstsr.grids.resample import phase_weights
from keras_lstsr.records.arrays import UPSAMPLED, guide_on_target_grid, model_tensors
from keras_lstsr.records.codec import decode_patch, parse_patch
from keras_lstsr.records.patches import Patch
from keras_lstsr.records.schema import (
    SPLITS,
    DatasetMetadata,
    Feature,
    Split,
    load_metadata,
)
from keras_lstsr.records.tfrecord import read_shard

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "DatasetMetadata",
    "augment",
    "check_split",
    "iterate_patches",
    "load_arrays",
    "load_metadata",
    "make_dataset",
    "split_files",
]

# Shards read at a time; the order of records depends on it, so it is fixed.
SHARDS_AT_A_TIME = 8


def split_files(
    records_dir: str | PathLike[str], split: str, metadata: DatasetMetadata | None = None
) -> list[Path]:
    """Lists the shards of a split, in order.

    Raises:
        RecordsError: If the split is unknown or empty, or a shard is missing.
    """
    folder = Path(records_dir)
    metadata = load_metadata(folder) if metadata is None else metadata
    if split not in SPLITS:
        raise RecordsError(
            "unknown split", path=folder, found=repr(split), expected=", ".join(SPLITS)
        )
    known: Split = split
    if not metadata.counts[known]:
        raise RecordsError(
            f"the split {split} is empty",
            path=folder,
            found=", ".join(f"{name} {count}" for name, count in metadata.counts.items()),
            action="Prepare the records again with another --split_seed, other --split_fractions, "
            "a smaller --patch_size or more data.",
        )
    files = [folder / shard.file for shard in metadata.shards[known]]
    if missing := [path.name for path in files if not path.is_file()]:
        raise RecordsError(
            "shards are missing",
            path=folder,
            found=f"no {', '.join(missing[:3])}",
            expected=f"{len(files)} shards of split {split}",
            action="Copy the whole folder again, or prepare the records again.",
        )
    return files


def _check_guide(folder: Path, metadata: DatasetMetadata, with_guide: bool) -> None:
    if with_guide and not metadata.has_guide:
        raise RecordsError(
            "the records hold no NDVI, which the loss or the model needs",
            path=folder,
            field=Feature.NDVI,
            action="Prepare the records again with --ndvi GLOB.",
        )


def iterate_patches(
    records_dir: str | PathLike[str], split: str, limit: int | None = None
) -> Iterator[Patch]:
    """Yields the patches of a split with all they know of themselves, in NumPy.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        limit: At most so many patches, from the first shard on.

    Raises:
        RecordsError: If the folder, the split or a shard is missing, empty or damaged.
    """
    records = (record for path in split_files(records_dir, split) for record in read_shard(path))
    for record in islice(records, limit):
        yield decode_patch(record)


def load_arrays(
    records_dir: str | PathLike[str],
    split: str,
    data: DataConfig,
    *,
    with_guide: bool = False,
    limit: int | None = None,
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Loads a split as ``make_dataset`` gives it, without augmentation, in NumPy.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        data: The task and the upsampling; the rest does not matter here.
        with_guide: Add NDVI as channel 1 of the target.
        limit: At most so many patches.

    Returns:
        ``inputs`` with ``lst_kelvin`` ``[N, h, w, 1]``, and the target ``[N, 4h, 4w, C]``.

    Raises:
        RecordsError: See ``make_dataset``.
    """
    folder = Path(records_dir)
    metadata = load_metadata(folder)
    _check_guide(folder, metadata, with_guide)
    factor = metadata.scale_factor
    lst, guides = [], []
    for patch in iterate_patches(folder, split, limit):
        lst.append(patch.lst_kelvin)
        if with_guide and patch.ndvi is not None:
            guides.append(guide_on_target_grid(patch.ndvi, data, factor))
    return model_tensors(np.stack(lst), np.stack(guides) if guides else None, data, factor)


def check_split(
    records_dir: str | PathLike[str],
    split: str,
    *,
    batch_size: int,
    drop_remainder: bool,
    with_guide: bool,
) -> tuple[DatasetMetadata, list[Path]]:
    """Checks that a split can give batches.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        batch_size: Patches per batch.
        drop_remainder: Whether a batch that is not full is left out.
        with_guide: Whether NDVI is needed.

    Returns:
        The folder's metadata and the split's shards.

    Raises:
        RecordsError: See ``make_dataset``.
    """
    folder = Path(records_dir)
    metadata = load_metadata(folder)
    files = split_files(folder, split, metadata)
    _check_guide(folder, metadata, with_guide)
    count = metadata.counts[split]  # type: ignore[index]  # split_files checked it
    if drop_remainder and count < batch_size:
        raise RecordsError(
            f"the split {split} has fewer patches than one batch",
            path=folder,
            found=f"{count} patches",
            expected=f"at least batch_size = {batch_size}",
            action="Set a smaller training.batch_size, or prepare more records.",
        )
    return metadata, files


def make_dataset(
    records_dir: str | PathLike[str],
    split: str,
    data: DataConfig,
    *,
    batch_size: int,
    training: bool,
    seed: int = 0,
    drop_remainder: bool | None = None,
    with_guide: bool = False,
) -> tf.data.Dataset:
    """Makes the batches of a split.

    Two datasets made alike give the same batches in the same order; each pass over one of them
    shuffles and augments anew.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        data: The task, and how to shuffle, augment, upsample and cache.
        batch_size: Patches per batch.
        training: Shuffle and augment, as ``data`` says.
        seed: Of shuffling and augmentation.
        drop_remainder: Leave out a last batch that is not full; by default only in training.
        with_guide: Add NDVI as channel 1 of the target.

    Returns:
        ``(inputs, target)``: ``inputs["lst_kelvin"]`` float32 ``[B, h, w, 1]`` in kelvin, and
        ``inputs["lst_kelvin_upsampled"]`` ``[B, 4h, 4w, 1]`` if ``data.upsampling`` is set; the
        target float32 ``[B, 4h, 4w, C]`` with LST in channel 0 and NDVI in channel 1. Missing
        pixels are NaN. For ``4km_to_1km`` the target is the LST of the records and the input its
        norm-L4 average; for ``1km_to_250m`` the input is the LST of the records and the target
        the same, each pixel repeated 4 × 4 times.

    Raises:
        RecordsError: If the folder or its metadata are missing or of another schema, the split
            is empty or smaller than the only batch, or NDVI is asked for and absent.
    """
    import tensorflow as tf

    drop_remainder = training if drop_remainder is None else drop_remainder
    metadata, files = check_split(
        records_dir,
        split,
        batch_size=batch_size,
        drop_remainder=drop_remainder,
        with_guide=with_guide,
    )
    count = metadata.counts[split]  # type: ignore[index]  # check_split checked it

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = parse_patch(
            serialized,
            patch_size=metadata.patch_size,
            scale_factor=metadata.scale_factor,
            with_ndvi=with_guide,
        )
        names = (Feature.LST, Feature.NDVI) if with_guide else (Feature.LST,)
        return {name: parsed[name] for name in names}

    def finish(patch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return _inputs_and_target(patch, data, metadata.scale_factor)

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in files]).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP"),
        cycle_length=min(SHARDS_AT_A_TIME, len(files)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Records that were lost show here, and Keras knows the steps of an epoch.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    if data.cache:
        dataset = dataset.cache()
    if training and data.shuffle_buffer:
        dataset = dataset.shuffle(data.shuffle_buffer, seed=seed, reshuffle_each_iteration=True)
    if training and data.augment:
        numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        dataset = tf.data.Dataset.zip(dataset, numbers).map(
            augment, num_parallel_calls=tf.data.AUTOTUNE
        )
    dataset = dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def augment(patch: dict[str, tf.Tensor], number: tf.Tensor) -> dict[str, tf.Tensor]:
    """Flips and turns all rasters of a patch alike.

    Args:
        patch: Square rasters ``[side, side]`` of the same ground, of any resolution.
        number: An int64 scalar, taken at random, that decides which of the eight symmetries of
            the square is applied.

    Returns:
        The rasters under the same names, shapes unchanged.
    """
    import tensorflow as tf

    # Eight symmetries: transposition and two flips, one bit each. They include the quarter turns.
    bits = tf.bitwise.right_shift(number, tf.constant([0, 1, 2], tf.int64)) % 2
    moved = {}
    for name, raster in patch.items():
        shape = raster.shape
        raster = tf.where(bits[0] == 1, tf.transpose(raster), raster)
        raster = tf.where(bits[1] == 1, tf.reverse(raster, [0]), raster)
        raster = tf.where(bits[2] == 1, tf.reverse(raster, [1]), raster)
        moved[name] = tf.ensure_shape(raster, shape)
    return moved


def _blocks(raster: tf.Tensor, factor: int) -> tf.Tensor:
    import tensorflow as tf

    height, width = raster.shape
    return tf.reshape(raster, [height // factor, factor, width // factor, factor])


def degrade_norm_l4(lst_kelvin: tf.Tensor, factor: int) -> tf.Tensor:
    """Degrades ``[H, W]`` as ``keras_lstsr.grids.resample.norm_l4`` does, as a graph."""
    import tensorflow as tf

    fourth = tf.cast(_blocks(lst_kelvin, factor), tf.float64) ** 4
    return tf.cast(tf.reduce_mean(fourth, axis=(1, 3)) ** 0.25, lst_kelvin.dtype)


def _block_mean(values: tf.Tensor, factor: int) -> tf.Tensor:
    import tensorflow as tf

    blocks = tf.cast(_blocks(values, factor), tf.float64)
    return tf.cast(tf.reduce_mean(blocks, axis=(1, 3)), values.dtype)


def _repeat(values: tf.Tensor, factor: int) -> tf.Tensor:
    import tensorflow as tf

    return tf.repeat(tf.repeat(values, factor, axis=0), factor, axis=1)


def upsample(values: tf.Tensor, factor: int, method: str) -> tf.Tensor:
    """Upsamples ``[H, W]`` as ``keras_lstsr.grids.resample`` does, as a graph.

    Args:
        values: Float, of known shape; NaN spreads over the kernel's footprint and no further.
        factor: Upsampling factor.
        method: ``"bicubic"`` or ``"bilinear"``.
    """
    import tensorflow as tf

    weights = phase_weights(factor, method)
    result = tf.cast(values, tf.float64)
    for _ in range(2):
        length, other = result.shape
        phases: list[Any] = []
        for row in weights:
            # A zero weight must not spread the NaN of a pixel that it does not use.
            taps = [
                weight * tf.gather(result, np.clip(np.arange(length) + offset, 0, length - 1))
                for offset, weight in zip(range(-2, 3), row, strict=True)
                if weight != 0
            ]
            phases.append(tf.add_n(taps))
        fine = tf.reshape(tf.stack(phases, axis=1), [length * factor, other])
        result = tf.transpose(fine)
    return tf.cast(result, values.dtype)


def _inputs_and_target(
    patch: dict[str, tf.Tensor], data: DataConfig, factor: int
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    import tensorflow as tf

    lst, guide = patch[Feature.LST], patch.get(Feature.NDVI)
    if data.task == "4km_to_1km":
        coarse, fine = degrade_norm_l4(lst, factor), lst
        guide = None if guide is None else _block_mean(guide, factor)
    else:
        coarse, fine = lst, _repeat(lst, factor)
    inputs = {"lst_kelvin": coarse[..., None]}
    if data.upsampling is not None:
        inputs[UPSAMPLED] = upsample(coarse, factor, data.upsampling)[..., None]
    return inputs, tf.stack([fine] if guide is None else [fine, guide], axis=-1)
