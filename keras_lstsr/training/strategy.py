"""Devices to train on: TensorFlow's distribution strategies, and nothing else of TensorFlow."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from keras_lstsr.errors import ConfigError


def make_strategy(cpu_devices: int = 1) -> tf.distribute.Strategy:
    """Chooses the devices: every GPU, or the CPU.

    Args:
        cpu_devices: Logical CPU devices to mirror the training on where there is no GPU. They
            share the processor, so they save no time; they show that training is the same on
            several replicas.

    Returns:
        ``MirroredStrategy`` over all devices, or TensorFlow's default strategy for a single one,
        which costs nothing.

    Raises:
        ConfigError: If logical CPU devices are asked for after TensorFlow has started.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        return _mirrored()
    if gpus or cpu_devices == 1:
        return tf.distribute.get_strategy()
    return _mirrored(_logical_cpus(cpu_devices))


@functools.cache
def _mirrored(devices: tuple[str, ...] | None = None) -> tf.distribute.Strategy:
    # Each strategy counts its collective operations from the same number on, and TensorFlow
    # keeps their shapes: a second one in a process would fail on a network of another size.
    return tf.distribute.MirroredStrategy(devices)


def _logical_cpus(count: int) -> tuple[str, ...]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError:
        # TensorFlow has started already, perhaps with as many devices as are wanted.
        present = len(tf.config.list_logical_devices("CPU"))
        if present != count:
            raise ConfigError(
                "TensorFlow has started and its CPU devices can no longer be set",
                field="training.cpu_devices",
                found=f"{present} logical CPU device{'s' if present > 1 else ''}",
                expected=count,
                action="Train in a fresh process, before anything else uses TensorFlow.",
            ) from None
    return tuple(f"/cpu:{index}" for index in range(count))


def replica_count(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of copies of the model that are trained in step."""
    return int(strategy.num_replicas_in_sync)


def on_gpu() -> bool:
    """Returns whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """Names the devices in words, e.g. ``"2 × GPU (NVIDIA H200)"`` or ``"1 × CPU"``."""
    count = replica_count(strategy)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"{count} × CPU"
    details: dict[str, Any] = tf.config.experimental.get_device_details(gpus[0])
    return f"{count} × GPU ({details.get('device_name', 'unknown')})"


def keep_patches(batches: tf.data.Dataset, patches: int, *, batch_size: int) -> tf.data.Dataset:
    """Keeps the first patches of a dataset and batches them again.

    Args:
        batches: Batches of any size.
        patches: How many to keep, at most as many as there are.
        batch_size: Patches per batch; the last one may be smaller.
    """
    kept = batches.unbatch().take(patches)
    # Otherwise Keras does not know the number of steps and warns at the end of the first pass.
    kept = kept.apply(tf.data.experimental.assert_cardinality(patches))
    return kept.batch(batch_size).prefetch(tf.data.AUTOTUNE)
