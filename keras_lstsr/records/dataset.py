"""Records to batches as tf.data pipelines.

TensorFlow is imported by the functions: what reads records without it is in
``keras_lstsr.records.reading`` and ``keras_lstsr.records.feed``.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.records.arrays import FloatArray, filled_up, task_view, turned_values
from keras_lstsr.records.batch_settings import SPREAD, TRULY_FINE, BatchSettings
from keras_lstsr.records.checking import check_decoding
from keras_lstsr.records.codec import decode_sample
from keras_lstsr.records.reading import SHARDS_AT_A_TIME, check_split, decoded_split, input_side
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
        training: Crop, shuffle, turn and vary, as the settings say, in full batches; else whole
            samples in order, the last batch as it is.
        seed: Of all that is random.
        first_batch: Number of the first batch of crops, from which a training goes on.

    Returns:
        ``(inputs, target)``: ``inputs["lst_kelvin"]`` float32 ``[B, h, w, 1]`` in kelvin and each
        guide of the model ``[B, f · h, f · w, 1]``; the target float32 ``[B, f · h, f · w, C]``
        with LST in channel 0 and ``target_channels`` after it. Missing pixels are NaN. For
        ``4km_to_1km`` the target is the LST of the records, the input its norm-L4 average, and
        guides are averaged to 1 km; for ``1km_to_250m`` the input is the LST of the records and
        the target their truth, or, without ``fine_truth``, the input with each pixel repeated;
        ``4km_to_1km_to_250m`` draws crops of either.
        Samples of different sizes are filled up with NaN.

    Raises:
        RecordsError: If the folder or its metadata are missing or of another schema, the split
            is empty or smaller than the only batch, or a guide or the truth is asked for and
            absent.
        ConfigError: If no crop has enough truth.
    """
    import tensorflow as tf

    crops = training and settings.crop_pixels is not None
    full = training and not crops
    metadata, files = check_split(records_dir, split, settings, full_batches=full)
    factor = metadata.scale_factor
    count = metadata.counts[split]  # type: ignore[index]  # check_split checked it
    if crops:
        samples = decoded_split(Path(records_dir), split, files, count, settings)
        batches = CropBatches(samples, settings, factor, seed)
        return _crop_dataset(batches, settings, factor, first_batch)
    check_decoding(files, split, metadata)  # type: ignore[arg-type]  # check_split checked it
    side = input_side(metadata, settings)
    fine = side * factor
    shapes = [(side, side), *[(fine, fine)] * (len(settings.guides) + 1), ()]

    def decoded(record: bytes) -> list[Any]:
        seen = filled_up(task_view(decode_sample(record), settings), side, side, factor)
        return [*seen.values(factor), np.float32(seen.observed)]

    def moved(number: np.int64, *parts: Any) -> list[Any]:
        *rasters, observed = parts
        return [*(turned_values(values, int(number)) for values in rasters), observed]

    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in files]).interleave(
        lambda path: tf.data.TFRecordDataset(path, compression_type="GZIP"),
        cycle_length=min(SHARDS_AT_A_TIME, len(files)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Records that were lost show here, and Keras knows the steps of an epoch.
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    dataset = dataset.map(_in_python(decoded, shapes), num_parallel_calls=tf.data.AUTOTUNE)
    if settings.cache:
        dataset = dataset.cache()
    if training and settings.shuffle_buffer:
        dataset = dataset.shuffle(settings.shuffle_buffer, seed=seed, reshuffle_each_iteration=True)
    if training and settings.augment:
        numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        turn = _in_python(moved, shapes)
        dataset = tf.data.Dataset.zip(numbers, dataset).map(
            lambda number, parts: turn(number, *parts), num_parallel_calls=tf.data.AUTOTUNE
        )
    dataset = dataset.map(
        lambda *parts: _inputs_and_target(parts, settings), num_parallel_calls=tf.data.AUTOTUNE
    )
    dataset = dataset.batch(settings.batch_size, drop_remainder=training)
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

    shapes = [(size, *[coarse if name == names[0] else fine] * 2, 1) for name in names]
    call = _in_python(drawn, [*shapes, (size, fine, fine, channels)])

    def named(number: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        *inputs, target = call(number)
        return dict(zip(names, inputs, strict=True)), target

    numbers = tf.data.Dataset.range(first_batch, np.iinfo(np.int64).max)
    return _in_order(numbers.map(named, num_parallel_calls=FEEDING_THREADS))


def _in_python(
    function: Callable[..., list[Any]], shapes: Sequence[tuple[int, ...]]
) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Returns a function of tensors that calls Python for float32 tensors of these shapes."""
    import tensorflow as tf

    counted = _CALLS.counted(function)

    def call(*values: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = tf.numpy_function(counted, values, [tf.float32] * len(shapes), stateful=False)
        return tuple(map(tf.ensure_shape, found, shapes))

    return call


def _inputs_and_target(
    parts: Sequence[tf.Tensor], settings: BatchSettings
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """As ``records.arrays.batch_of``, of the rasters of one sample."""
    import tensorflow as tf

    lst, *guides, fine, observed = parts
    known = dict(zip(settings.guides, guides, strict=True)) | {
        SPREAD: tf.fill(fine.shape, 1.0 if settings.degraded_spread else observed),
        TRULY_FINE: tf.fill(fine.shape, float(settings.target_is_fine)),
    }
    inputs = {"lst_kelvin": lst[..., None]}
    inputs |= {name: known[name][..., None] for name in settings.model_guides}
    channels = [fine, *(known[name] for name in settings.target_channels)]
    return inputs, tf.stack(channels, axis=-1)
