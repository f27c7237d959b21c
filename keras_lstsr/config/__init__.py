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
    LEAST_GUIDE_VARIANCE,
    LEAST_LST_VARIANCE,
    AugmentationConfig,
    GuidedModelConfig,
    PretrainConfig,
    PretrainTrainingConfig,
)
from keras_lstsr.config.settings import SettingsFile

__all__ = [
    "LEAST_GUIDE_VARIANCE",
    "LEAST_LST_VARIANCE",
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
