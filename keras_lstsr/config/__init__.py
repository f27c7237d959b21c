"""Validated, immutable settings: data, model, loss and training; YAML in and out."""

from keras_lstsr.config.experiment import (
    AlphaScheduleConfig,
    Architecture,
    DataConfig,
    ExperimentConfig,
    LossConfig,
    LossName,
    ModelConfig,
    Task,
    TrainingConfig,
)
from keras_lstsr.config.pretraining import (
    AugmentationConfig,
    GuidedModelConfig,
    PretrainConfig,
    PretrainTrainingConfig,
)
from keras_lstsr.config.settings import SettingsFile

__all__ = [
    "AlphaScheduleConfig",
    "Architecture",
    "AugmentationConfig",
    "DataConfig",
    "ExperimentConfig",
    "GuidedModelConfig",
    "LossConfig",
    "LossName",
    "ModelConfig",
    "PretrainConfig",
    "PretrainTrainingConfig",
    "SettingsFile",
    "Task",
    "TrainingConfig",
]
