"""The network in training, compiled, and its twin that is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_lstsr.config import ExperimentConfig, GuidedModelConfig, ModelConfig, NetworkConfig
from keras_lstsr.losses import build_loss, build_loss_metrics
from keras_lstsr.metrics.streaming import RootMeanSquareErrorKelvin
from keras_lstsr.models.guided import build_guided
from keras_lstsr.models.precision import in_bfloat16
from keras_lstsr.models.registry import build_model
from keras_lstsr.training.optimizer import averaged_weights, build_optimizer
from keras_lstsr.training.strategy import Strategy, on_gpu, replica_count, uses_tensorflow


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in training.

    Attributes:
        whole: As ``build_model`` builds it, with all its outputs.
        trained: What is compiled and fitted; it shares its layers with ``whole`` and has one
            output, since a Keras loss sees one: LST in kelvin, and its standard deviation beside
            it where the network gives one.
        kept: A float32 twin of ``whole``, uncompiled: saved, it needs neither loss nor optimiser
            and computes in float32 whatever the training computes in.
    """

    whole: keras.Model
    trained: keras.Model
    kept: keras.Model

    def with_kept_weights(self) -> keras.Model:
        """Returns the twin with the weights as they are now, averaged where they are averaged."""
        with averaged_weights(self.trained):
            self.kept.set_weights(self.whole.get_weights())
        return self.kept


def build_network(
    config: ExperimentConfig,
    steps_per_epoch: int,
    strategy: Strategy,
    initial: keras.Model | None = None,
) -> TrainedNetwork:
    """Builds and compiles a network.

    Args:
        config: The settings; offset and scale of temperature are filled in already.
        steps_per_epoch: Optimiser steps of an epoch.
        strategy: The devices.
        initial: A model of the same network to start from; None starts from random weights.
    """
    training = config.training
    with strategy.scope(), _precision(config):
        whole = build_model(config.model) if initial is None else _started(config, initial)
        trained = _side_by_side(whole) if config.model.gives_std else whole
        loss = build_loss(config.loss)
        metrics = build_loss_metrics(config.loss, loss)
        if config.knows_truth:
            metrics.append(RootMeanSquareErrorKelvin(name="rmse_kelvin"))
        trained.compile(
            optimizer=build_optimizer(training, steps_per_epoch, replica_count(strategy)),
            loss=loss,
            metrics=metrics,
            # Without compilation JAX would run the step operation by operation.
            jit_compile=training.xla or not uses_tensorflow(),
            run_eagerly=False,
        )
        # Built now, its variables lie on all replicas, and the step is traced once, not twice.
        trained.optimizer.build(trained.trainable_variables)
    with _policy("float32"):
        kept = build_model(_single(config.model)) if initial is None else _twin(initial)
    return TrainedNetwork(whole, trained, kept)


def _started(config: ExperimentConfig, initial: keras.Model) -> keras.Model:
    """Returns the network of the settings with the weights of another of its kind."""
    if isinstance(config.model, GuidedModelConfig):
        # Copied, not built: older weights have layers of their own, and a calibration.
        if config.training.mixed_precision:
            return in_bfloat16(initial)
        return _twin(initial)
    network = build_model(config.model)
    network.set_weights(initial.get_weights())
    return network


def _twin(model: keras.Model) -> keras.Model:
    twin = type(model).from_config(model.get_config())
    twin.set_weights(model.get_weights())
    return twin


def _side_by_side(model: keras.Model) -> keras.Model:
    outputs = [model.output["lst_kelvin_fine"], model.output["lst_std_kelvin"]]
    joined = keras.layers.Concatenate(dtype="float32", name="kelvin_and_std")(outputs)
    return keras.Model(model.input, joined)


def _single(model: NetworkConfig) -> NetworkConfig:
    if isinstance(model, ModelConfig):
        return model.model_copy(update={"synchronised_batch_norm": False})
    return model


@contextlib.contextmanager
def _precision(config: ExperimentConfig) -> Iterator[None]:
    if not config.training.mixed_precision:
        yield
        return
    # float16 needs a GPU's tensor cores and a scaled loss, which Keras adds by itself.
    with _policy("mixed_float16" if on_gpu() else "mixed_bfloat16"):
        yield


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def calibrated(model: keras.Model, config: ExperimentConfig, factor: float) -> keras.Model:
    """Returns the same network with its standard deviation, if it gives one, times a factor."""
    if not isinstance(config.model, GuidedModelConfig):
        return model
    twin = build_guided(config.model, calibration=factor)
    twin.set_weights(model.get_weights())
    return twin


def predicted_kelvin(model: keras.Model, inputs: dict[str, Any]) -> Any:
    """Returns fine LST ``[B, H, W, 1]`` in kelvin, whatever else the model gives."""
    outputs = model(inputs, training=False)
    fine = outputs["lst_kelvin_fine"] if isinstance(outputs, dict) else outputs
    return keras.ops.convert_to_numpy(fine)
