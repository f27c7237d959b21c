"""Devices to train on; all that training knows of TensorFlow's and JAX's ways with them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras

from keras_lstsr.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf


class SingleDevice:
    """What there is in place of a strategy where TensorFlow is not the backend: one device."""

    num_replicas_in_sync = 1

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context that changes nothing."""
        return contextlib.nullcontext()


Strategy: TypeAlias = "tf.distribute.Strategy | SingleDevice"
"""The devices of a training."""


def uses_tensorflow() -> bool:
    """Returns whether Keras computes with TensorFlow (``KERAS_BACKEND``)."""
    return bool(keras.config.backend() == "tensorflow")


def make_strategy(cpu_devices: int = 1) -> Strategy:
    """Chooses the devices: every GPU, or the CPU; with another backend than TensorFlow, one.

    Args:
        cpu_devices: Logical CPU devices to mirror the training on where there is no GPU. They
            share the processor, so they save no time; they show that training is the same on
            several replicas.

    Returns:
        ``MirroredStrategy`` over all devices, or TensorFlow's default strategy for a single one,
        which costs nothing; ``SingleDevice`` on other backends.

    Raises:
        ConfigError: If logical CPU devices are asked for after TensorFlow has started, or on
            another backend.
    """
    if not uses_tensorflow():
        if cpu_devices > 1:
            raise ConfigError(
                "only TensorFlow trains on several devices",
                field="training.cpu_devices",
                found=f"{cpu_devices} with KERAS_BACKEND={keras.config.backend()}",
                expected=1,
            )
        return SingleDevice()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:
        return _mirrored()
    if gpus or cpu_devices == 1:
        return tf.distribute.get_strategy()
    return _mirrored(_logical_cpus(cpu_devices))


@functools.cache
def _mirrored(devices: tuple[str, ...] | None = None) -> tf.distribute.Strategy:
    import tensorflow as tf

    # Each strategy counts its collective operations from the same number on, and TensorFlow
    # keeps their shapes: a second one in a process would fail on a network of another size.
    return tf.distribute.MirroredStrategy(devices)


def _logical_cpus(count: int) -> tuple[str, ...]:
    import tensorflow as tf

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
                action="Train in a new process, before anything else uses TensorFlow.",
            ) from None
    return tuple(f"/cpu:{index}" for index in range(count))


def replica_count(strategy: Strategy) -> int:
    """Returns the number of copies of the model that are trained in step."""
    return int(strategy.num_replicas_in_sync)


def gpu_names() -> list[str]:
    """Names the GPUs that the backend sees, e.g. ``["NVIDIA H200"]``; empty without one.

    Other backends than TensorFlow and JAX are taken to have none.
    """
    if uses_tensorflow():
        import tensorflow as tf

        details = map(
            tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU")
        )
        return [str(detail.get("device_name", "unknown")) for detail in details]
    if keras.config.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    return []


def on_gpu() -> bool:
    """Returns whether the backend sees a GPU."""
    return bool(gpu_names())


def describe_devices(strategy: Strategy) -> str:
    """Names the devices in words, e.g. ``"2 × GPU (NVIDIA H200)"`` or ``"1 × CPU"``."""
    count, names = replica_count(strategy), gpu_names()
    return f"{count} × GPU ({names[0]})" if names else f"{count} × CPU"


def summed_over_replicas(gradients: Sequence[Any], clip_norm: float) -> list[Any]:
    """Adds up gradients over the replicas, clips the sums and shares them out.

    Returns:
        Gradients whose sum over the replicas is the clipped one; None where there is none.
    """
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    given = [gradient for gradient in gradients if gradient is not None]
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, given))
    return [
        None
        if gradient is None
        else tf.clip_by_norm(next(summed), clip_norm) / context.num_replicas_in_sync
        for gradient in gradients
    ]


def keep_samples(batches: tf.data.Dataset, samples: int, *, batch_size: int) -> tf.data.Dataset:
    """Keeps the first samples of a dataset and batches them again; the last batch may be short."""
    import tensorflow as tf

    kept: Any = batches.unbatch().take(samples)
    # Otherwise Keras does not know the number of steps and warns at the end of the first pass.
    kept = kept.apply(tf.data.experimental.assert_cardinality(samples))
    return kept.batch(batch_size).prefetch(tf.data.AUTOTUNE)
