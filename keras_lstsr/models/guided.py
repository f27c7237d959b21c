"""The guided network: 1 km LST and guides of 250 m in, 250 m LST and its uncertainty out.

A local regression of LST on each guide, such as NDVI, gives a first guess, as TsHARP does but
window by window; a small U-Net corrects it. What a guide says is given to the network in kelvin and
in units of the contrast that LST itself has around, so that it works where contrasts are far from
those that it has learnt from. Any guide may be missing: without one the network rests on LST alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
from keras import layers, ops

from keras_lstsr.config.guides import Guide, guide_named
from keras_lstsr.models.guidance import (
    BlockMean,
    CoverWeight,
    DetailAgreement,
    LandAlone,
    LocalRegression,
    LocalSpread,
    WindowMean,
)
from keras_lstsr.models.layers import (
    PACKAGE,
    ConfiguredLayer,
    CropToReference,
    FillGaps,
    KelvinLayer,
    MaskGaps,
    PadToMinimum,
    Shape,
    Upsample,
    window_mean,
)

if TYPE_CHECKING:
    from keras_lstsr.config import GuidedModelConfig

EMPTY_KELVIN = 290.0
LEVELS = 3
# Pixels of this level are four fine ones wide, as those of LST.
COARSE_LEVEL = 2
SIDE_MULTIPLE = 2**LEVELS
"""Fine pixels: the network halves the fine grid three times."""

WATER = "water"

# The network gets kelvin in units in which they are about 1 on real scenes.
_LEVEL_KELVIN, _NARROW_KELVIN, _WARMTH_KELVIN, _SPREAD_KELVIN = 5.0, 2.0, 15.0, 3.0
_REFERENCE_KELVIN = 300.0
# Contrast of LST between neighbours that a scene has at least: less is noise.
_LEAST_CONTRAST_KELVIN = 0.1
# Kelvin that a guide's typical spread must stand for to be followed at all.
_LEAST_GUESS_KELVIN = 0.2
# The footprint blurs LST and so its agreement with a guide: two thirds are full agreement.
_FULL_AGREEMENT = 2 / 3
# Side of the window, in fine pixels, in which half must be known for a gap to be filled.
_FILLED_WINDOW = 5
# Standard deviations that the uncertainty can take, in units of LST's contrast.
_LEAST_STD, _INITIAL_STD = 0.05, 1.0


@keras.saving.register_keras_serializable(package=PACKAGE)
class DetailOfGuide(KelvinLayer):
    """What a guide shows below a coarse pixel; none where too little of it is known.

    Inputs: ``[filled guide, its coarse means upsampled, guide]``, ``[B, H, W, 1]`` each; the last
    is NaN where missing. Output: ``[B, H, W, 1]``, the first less the second. Where the guide is
    missing, it is multiplied by twice the share that is known in 5 × 5 pixels, up to 1.
    """

    def call(self, inputs: list[Any]) -> Any:
        """See the class."""
        filled, smooth, guide = inputs
        known = ops.cast(ops.logical_not(ops.isnan(guide)), self.compute_dtype)
        around = ops.minimum(2.0 * window_mean(known, _FILLED_WINDOW), 1.0)
        return (filled - smooth) * ops.maximum(known, around)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LstFeatures(KelvinLayer):
    """What the network sees of LST alone.

    Inputs: ``[lst_bicubic, spread_bilinear]`` on the fine grid; the second is ``LocalSpread``'s.
    Outputs: ``[B, H, W, 8]`` in units of about 1; and ``[B, H, W, 1]`` the contrast of LST between
    neighbours in kelvin, at least 0.1 K.
    """

    def call(self, inputs: list[Any]) -> tuple[Any, Any]:
        """See the class."""
        lst, statistics = inputs
        narrow_mean, wide_mean, spread, contrast = (statistics[..., k : k + 1] for k in range(4))
        contrast = ops.maximum(contrast, _LEAST_CONTRAST_KELVIN)
        features = [
            (lst - wide_mean) / _LEVEL_KELVIN,
            (lst - narrow_mean) / _NARROW_KELVIN,
            (wide_mean - _REFERENCE_KELVIN) / _WARMTH_KELVIN,
            spread / _SPREAD_KELVIN,
            (lst - wide_mean) / (spread + _LEAST_CONTRAST_KELVIN),
            (lst - narrow_mean) / contrast,
            ops.log(contrast),
            ops.log((spread + _LEAST_CONTRAST_KELVIN) / contrast),
        ]
        return ops.concatenate(features, axis=-1), contrast

    def compute_output_shape(self, input_shape: list[Shape]) -> tuple[Shape, ...]:
        """``[B, H, W, 8]`` and ``[B, H, W, 1]``."""
        fine = tuple(input_shape[0][:3])
        return (*fine, 8), (*fine, 1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LevelGuideFeatures(KelvinLayer):
    """What the network sees of a guide that LST is regressed on, and the first guess from it.

    Inputs: ``[guide_filled, guide_detail, statistics_bilinear, agreement_bilinear,
    residual_bicubic, contrast]``, all on the fine grid; statistics are those of
    ``LocalRegression``, agreement that of ``DetailAgreement``. Outputs: ``[B, H, W, 13]`` in units
    of about 1; the detail in kelvin that the guide lets guess; and how far it is followed, 0 to 1,
    both ``[B, H, W, 1]``.

    How far the guide is followed is ``min(e / e₀, 1) · min(|s| / s₀, 1) · clip(1.5 γ, 0, 1)`` with
    the share e of LST's variance that the guide explains in the wide window, the slope s there, and
    γ = a s / (s² + s₁²) with the slope a between neighbours' differences.

    Args:
        typical_spread: Of the guide, in its unit.
        full_explained_share: e₀.
        full_slope_kelvin: s₀, in kelvin per typical spread of the guide.
    """

    def __init__(
        self,
        typical_spread: float,
        full_explained_share: float = 0.3,
        full_slope_kelvin: float = 1.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.typical_spread = float(typical_spread)
        self.full_explained_share = float(full_explained_share)
        self.full_slope_kelvin = float(full_slope_kelvin)

    def call(self, inputs: list[Any]) -> tuple[Any, Any, Any]:
        """See the class."""
        guide, detail, statistics, agreement, residual, contrast = inputs
        # From here on slopes are kelvin per typical spread, detail is in typical spreads.
        slope, wide_slope = (statistics[..., k : k + 1] * self.typical_spread for k in (0, 4))
        explained, share = statistics[..., 6:7], statistics[..., 7:8]
        own_slope, correlation = agreement[..., :1] * self.typical_spread, agreement[..., 1:]
        detail = detail / self.typical_spread
        kept = own_slope * wide_slope / (wide_slope**2 + _LEAST_GUESS_KELVIN**2)
        followed = (
            ops.clip(explained / self.full_explained_share, 0.0, 1.0)
            * ops.minimum(ops.abs(wide_slope) / self.full_slope_kelvin, 1.0)
            * ops.clip(kept / _FULL_AGREEMENT, 0.0, 1.0)
        )
        whole = slope * detail
        features = [
            guide / (10 * self.typical_spread),
            detail,
            whole,
            whole / contrast,
            followed * whole / contrast,
            slope / _NARROW_KELVIN,
            wide_slope / _NARROW_KELVIN,
            own_slope / _NARROW_KELVIN,
            correlation,
            explained,
            share,
            residual / _NARROW_KELVIN,
            residual / contrast,
        ]
        return ops.concatenate(features, axis=-1), followed * whole, followed

    def compute_output_shape(self, input_shape: list[Shape]) -> tuple[Shape, ...]:
        """``[B, H, W, 13]`` and twice ``[B, H, W, 1]``."""
        fine = tuple(input_shape[0][:3])
        return (*fine, 13), (*fine, 1), (*fine, 1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class DetailGuideFeatures(KelvinLayer):
    """What the network sees of a guide that is detail of LST itself, such as that of other dates.

    Inputs: ``[detail, guide, agreement_bilinear, contrast]`` on the fine grid; ``guide`` is NaN
    where missing. Outputs: ``[B, H, W, 6]`` in units of about 1; and ``[B, H, W, 1]`` how far LST's
    differences between neighbours agree with the guide's, 0 to 1.
    """

    def call(self, inputs: list[Any]) -> tuple[Any, Any]:
        """See the class."""
        detail, guide, agreement, contrast = inputs
        slope, correlation = agreement[..., :1], agreement[..., 1:]
        known = ops.cast(ops.logical_not(ops.isnan(guide)), self.compute_dtype)
        slope = ops.clip(slope, -2.0, 2.0)
        features = [
            detail / _NARROW_KELVIN,
            detail / contrast,
            slope * detail / contrast,
            slope,
            correlation,
            known,
        ]
        return ops.concatenate(features, axis=-1), known * ops.clip(correlation, 0.0, 1.0)

    def compute_output_shape(self, input_shape: list[Shape]) -> tuple[Shape, ...]:
        """``[B, H, W, 6]`` and ``[B, H, W, 1]``."""
        fine = tuple(input_shape[0][:3])
        return (*fine, 6), (*fine, 1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class StandardDeviation(KelvinLayer):
    """Turns any number into a standard deviation, at least 0.05.

    ``softplus(x + x0) · calibration``, with x0 such that 0 gives 1 before calibration. The unit is
    what the result is multiplied with: kelvin, or the contrast of LST.

    Args:
        calibration: Factor found by cross-validation; 1 before.
    """

    def __init__(self, calibration: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calibration = float(calibration)

    def call(self, values: Any) -> Any:
        """Maps ``[B, H, W, 1]``."""
        shift = math.log(math.expm1(_INITIAL_STD))
        return (ops.softplus(values + shift) + _LEAST_STD) * self.calibration


@keras.saving.register_keras_serializable(package=PACKAGE)
class StopGradient(ConfiguredLayer):
    """Passes values on and no gradient back."""

    def call(self, values: Any) -> Any:
        """Returns its input."""
        return ops.stop_gradient(values)


def build_guided(config: GuidedModelConfig, *, calibration: float = 1.0) -> keras.Model:
    """Builds the guided model: coarse kelvin and fine guides in, fine kelvin and its spread out.

    Gaps are filled inside for the network's sake. A missing coarse pixel is missing on its own
    fine pixels, and nowhere else. Where a guide is missing, its detail is taken as none. With all
    guides missing the model works from LST alone. Water, given or as NDVI tells it, sets no slope
    of land.

    Args:
        config: The network's shape.
        calibration: Factor of the uncertainty.

    Returns:
        A model with the inputs ``lst_kelvin`` ``[B, h, w, 1]`` and the guides by their names, e.g.
        ``ndvi``, ``[B, h·f, w·f, 1]`` (float32, NaN where missing) and the outputs
        ``lst_kelvin_fine`` (kelvin), ``lst_std_kelvin`` and ``guide_followed`` (0 to 1, the
        greatest of the guides'), all ``[B, h·f, w·f, 1]``; batch, height and width are free. The
        standard deviation is that of the error of detail, not of a bias that a whole scene has.
        The network itself is the layer ``guided``; untrained, it adds nothing to the first guess.
    """
    factor = config.scale_factor
    lst = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    fine_guides = {
        name: keras.Input((None, None, 1), dtype="float32", name=name) for name in config.guides
    }
    filled_lst = FillGaps(EMPTY_KELVIN, name="fill_lst")(lst)
    bicubic = Upsample(factor, name="upsample_lst")(filled_lst)
    spread = LocalSpread(
        config.narrow_window_pixels, config.wide_window_pixels, name="local_spread"
    )([filled_lst, lst])
    spread = Upsample(factor, "bilinear", name="upsample_spread")(spread)
    own, contrast = LstFeatures(name="lst_features")([bicubic, spread])
    features, followed = [own], []
    guesses: list[Any] = []
    for name, fine_guide in fine_guides.items():
        if name != WATER and not guide_named(name).is_detail and WATER in fine_guides:
            fine_guide = LandAlone(name=f"{name}_of_land")([fine_guide, fine_guides[WATER]])
        stage = _GuideStage(config, guide_named(name), filled_lst, lst, contrast)
        found = stage.features(fine_guide)
        features.append(found[0])
        followed.append(found[-1])
        guesses += found[1:-1]
    joined = layers.Concatenate(dtype="float32", name="features")(features)
    padded = PadToMinimum(SIDE_MULTIPLE, SIDE_MULTIPLE, "end", dtype="float32", name="pad")(joined)
    correction, logit = guided_network(config.width, joined.shape[-1])(padded)
    correction = CropToReference(side="end", name="crop_correction")([correction, bicubic])
    correction = layers.Multiply(dtype="float32", name="correction_kelvin")([correction, contrast])
    coarse_correction = BlockMean(factor, name="coarse_correction")(correction)
    level = WindowMean(config.level_window_pixels, name="correction_level")(coarse_correction)
    level = Upsample(factor, "bilinear", name="upsample_level")(level)
    correction = layers.Subtract(dtype="float32", name="detail_alone")([correction, level])
    kelvin = layers.Add(dtype="float32", name="first_guess_plus_correction")(
        [bicubic, *guesses, correction]
    )
    logit = CropToReference(side="end", name="crop_spread")([logit, bicubic])
    std = StandardDeviation(calibration, name="standard_deviation")(logit)
    std = layers.Multiply(dtype="float32", name="std_kelvin")([std, contrast])
    most = followed[0]
    if len(followed) > 1:
        most = layers.Maximum(dtype="float32", name="most_followed")(followed)
    outputs = {
        "lst_kelvin_fine": MaskGaps(factor, name="lst_kelvin_fine")([kelvin, lst]),
        "lst_std_kelvin": MaskGaps(factor, name="lst_std_kelvin")([std, lst]),
        "guide_followed": MaskGaps(factor, name="guide_followed")([most, lst]),
    }
    return keras.Model({"lst_kelvin": lst, **fine_guides}, outputs, name="guided_model")


class _GuideStage:
    """The part of the model that looks at one guide."""

    def __init__(
        self, config: GuidedModelConfig, guide: Guide, filled_lst: Any, lst: Any, contrast: Any
    ) -> None:
        self._config, self._guide = config, guide
        self._filled_lst, self._lst, self._contrast = filled_lst, lst, contrast

    def features(self, fine_guide: Any) -> tuple[Any, ...]:
        """Returns features, the first guess if the guide gives one, and how far it is followed."""
        config, guide, name = self._config, self._guide, self._guide.name
        factor, contrast = config.scale_factor, self._contrast
        windows = config.narrow_window_pixels, config.wide_window_pixels
        filled = FillGaps(guide.stand_in, name=f"fill_{name}")(fine_guide)
        coarse = BlockMean(factor, name=f"coarse_{name}")(filled)
        weight = CoverWeight(factor, name=f"{name}_weight")([self._lst, fine_guide])
        smooth = Upsample(factor, name=f"upsample_{name}")(coarse)
        if guide.is_detail:
            smooth = layers.Rescaling(0.0, dtype="float32", name=f"{name}_whole")(smooth)
        detail = DetailOfGuide(name=f"{name}_detail")([filled, smooth, fine_guide])
        agreement = DetailAgreement(*windows, 0.1 * guide.typical_spread, name=f"{name}_agreement")(
            [self._filled_lst, coarse, weight]
        )
        agreement = Upsample(factor, "bilinear", name=f"upsample_{name}_agreement")(agreement)
        if guide.is_detail:
            layer = DetailGuideFeatures(name=f"{name}_features")
            return tuple(layer([detail, fine_guide, agreement, contrast]))
        statistics = LocalRegression(*windows, config.slope_prior, name=f"{name}_regression")(
            [self._filled_lst, coarse, weight]
        )
        residual = Upsample(factor, name=f"upsample_{name}_residual")(statistics[..., 1:2])
        statistics = Upsample(factor, "bilinear", name=f"upsample_{name}_statistics")(statistics)
        layer = LevelGuideFeatures(
            guide.typical_spread,
            config.full_explained_share,
            config.full_slope_kelvin,
            name=f"{name}_features",
        )
        return tuple(layer([filled, detail, statistics, agreement, residual, contrast]))


def guided_network(width: int, channels: int) -> keras.Model:
    """Builds the U-Net of the guided model.

    Four levels of 1, 2, 3 and 4 times ``width`` channels with residual blocks (Conv → SiLU → Conv,
    + input, SiLU) and strided convolutions between them; only one block works on the finest level,
    where a pixel costs most. The level of every fourth pixel, about that of LST itself, also sees
    the features' own means and gives a part of the correction: what LST alone says of contrast
    between neighbouring LST pixels is learnt soon there, and hardly ever from the finest level.
    No normalisation layers: they blur temperature differences between scenes, and batches are
    small.

    Args:
        width: Channels of the finest level.
        channels: Channels of the features.

    Returns:
        A model ``[B, H, W, channels] → ([B, H, W, 1], [B, H, W, 1])``: correction in units of LST's
        contrast, zero before training, and the logit of the standard deviation. H and W are
        multiples of 8. The second output sends no gradient into what makes the first.
    """
    features = keras.Input((None, None, channels), dtype="float32", name="features")
    means = layers.AveragePooling2D(2**COARSE_LEVEL, name="coarse_features")(features)
    skips = [_activated(_convolution(features, width, 3, "stem"), "stem")]
    x = skips[0]
    for level in range(1, LEVELS + 1):
        deep = (level + 1) * width
        x = _activated(
            layers.Conv2D(deep, 2, strides=2, name=f"down{level}_conv")(x), f"down{level}"
        )
        if level == COARSE_LEVEL:
            x = layers.Concatenate(name="with_coarse_features")([x, means])
            x = _activated(_convolution(x, deep, 3, "coarse_merge"), "coarse_merge")
        for block in range(1, 2 if level == 1 else 3):
            x = _residual_block(x, f"down{level}_block{block}")
        skips.append(x)
    for level in range(LEVELS - 1, -1, -1):
        deep = (level + 1) * width
        x = layers.Conv2DTranspose(deep, 2, strides=2, name=f"up{level}_conv")(x)
        x = layers.Concatenate(name=f"up{level}_skip")([x, skips[level]])
        x = _activated(_convolution(x, deep, 1, f"up{level}_merge"), f"up{level}_merge")
        x = _residual_block(x, f"up{level}_block")
        if level == COARSE_LEVEL:
            coarse = _correction(x, "coarse_correction")
    coarse = Upsample(2**COARSE_LEVEL, name="upsample_coarse_correction")(coarse)
    correction = layers.Add(dtype="float32", name="both_corrections")(
        [_correction(x, "fine_correction"), coarse]
    )
    apart = StopGradient(name="apart")(x)
    hidden = _activated(_convolution(apart, width // 2 or 1, 3, "spread_hidden"), "spread_hidden")
    spread = layers.Conv2D(1, 1, kernel_initializer="zeros", dtype="float32", name="spread")(hidden)
    return keras.Model(features, [correction, spread], name="guided")


def _correction(x: Any, name: str) -> Any:
    return layers.Conv2D(1, 1, kernel_initializer="zeros", dtype="float32", name=name)(x)


def _convolution(x: Any, filters: int, size: int, name: str) -> Any:
    return layers.Conv2D(
        filters, size, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _activated(x: Any, name: str) -> Any:
    return layers.Activation("silu", name=f"{name}_silu")(x)


def _residual_block(x: Any, name: str) -> Any:
    y = _activated(_convolution(x, x.shape[-1], 3, f"{name}_1"), f"{name}_1")
    y = _convolution(y, x.shape[-1], 3, f"{name}_2")
    return _activated(layers.Add(name=f"{name}_add")([x, y]), name)
