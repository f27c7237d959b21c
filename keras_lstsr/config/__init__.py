"""Validated, immutable settings: data, model, loss and training; YAML in and out."""

from keras_lstsr.config.data import AugmentationConfig, DataConfig, Task
from keras_lstsr.config.experiment import ExperimentConfig
from keras_lstsr.config.losses import LOSS_NEEDS, AlphaScheduleConfig, LossConfig, LossNeeds
from keras_lstsr.config.networks import (
    GUIDED,
    LEAST_GUIDE_VARIANCE,
    LEAST_LST_VARIANCE,
    NETWORK_SHAPES,
    GuidedModelConfig,
    ModelConfig,
    NetworkConfig,
    NetworkShape,
)
from keras_lstsr.config.pretraining import PretrainConfig, PretrainTrainingConfig
from keras_lstsr.config.settings import SettingsFile
from keras_lstsr.config.training import CrossValidationConfig, ScheduleConfig, TrainingConfig

__all__ = [
    "GUIDED",
    "LEAST_GUIDE_VARIANCE",
    "LEAST_LST_VARIANCE",
    "LOSS_NEEDS",
    "NETWORK_SHAPES",
    "AlphaScheduleConfig",
    "AugmentationConfig",
    "CrossValidationConfig",
    "DataConfig",
    "ExperimentConfig",
    "GuidedModelConfig",
    "LossConfig",
    "LossNeeds",
    "ModelConfig",
    "NetworkConfig",
    "NetworkShape",
    "PretrainConfig",
    "PretrainTrainingConfig",
    "ScheduleConfig",
    "SettingsFile",
    "Task",
    "TrainingConfig",
]
