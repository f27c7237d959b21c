"""The batches of a training: their arithmetic, and where they come from.

They come from tf.data where TensorFlow is the backend, from NumPy elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.dataset import make_dataset
from keras_lstsr.records.feed import SampleFeed
from keras_lstsr.records.reading import check_split
from keras_lstsr.records.schema import DatasetMetadata
from keras_lstsr.training.strategy import keep_samples, uses_tensorflow


@dataclass(frozen=True)
class Plan:
    """The arithmetic of batches.

    Attributes:
        replicas: Copies of the model that are trained in step.
        steps: Optimiser steps per epoch; each takes ``batch_size`` samples over all replicas.
        validation_samples: Validation samples used; 0 where there is no validation.
        validation_batch_size: Samples per validation step over all replicas.
    """

    replicas: int
    steps: int
    validation_samples: int
    validation_batch_size: int


@dataclass(frozen=True)
class Batches:
    """The batches of a training.

    Attributes:
        training: Batches of ``(inputs, target)``; a pass over them, or ``Plan.steps`` of them, is
            an epoch.
        validation: The same of the validation split; None without validation.
        callbacks: What training needs for them.
    """

    training: Any
    validation: Any | None
    callbacks: list[keras.callbacks.Callback] = field(default_factory=list)


def plan_batches(
    config: ExperimentConfig, metadata: DatasetMetadata, replicas: int, records_dir: Path
) -> Plan:
    """Checks that batches, records and devices fit, and counts the steps.

    Raises:
        ConfigError: If the batch cannot be shared among the replicas, or is larger than the
            training split.
        RecordsError: If the validation split holds fewer samples than replicas although it is
            needed, or a guide or fine LST is needed and not there.
    """
    training, batch = config.training, config.training.batch_size
    crops = config.data.crop_pixels is not None
    if batch % replicas:
        raise ConfigError(
            "the batch cannot be shared equally among the replicas",
            field="training.batch_size",
            found=batch,
            expected=f"a multiple of {replicas}",
            action=f"Take {batch + replicas - batch % replicas}: for all replicas together.",
        )
    samples = metadata.counts.get("train", 0)
    if samples < (1 if crops else batch):
        raise ConfigError(
            "the training split holds less than one batch",
            path=records_dir,
            field="training.batch_size",
            found=f"a batch of {batch} and {samples} training samples",
            action="Make the batch smaller, or prepare records from more scenes.",
        )
    validation = metadata.counts.get("validation", 0)
    if validation < replicas and training.needs_validation:
        raise RecordsError(
            "the validation split holds too little",
            path=records_dir,
            field="counts.validation",
            found=f"{validation} samples",
            expected=f"at least {replicas}",
            action="Prepare records from more scenes, or with a larger validation share; or train "
            "without one: training.keep last, no early stopping.",
        )
    check_split(records_dir, "train", BatchSettings.of(config), full_batches=False)
    used, validation_batch = 0, batch
    if validation >= replicas:
        used, validation_batch = validation_batches(validation, batch, replicas)
    steps = max(1, samples // batch)
    asked = training.steps_per_epoch or steps
    return Plan(
        replicas=replicas,
        steps=asked if crops else min(steps, asked),
        validation_samples=used,
        validation_batch_size=validation_batch,
    )


def validation_batches(samples: int, batch_size: int, replicas: int) -> tuple[int, int]:
    """Chooses validation batches of which every replica gets a part, the last one too.

    A batch is cut into parts of ``size / replicas`` samples, so a short last batch can leave the
    last replica without any, and convolutions fail on an empty batch. Validation takes no larger
    batch than training, whose size is a multiple of ``replicas``.

    Returns:
        The number of samples used, all but at most ``replicas - 1``, and the batch size.
    """
    used = samples - samples % replicas
    for share in range(min(batch_size, used) // replicas, 1, -1):
        last = used % (share * replicas)
        if last == 0 or last > share * (replicas - 1):
            return used, share * replicas
    return used, replicas


def resolve(config: ExperimentConfig, metadata: DatasetMetadata, replicas: int) -> ExperimentConfig:
    """Fills in what only records and devices tell: scaling of temperature, kind of BatchNorm."""
    if not isinstance(config.model, ModelConfig):
        return config
    summary = metadata.statistics["lst_kelvin"]
    model = config.model.with_statistics(
        mean_kelvin=summary.mean, std_kelvin=summary.std, max_kelvin=summary.max
    ).model_copy(update={"synchronised_batch_norm": replicas > 1})
    return config.model_copy(update={"model": model})


class PassOfEpoch(keras.callbacks.Callback):
    """Gives every epoch the batches of its own number, after a restart too.

    Args:
        feed: The training batches.
    """

    def __init__(self, feed: SampleFeed) -> None:
        super().__init__()
        self._feed = feed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins the pass."""
        self._feed.begin_pass(epoch)


def training_batches(
    config: ExperimentConfig, records_dir: str | PathLike[str], plan: Plan, *, first_epoch: int
) -> Batches:
    """Makes the batches of training and validation, from the first epoch on that is not complete.

    Raises:
        RecordsError: If the records cannot give such batches.
        ConfigError: If no crop has enough truth.
    """
    settings, seed = BatchSettings.of(config), config.training.seed
    # Of a task of two steps, the step that the network is for is the one to validate.
    scored = replace(settings.steps[0], batch_size=plan.validation_batch_size)
    if uses_tensorflow():
        training = _endless(records_dir, settings, plan, first_epoch=first_epoch, seed=seed)
        return Batches(training, _validation(records_dir, scored, plan))
    feed = SampleFeed(records_dir, "train", settings, training=True, seed=seed, steps=plan.steps)
    validation = None
    if plan.validation_samples:
        validation = SampleFeed(records_dir, "validation", scored, training=False)
    return Batches(feed, validation, [PassOfEpoch(feed)])


def _endless(
    records_dir: str | PathLike[str],
    settings: BatchSettings,
    plan: Plan,
    *,
    first_epoch: int,
    seed: int,
) -> Any:
    batches = make_dataset(
        records_dir,
        "train",
        settings,
        training=True,
        seed=seed,
        first_batch=first_epoch * plan.steps,
    )
    if settings.crop_pixels is not None:
        return batches
    batches = batches.take(plan.steps)
    for _ in range(first_epoch):
        # Each pass shuffles and turns anew, from a state that moves on when an iterator is made:
        # so a restart sees the samples in the order of an unbroken run. Nothing is read here.
        iter(batches)
    # Repeated here, one pass is one epoch; left to itself Keras makes two iterators per epoch.
    return batches.repeat()


def _validation(records_dir: str | PathLike[str], settings: BatchSettings, plan: Plan) -> Any:
    if not plan.validation_samples:
        return None
    batches = make_dataset(records_dir, "validation", settings, training=False)
    if plan.replicas > 1:
        return keep_samples(batches, plan.validation_samples, batch_size=settings.batch_size)
    return batches
