"""Losses: one value per sample, missing pixels without weight, any Keras backend."""

from keras_lstsr.losses.detail import DetailLoss
from keras_lstsr.losses.mixgl import REPORT_OPTIONS, MixedGradientLoss
from keras_lstsr.losses.monitoring import AlphaWeight, MeanGradientError
from keras_lstsr.losses.perceptual import PerceptualLoss
from keras_lstsr.losses.pixelwise import (
    MaskedCharbonnier,
    MaskedHuber,
    MaskedMeanAbsoluteError,
    MaskedMeanSquaredError,
)
from keras_lstsr.losses.registry import build_loss, build_loss_metrics
from keras_lstsr.losses.scale_invariance_free import ScaleInvarianceFreeLoss
from keras_lstsr.losses.self_supervised import SelfSupervisedLoss

__all__ = [
    "REPORT_OPTIONS",
    "AlphaWeight",
    "DetailLoss",
    "MaskedCharbonnier",
    "MaskedHuber",
    "MaskedMeanAbsoluteError",
    "MaskedMeanSquaredError",
    "MeanGradientError",
    "MixedGradientLoss",
    "PerceptualLoss",
    "ScaleInvarianceFreeLoss",
    "SelfSupervisedLoss",
    "build_loss",
    "build_loss_metrics",
]
