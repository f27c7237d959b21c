"""Fits one guided network, and lets it predict whole pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import GuidedModelConfig, PretrainConfig, PretrainTrainingConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import DetailLoss
from keras_lstsr.models.guided import build_guided
from keras_lstsr.pairs.patches import PatchSampler
from keras_lstsr.pairs.training_pairs import TrainingPair
from keras_lstsr.training.guided_batches import GuidedBatches, PatchSource

FloatArray = NDArray[np.float32]
StepProgress = Callable[[int, float], None]
"""Called after a step with its number, from 1 on, and the running mean of the loss."""

# The loss that is told is a running mean over about so many steps.
_LOSS_MEMORY_STEPS = 50
# Steps between the points of the curve that is kept.
CURVE_STEPS = 20


@dataclass(frozen=True)
class GuidedFit:
    """A fitted network.

    Attributes:
        model: As ``build_guided`` builds it, uncalibrated, with averaged weights.
        curve: Step → running mean of the loss, at every 20th step and the last.
        seconds: What fitting took.
    """

    model: Any
    curve: dict[int, float]
    seconds: float


def fit_guided(
    config: PretrainConfig,
    pairs: Sequence[TrainingPair],
    *,
    fine_scenes: Sequence[TrainingPair] = (),
    simulated: Sequence[TrainingPair] = (),
    progress: StepProgress | None = None,
) -> GuidedFit:
    """Fits a network to pairs.

    Args:
        config: The settings.
        pairs: What to learn from.
        fine_scenes: Pairs without a guide to mix in, see ``training.fine_scene_share``.
        simulated: What to learn from before, in ``training.simulated_steps``.
        progress: Called after each step.

    Returns:
        The network.

    Raises:
        ConfigError: If no pair has enough truth, or the loss is no longer finite.
    """
    training = config.training
    keras.utils.set_random_seed(training.seed)
    started = time.monotonic()
    model = build_guided(config.model)
    if training.simulated_steps:
        _fit(model, config, simulated, training.simulated_steps, seed=training.seed + 1)
    curve = _fit(
        model, config, pairs, training.steps, fine_scenes, seed=training.seed, progress=progress
    )
    return GuidedFit(model, curve, time.monotonic() - started)


def _fit(
    model: Any,
    config: PretrainConfig,
    pairs: Sequence[TrainingPair],
    steps: int,
    fine_scenes: Sequence[TrainingPair] = (),
    *,
    seed: int,
    progress: StepProgress | None = None,
) -> dict[int, float]:
    training = config.training
    share = training.fine_scene_share if fine_scenes else 0.0
    sources = [PatchSource(_sampler(pairs, training), 1 - share)]
    if share:
        sources.append(PatchSource(_sampler(fine_scenes, training), share, teaches_spread=False))
    batches = GuidedBatches(
        sources,
        config.augmentation,
        batch_size=training.batch_size,
        steps=steps,
        seed=seed,
    )
    # A Keras loss sees one output: kelvin and its standard deviation side by side.
    outputs = [model.output["lst_kelvin_fine"], model.output["lst_std_kelvin"]]
    side_by_side = keras.layers.Concatenate(dtype="float32", name="kelvin_and_std")(outputs)
    trained = keras.Model(model.input, side_by_side)
    trained.compile(
        optimizer=optimizer(training, steps),
        loss=DetailLoss(training.std_weight),
        jit_compile=_jit(),
    )
    watch = _Watch(steps, progress)
    # Keras puts the averaged weights in place when training ends.
    trained.fit(batches, epochs=1, shuffle=False, callbacks=[watch], verbose=0)
    return watch.curve


def _sampler(pairs: Sequence[TrainingPair], training: PretrainTrainingConfig) -> PatchSampler:
    return PatchSampler(pairs, training.patch_size, training.min_valid_share)


def optimizer(training: PretrainTrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """Builds AdamW with warm-up, cosine decay, clipped gradients and averaged weights.

    Args:
        training: The settings.
        steps: Steps of this training.
    """
    warmup = min(training.warmup_steps, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        training.learning_rate * (0.1 if warmup else 1.0),
        max(1, steps - warmup),
        alpha=training.final_learning_rate_share,
        warmup_target=training.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(
        rate,
        weight_decay=training.weight_decay,
        clipnorm=training.clip_norm,
        use_ema=training.ema_momentum > 0,
        ema_momentum=training.ema_momentum,
    )


def _jit() -> bool | str:
    # TensorFlow's XLA takes minutes to compile this network for CPUs and saves nothing there.
    return False if keras.config.backend() == "tensorflow" else "auto"


class _Watch(keras.callbacks.Callback):
    """Tells the loss, keeps its curve, and stops a training that has diverged."""

    def __init__(self, steps: int, progress: StepProgress | None) -> None:
        super().__init__()
        self._steps, self._progress = steps, progress
        self._sum = self._weight = 0.0
        self._before = 0.0
        self.curve: dict[int, float] = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = batch + 1
        # Keras tells the mean of all steps so far.
        mean = float((logs or {})["loss"])
        loss = mean * step - self._before
        self._before = mean * step
        if not np.isfinite(loss):
            raise ConfigError(
                "the loss is no longer finite",
                field="training.learning_rate",
                found=f"{loss} at step {step}",
                action="Lower the learning rate.",
            )
        keep = 1 - 1 / _LOSS_MEMORY_STEPS
        self._sum, self._weight = keep * self._sum + loss, keep * self._weight + 1
        running = self._sum / self._weight
        if step % CURVE_STEPS == 0 or step == self._steps:
            self.curve[step] = running
        if self._progress is not None:
            self._progress(step, running)


def predict_pair(model: Any, pair: TrainingPair) -> tuple[FloatArray, FloatArray]:
    """Predicts a whole pair at once.

    Args:
        model: As ``build_guided`` builds it.
        pair: Its truth is not read.

    Returns:
        Fine LST and its standard deviation in kelvin, both ``[h · f, w · f]``; NaN where LST is
        missing.
    """
    inputs = {"lst_kelvin": pair.lst_kelvin[None, ..., None], "ndvi": pair.ndvi[None, ..., None]}
    outputs = model(inputs, training=False)
    kelvin, std = (
        np.asarray(keras.ops.convert_to_numpy(outputs[name]), np.float32)[0, ..., 0]
        for name in ("lst_kelvin_fine", "lst_std_kelvin")
    )
    return kelvin, std


def calibrated(model: Any, config: GuidedModelConfig, factor: float) -> Any:
    """Returns the same network with its standard deviation times a factor.

    Args:
        model: As ``build_guided`` builds it.
        config: Its shape.
        factor: Found by cross-validation.
    """
    twin = build_guided(config, calibration=factor)
    twin.set_weights(model.get_weights())
    return twin
