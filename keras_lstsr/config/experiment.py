"""Settings of an experiment: data, model, loss, training and cross-validation."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from keras_lstsr.config.data import DataConfig
from keras_lstsr.config.losses import LossConfig
from keras_lstsr.config.networks import GUIDED, ModelConfig, NetworkConfig
from keras_lstsr.config.settings import SettingsFile
from keras_lstsr.config.training import CrossValidationConfig, TrainingConfig


class ExperimentConfig(SettingsFile):
    """Everything that defines an experiment but its data.

    Attributes:
        name: Names the experiment in MLflow.
        description: What the model is, in sentences, for its card.
        data: See ``DataConfig``.
        model: See ``ModelConfig``, and ``GuidedModelConfig`` for the architecture ``"guided"``.
        loss: See ``LossConfig``.
        training: See ``TrainingConfig``.
        cross_validation: See ``CrossValidationConfig``.
    """

    renamed: ClassVar[dict[str, str]] = {
        "training.learning_rate_drop_epoch": "training.schedule: {kind: drop, drop_epoch: …}",
        "training.learning_rate_drop_factor": "training.schedule.drop_factor",
        "training.final_learning_rate_share": "training.schedule.final_share",
        "training.warmup_steps": "training.schedule: {kind: cosine, warmup_steps: …}",
        "training.steps": "training.epochs times training.steps_per_epoch",
        "training.std_weight": "loss.options.std_weight",
        "training.patch_size": "data.crop_pixels",
        "training.min_valid_share": "data.min_valid_share",
        "training.fine_scene_share": "data.degraded_share",
        "augmentation": "data.variation, with guide_… for ndvi_… and data.augment for turns",
        "folds": "cross_validation.folds",
    }

    name: str = "lstsr"
    description: str = ""
    data: DataConfig = DataConfig()
    model: NetworkConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    cross_validation: CrossValidationConfig = CrossValidationConfig()

    @property
    def knows_truth(self) -> bool:
        """Whether channel 0 of the target is LST that is truly fine."""
        return self.data.task == "4km_to_1km" or self.loss.needs_fine_truth

    @model_validator(mode="after")
    def _network_and_loss_fit(self) -> Self:
        if self.model.gives_std and not self.loss.needs.std:
            raise ValueError(
                f"loss.name {self.loss.name} does not teach the standard deviation that the "
                f"{self.model.network} network gives: set loss.name to detail"
            )
        if self.loss.needs.std and not self.model.gives_std:
            raise ValueError(
                f"loss.name {self.loss.name} needs a network that gives a standard deviation: "
                f"set model.architecture to {GUIDED}"
            )
        return self
