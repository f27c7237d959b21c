"""Records to batches as tf.data pipelines.

TensorFlow is imported by the functions: what reads records without it is in
``keras_lstsr.records.reading`` and ``keras_lstsr.records.feed``.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.records.arrays import FloatArray
from keras_lstsr.records.batch_settings import SPREAD, BatchSettings
from keras_lstsr.records.codec import parse_sample
from keras_lstsr.records.reading import SHARDS_AT_A_TIME, check_split, decoded_split
from keras_lstsr.records.schema import Feature
from keras_lstsr.records.variation import FEEDING_THREADS, CropBatches

if TYPE_CHECKING:
    import tensorflow as tf

# Seconds between looks at the pipelines' calls at exit, and looks without a call that are enough.
_LOOK_SECONDS, _QUIET_LOOKS, _MOST_LOOKS = 0.01, 5, 500


def make_dataset(
    records_dir: str | PathLike[str],
    split: str,
    settings: BatchSettings,
    *,
    training: bool,
    seed: int = 0,
    drop_remainder: bool | None = None,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """Makes the batches of a split.

    Two datasets made alike give the same batches in the same order. In training, whole samples are
    shuffled and turned anew in each pass; with ``crop_pixels`` the batches are random crops,
    varied, without end, and batch ``i`` is the same whatever was taken before.

    Args:
        records_dir: The records folder.
        split: ``train``, ``validation`` or ``test``.
        settings: What a batch holds.
        training: Crop, shuffle, turn and vary, as the settings say; else whole samples in order.
        seed: Of all that is random.
        drop_remainder: Leave out a last batch that is not full; by default only in training.
        first_batch: Number of the first batch of crops, from which a training goes on.

    Returns:
        ``(inputs, target)``: ``inputs["lst_kelvin"]`` float32 ``[B, h, w, 1]`` in kelvin and each
        guide of the model ``[B, f · h, f · w, 1]``; the target float32 ``[B, f · h, f · w, C]``
        with LST in channel 0 and ``target_channels`` after it. Missing pixels are NaN. For
        ``4km_to_1km`` the target is the LST of the records, the input its norm-L4 average, and
        guides are averaged to 1 km; for ``1km_to_250m`` the input is the LST of the records and
        the target their truth, or, without ``fine_truth``, the input with each pixel repeated.
        Samples of different sizes are filled up with NaN.

    Raises:
        RecordsError: If the folder or its metadata are missing or of another schema, the split
            is empty or smaller than the only batch, or a guide or the truth is asked for and
            absent.
        ConfigError: If no crop has enough truth.
    """
    import tensorflow as tf

    crops = training and settings.crop_pixels is not None
    drop_remainder = training if drop_remainder is None else drop_remainder
    metadata, files = check_split(
        records_dir, split, settings, full_batches=drop_remainder and not crops
    )
    factor = metadata.scale_factor
    count = metadata.counts[split]  # type: ignore[index]  # check_split checked it
    if crops:
        samples = decoded_split(Path(records_dir), split, files, count, settings)
        batches = CropBatches(samples, settings, factor, seed)
        return _crop_dataset(batches, settings, factor, first_batch)
    side = -(-metadata.patch_size // factor) * factor
    if settings.task == "1km_to_250m":
        side = metadata.patch_size

    def parse(serialized: tf.Tensor) -> dict[str, Any]:
        parsed = parse_sample(
            serialized,
            side=side,
            scale_factor=factor,
            guides=settings.guides,
            with_truth=settings.fine_truth,
        )
        wanted = (Feature.LST, Feature.TRUTH, "guides", Feature.ORIGIN)
        return {name: parsed[name] for name in wanted if name in parsed}

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in files]).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP"),
        cycle_length=min(SHARDS_AT_A_TIME, len(files)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Records that were lost show here, and Keras knows the steps of an epoch.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    if settings.cache:
        dataset = dataset.cache()
    if training and settings.shuffle_buffer:
        dataset = dataset.shuffle(settings.shuffle_buffer, seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.map(
        lambda sample: _as_task_sees(sample, settings, factor), num_parallel_calls=tf.data.AUTOTUNE
    )
    if training and settings.augment:
        numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        dataset = tf.data.Dataset.zip(dataset, numbers).map(
            augment, num_parallel_calls=tf.data.AUTOTUNE
        )
    dataset = dataset.map(
        lambda sample: _inputs_and_target(sample, settings, factor),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    dataset = dataset.batch(settings.batch_size, drop_remainder=drop_remainder)
    return _in_order(dataset)


def _in_order(dataset: tf.data.Dataset) -> tf.data.Dataset:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


class _Calls:
    """Calls of Python from the threads of tf.data, which must have ended when Python exits.

    A thread that wants to enter an interpreter that is going away never returns, and TensorFlow
    waits for it for ever. A pipeline that nobody takes from comes to rest once its buffers are
    full.
    """

    def __init__(self) -> None:
        self._begun = self._running = 0
        self._watched = False
        self._lock = threading.Lock()

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function; Python waits for its calls when it exits."""

        def call(*values: Any) -> Any:
            with self._lock:
                self._begun += 1
                self._running += 1
            try:
                return function(*values)
            finally:
                with self._lock:
                    self._running -= 1

        if not self._watched:
            self._watched = True
            atexit.register(self.rest)
        return call

    def rest(self) -> None:
        """Waits until no call has begun for a while and none is running, for 5 s at most."""
        quiet = 0
        for _ in range(_MOST_LOOKS):
            before = self._begun
            time.sleep(_LOOK_SECONDS)
            quiet = quiet + 1 if before == self._begun and not self._running else 0
            if quiet == _QUIET_LOOKS:
                return


_CALLS = _Calls()


def _crop_dataset(
    batches: CropBatches, settings: BatchSettings, factor: int, first_batch: int
) -> tf.data.Dataset:
    import tensorflow as tf

    names = ("lst_kelvin", *settings.model_guides)
    coarse, size = settings.crop_side(factor), settings.batch_size
    fine, channels = coarse * factor, 1 + len(settings.target_channels)

    def drawn(number: NDArray[np.int64]) -> list[FloatArray]:
        inputs, target = batches.batch(int(number))
        return [*(inputs[name] for name in names), target]

    def named(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        kinds = [tf.float32] * (len(names) + 1)
        *inputs, target = tf.numpy_function(call, [number], kinds, stateful=False)
        known = {
            name: tf.ensure_shape(
                values, [size, *([coarse] * 2 if name == names[0] else [fine] * 2), 1]
            )
            for name, values in zip(names, inputs, strict=True)
        }
        return known, tf.ensure_shape(target, [size, fine, fine, channels])

    call = _CALLS.counted(drawn)
    numbers = tf.data.Dataset.range(first_batch, np.iinfo(np.int64).max)
    return _in_order(numbers.map(named, num_parallel_calls=FEEDING_THREADS))


def augment(sample: dict[str, Any], number: tf.Tensor) -> dict[str, Any]:
    """Flips and turns all rasters of a sample alike.

    Args:
        sample: Square rasters ``[side, side]`` of the same ground, of any resolution, also in
            dicts of their own; what is a scalar stays.
        number: An int64 scalar whose last three bits choose one of the square's eight symmetries.
    """
    import tensorflow as tf

    # Eight symmetries: transposition and two flips, one bit each. They include the quarter turns.
    bits = tf.bitwise.right_shift(number, tf.constant([0, 1, 2], tf.int64)) % 2

    def turn(raster: tf.Tensor) -> tf.Tensor:
        if raster.shape.rank != 2:
            return raster
        shape = raster.shape
        raster = tf.where(bits[0] == 1, tf.transpose(raster), raster)
        raster = tf.where(bits[1] == 1, tf.reverse(raster, [0]), raster)
        raster = tf.where(bits[2] == 1, tf.reverse(raster, [1]), raster)
        return tf.ensure_shape(raster, shape)

    return tf.nest.map_structure(turn, sample)


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


def _as_task_sees(sample: dict[str, Any], settings: BatchSettings, factor: int) -> dict[str, Any]:
    """As ``records.arrays.task_view``."""
    if settings.task == "1km_to_250m":
        return sample
    guides = {name: _block_mean(guide, factor) for name, guide in sample["guides"].items()}
    fine = sample[Feature.LST]
    coarse = degrade_norm_l4(fine, factor)
    return {**sample, Feature.LST: coarse, Feature.TRUTH: fine, "guides": guides}


def _inputs_and_target(
    sample: dict[str, Any], settings: BatchSettings, factor: int
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """As ``records.arrays.batch_of``."""
    import tensorflow as tf

    lst, guides = sample[Feature.LST], sample["guides"]
    fine = sample[Feature.TRUTH] if Feature.TRUTH in sample else _repeat(lst, factor)
    inputs = {"lst_kelvin": lst[..., None]}
    inputs |= {name: guides[name][..., None] for name in settings.model_guides}
    channels = [fine]
    for name in settings.target_channels:
        if name == SPREAD:
            observed = tf.cast(tf.equal(sample[Feature.ORIGIN], "observed"), tf.float32)
            channels.append(tf.fill(fine.shape, observed))
        else:
            channels.append(guides[name])
    return inputs, tf.stack(channels, axis=-1)
