"""Settings of the guided model's training on pairs."""

from __future__ import annotations

from pydantic import Field

from keras_lstsr.config.data import AugmentationConfig
from keras_lstsr.config.networks import GuidedModelConfig
from keras_lstsr.config.settings import Settings, SettingsFile


class PretrainTrainingConfig(Settings):
    """How the guided network is trained on pairs.

    Attributes:
        steps: Optimiser steps on the pairs.
        batch_size: Patches per step.
        learning_rate: AdamW's rate after the warm-up; it falls along a cosine.
        final_learning_rate_share: Part of ``learning_rate`` at the end.
        warmup_steps: Steps in which the rate rises from a tenth; at most half of all.
        weight_decay: AdamW's.
        clip_norm: Longest gradient, of each weight tensor.
        ema_momentum: The model keeps the exponential moving average of its weights.
        std_weight: Weight of the likelihood from which the standard deviation is learnt.
        patch_size: Coarse pixels along a patch's side.
        min_valid_share: Part of a patch's fine pixels that have truth, at least.
        fine_scene_share: Share of the patches that are cut from scenes of fine LST instead, where
            such are given; they have no NDVI.
        simulated_steps: Steps on simulated scenes before; 0 leaves them out.
        simulated_scenes: Simulated scenes for those steps.
        seed: Seeds weights, patches and their variation.
    """

    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    final_learning_rate_share: float = Field(default=0.01, ge=0, le=1)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_momentum: float = Field(default=0.995, ge=0, lt=1)
    std_weight: float = Field(default=0.1, ge=0)
    patch_size: int = Field(default=24, ge=2)
    min_valid_share: float = Field(default=0.3, gt=0, le=1)
    fine_scene_share: float = Field(default=0.06, ge=0, lt=1)
    simulated_steps: int = Field(default=0, ge=0)
    simulated_scenes: int = Field(default=16, ge=1)
    seed: int = 0


class PretrainConfig(SettingsFile):
    """Everything that defines the pretraining of the guided network but its pairs.

    Attributes:
        name: Names the experiment in MLflow.
        folds: Parts of the pairs, by place, each of which is predicted by a model that has seen
            only the others.
        model: See ``GuidedModelConfig``.
        augmentation: See ``AugmentationConfig``.
        training: See ``PretrainTrainingConfig``.
    """

    name: str = "lstsr-guided"
    folds: int = Field(default=4, ge=2)
    model: GuidedModelConfig = GuidedModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: PretrainTrainingConfig = PretrainTrainingConfig()
