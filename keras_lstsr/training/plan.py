"""The arithmetic of batches, and the settings that only records and devices tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.records.schema import DatasetMetadata


@dataclass(frozen=True)
class Plan:
    """The arithmetic of batches.

    Attributes:
        replicas: Copies of the model that are trained in step.
        steps: Optimiser steps per epoch; each takes ``batch_size`` patches over all replicas.
        validation_patches: Validation patches used.
        validation_batch_size: Patches per validation step over all replicas.
    """

    replicas: int
    steps: int
    validation_patches: int
    validation_batch_size: int


def plan_batches(
    config: ExperimentConfig, metadata: DatasetMetadata, replicas: int, records_dir: Path
) -> Plan:
    """Checks that batches, records and devices fit, and counts the steps.

    Args:
        config: The settings.
        metadata: The records' description.
        replicas: Copies of the model that are trained in step.
        records_dir: Named in errors.

    Returns:
        The plan.

    Raises:
        ConfigError: If the batch cannot be shared among the replicas, or is larger than the
            training split.
        RecordsError: If the validation split holds fewer patches than replicas, or NDVI or fine
            LST is needed and not there.
    """
    batch = config.training.batch_size
    if batch % replicas:
        raise ConfigError(
            "the batch cannot be shared equally among the replicas",
            field="training.batch_size",
            found=batch,
            expected=f"a multiple of {replicas}",
            action=f"Take {batch + replicas - batch % replicas}: it counts over all replicas.",
        )
    training = metadata.counts.get("train", 0)
    if training < batch:
        raise ConfigError(
            "the training split holds less than one batch",
            path=records_dir,
            field="training.batch_size",
            found=f"a batch of {batch} and {training} training patches",
            action="Make the batch smaller, or prepare records from more scenes.",
        )
    validation = metadata.counts.get("validation", 0)
    if validation < replicas:
        raise RecordsError(
            "the validation split holds too little",
            path=records_dir,
            field="counts.validation",
            found=f"{validation} patches",
            expected=f"at least {replicas}",
            action="Prepare records from more scenes, or with a larger validation share.",
        )
    if config.loss.needs_guide and not metadata.has_guide:
        raise RecordsError(
            "these records hold no NDVI",
            path=records_dir,
            field="has_guide",
            found=False,
            expected=f"NDVI in every record, which loss.name {config.loss.name} learns from",
            action="Prepare the records with --ndvi, or take loss.name mse.",
        )
    needs_truth = config.data.task == "1km_to_250m" and config.loss.needs_fine_truth
    if needs_truth and not getattr(metadata, "has_truth", False):
        raise RecordsError(
            "these records hold no fine LST",
            path=records_dir,
            field="has_truth",
            found=False,
            expected=f"true 250 m LST, which loss.name {config.loss.name} learns from",
            action="Prepare the records with --truth, or take loss.name mixgl or sif.",
        )
    used, validation_batch = validation_batches(validation, batch, replicas)
    steps = training // batch
    return Plan(
        replicas=replicas,
        steps=min(steps, config.training.steps_per_epoch or steps),
        validation_patches=used,
        validation_batch_size=validation_batch,
    )


def validation_batches(patches: int, batch_size: int, replicas: int) -> tuple[int, int]:
    """Chooses validation batches of which every replica gets a part, the last one too.

    A batch is cut into parts of ``size / replicas`` patches, so a short last batch can leave the
    last replica without any, and convolutions fail on an empty batch.

    Args:
        patches: Validation patches, at least ``replicas``.
        batch_size: The training batch, a multiple of ``replicas``; validation takes no larger one.
        replicas: Copies of the model that are trained in step.

    Returns:
        The number of patches used, all but at most ``replicas - 1``, and the batch size.
    """
    used = patches - patches % replicas
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


def learning_rate(config: ExperimentConfig, epoch: int) -> float:
    """Returns the rate of an epoch, counted from 0."""
    training, schedule = config.training, config.training.schedule
    if schedule.drop_epoch is None or epoch < schedule.drop_epoch:
        return training.learning_rate
    return training.learning_rate / schedule.drop_factor
