"""Validated, immutable settings: data, model, loss and training; YAML in and out.

The names are imported on first use: who predicts needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_lstsr.config.data import AugmentationConfig, DataConfig, Task
    from keras_lstsr.config.experiment import ExperimentConfig
    from keras_lstsr.config.losses import LOSSES, AlphaScheduleConfig, Loss, LossConfig
    from keras_lstsr.config.networks import (
        GUIDED,
        NETWORKS,
        GuidedModelConfig,
        ModelConfig,
        Network,
        NetworkConfig,
    )
    from keras_lstsr.config.settings import SettingsFile
    from keras_lstsr.config.training import CrossValidationConfig, ScheduleConfig, TrainingConfig

__all__ = [
    "GUIDED",
    "LOSSES",
    "NETWORKS",
    "AlphaScheduleConfig",
    "AugmentationConfig",
    "CrossValidationConfig",
    "DataConfig",
    "ExperimentConfig",
    "GuidedModelConfig",
    "Loss",
    "LossConfig",
    "ModelConfig",
    "Network",
    "NetworkConfig",
    "ScheduleConfig",
    "SettingsFile",
    "Task",
    "TrainingConfig",
]

_HOMES = ("settings", "networks", "losses", "data", "training", "experiment")


def __getattr__(name: str) -> Any:
    for home in _HOMES if name in __all__ else ():
        module = importlib.import_module(f"keras_lstsr.config.{home}")
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module 'keras_lstsr.config' has no attribute {name!r}")
