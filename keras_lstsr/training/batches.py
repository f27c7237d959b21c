"""The batches of a training: tf.data where TensorFlow is the backend, NumPy elsewhere."""

from __future__ import annotations

from os import PathLike
from typing import Any

import keras

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.records.dataset import make_dataset
from keras_lstsr.records.feed import PatchFeed
from keras_lstsr.training.plan import Plan
from keras_lstsr.training.strategy import keep_patches, uses_tensorflow


class PassOfEpoch(keras.callbacks.Callback):
    """Gives every epoch the order and the symmetries of its own number, after a restart too.

    Args:
        feed: The training batches.
    """

    def __init__(self, feed: PatchFeed) -> None:
        super().__init__()
        self._feed = feed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins the pass."""
        self._feed.begin_pass(epoch)


def training_batches(
    config: ExperimentConfig, records_dir: str | PathLike[str], plan: Plan, *, first_epoch: int
) -> tuple[Any, Any, list[keras.callbacks.Callback]]:
    """Makes the batches of training and validation.

    Args:
        config: The settings.
        records_dir: Folder of records.
        plan: The arithmetic of batches.
        first_epoch: Epochs that were completed before.

    Returns:
        Training batches, validation batches, and callbacks that training needs for them. One pass
        over the training batches, or ``plan.steps`` of them, is one epoch.

    Raises:
        RecordsError: If the records cannot give such batches.
    """
    if uses_tensorflow():
        return (*_pipelines(config, records_dir, plan, first_epoch), [])
    with_guide, training = config.loss.needs_guide, config.training
    feed = PatchFeed(
        records_dir,
        "train",
        config.data,
        batch_size=training.batch_size,
        training=True,
        seed=training.seed,
        with_guide=with_guide,
        steps=plan.steps,
    )
    validation = PatchFeed(
        records_dir,
        "validation",
        config.data,
        batch_size=plan.validation_batch_size,
        training=False,
        with_guide=with_guide,
    )
    return feed, validation, [PassOfEpoch(feed)]


def _pipelines(
    config: ExperimentConfig, records_dir: str | PathLike[str], plan: Plan, first_epoch: int
) -> tuple[Any, Any]:
    with_guide = config.loss.needs_guide
    batches = make_dataset(
        records_dir,
        "train",
        config.data,
        batch_size=config.training.batch_size,
        training=True,
        seed=config.training.seed,
        drop_remainder=True,
        with_guide=with_guide,
    )
    if config.training.steps_per_epoch is not None:
        batches = batches.take(plan.steps)
    for _ in range(first_epoch):
        # Each pass shuffles and turns anew, from a state that moves on when an iterator is made:
        # so a restart sees the patches in the order of an unbroken run. Nothing is read here.
        iter(batches)
    # Repeated here, one pass is one epoch; left to itself Keras makes two iterators per epoch.
    batches = batches.repeat()
    validation = make_dataset(
        records_dir,
        "validation",
        config.data,
        batch_size=plan.validation_batch_size,
        training=False,
        drop_remainder=False,
        with_guide=with_guide,
    )
    if plan.replicas > 1:
        validation = keep_patches(
            validation, plan.validation_patches, batch_size=plan.validation_batch_size
        )
    return batches, validation
