"""Settings of the guided model and of its training on pairs."""

from __future__ import annotations

from pydantic import Field, field_validator

from keras_lstsr.config.settings import Settings, SettingsFile

LEAST_GUIDE_VARIANCE = 1e-4
"""Variance of NDVI below which a window says nothing of how LST follows NDVI."""

LEAST_LST_VARIANCE = 1e-4
"""Variance of LST, in square kelvin, that a window has at least."""


class GuidedModelConfig(Settings):
    """The shape of the NDVI-guided network; see ``keras_lstsr.models.guided``.

    Attributes:
        width: Channels of the finest level.
        scale_factor: Fine pixels along a coarse pixel's side.
        narrow_window_pixels: Side of the window, in coarse pixels, in which LST is regressed on
            the guide for the first guess; odd.
        wide_window_pixels: Side of the window whose statistics tell the network what kind of
            scene it sees, and whose slope steadies the narrow one; odd.
        slope_prior: How far the narrow window's slope is drawn to the wide one's: the weight of
            the wide window's guide variance beside the narrow one's own.
        level_window_pixels: Side of the window, in coarse pixels, over which the network's
            correction is kept at a mean of zero, so that the level of LST stays MODIS's; odd.
        full_explained_share: Share of LST's variance in the wide window that NDVI must explain for
            the result to follow NDVI in full; below, it fades to bicubic.
        full_slope_kelvin: Kelvin per unit of NDVI that the wide window's slope must have for the
            same, by its size.
    """

    width: int = Field(default=32, ge=1)
    scale_factor: int = Field(default=4, ge=2)
    narrow_window_pixels: int = Field(default=5, ge=3)
    wide_window_pixels: int = Field(default=25, ge=5)
    slope_prior: float = Field(default=0.3, ge=0)
    level_window_pixels: int = Field(default=7, ge=1)
    full_explained_share: float = Field(default=0.3, gt=0, le=1)
    full_slope_kelvin: float = Field(default=12.0, gt=0)

    @field_validator("narrow_window_pixels", "wide_window_pixels", "level_window_pixels")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that the window has a middle pixel")
        return value


class AugmentationConfig(Settings):
    """How a patch of a pair is varied each time it is seen.

    Attributes:
        turns: Quarter turns and flips of the whole patch.
        lst_contrast: Standard deviation of the logarithm of the factor by which LST and truth
            alike depart from the patch's mean.
        lst_offset_kelvin: Standard deviation of what is added to LST and truth alike.
        other_contrast_share: Share of patches whose LST and truth depart from the mean by a
            factor between −1 and 1 instead, evenly drawn: by night and in other seasons LST hardly
            follows NDVI, or the other way round, and the model is to read that from the scene.
        lst_noise_kelvin: Standard deviation of the noise of each coarse pixel; LST alone.
        ndvi_contrast: As ``lst_contrast``, of NDVI.
        ndvi_offset: Standard deviation of what is added to NDVI.
        ndvi_noise: Standard deviation of the noise of each NDVI pixel.
        ndvi_shift_pixels: Standard deviation, along either axis, of the shift of NDVI in fine
            pixels, as imperfect registration leaves it.
        ndvi_shift_share: Share of patches whose NDVI is shifted.
        cloud_share: Share of patches with clouds put into LST.
        ndvi_gap_share: Share of patches with gaps put into NDVI.
        ndvi_absent_share: Share of patches without any NDVI, from which the model learns what to
            do with LST alone.
        gap_cover: Least and largest part of a patch that clouds or gaps put into it cover.
    """

    turns: bool = True
    lst_contrast: float = Field(default=0.2, ge=0)
    lst_offset_kelvin: float = Field(default=5.0, ge=0)
    other_contrast_share: float = Field(default=0.0, ge=0, le=1)
    lst_noise_kelvin: float = Field(default=0.0, ge=0)
    ndvi_contrast: float = Field(default=0.1, ge=0)
    ndvi_offset: float = Field(default=0.02, ge=0)
    ndvi_noise: float = Field(default=0.0, ge=0)
    ndvi_shift_pixels: float = Field(default=0.3, ge=0)
    ndvi_shift_share: float = Field(default=0.0, ge=0, le=1)
    cloud_share: float = Field(default=0.15, ge=0, le=1)
    ndvi_gap_share: float = Field(default=0.1, ge=0, le=1)
    ndvi_absent_share: float = Field(default=0.1, ge=0, le=1)
    gap_cover: tuple[float, float] = (0.05, 0.4)

    @field_validator("gap_cover")
    @classmethod
    def _part(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] < 1:
            raise ValueError("must be two parts of 1, the smaller first")
        return value


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
