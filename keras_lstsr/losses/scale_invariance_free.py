"""The scale-invariance-free loss: what the sensor saw, and texture along NDVI's gradients."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.losses.consistency import (
    block_all,
    block_mean,
    norm_l4,
    seen_by_gaussian,
)
from keras_lstsr.losses.gradients import directional_derivatives, neighbourhood_valid
from keras_lstsr.losses.guide import check_channels, kelvin_per_ndvi, ndvi_scale
from keras_lstsr.losses.masking import (
    PLACEHOLDER_KELVIN,
    MaskedLoss,
    expose_divergence,
    masked_mean,
    replace_missing,
    valid_mask,
)
from keras_lstsr.losses.options import check, fraction, not_negative, one_of, positive, whole

PSFS = ("gaussian", "norm_l4", "box")


@keras.saving.register_keras_serializable(package="keras_lstsr")
class ScaleInvarianceFreeLoss(MaskedLoss):
    r"""Per sample: ``consistency + gamma · texture``, without a fine truth and without its proxy.

    **Consistency** is the mean over coarse pixels of ``(P(T) − L)²``: the prediction T, degraded
    to the coarse grid by the sensor's point spread function P, has to give back the coarse LST L
    (norm-L4 of the target, which is the 1 km LST itself where the target repeats it).

    **Texture** is the mean over pixels of ``2/D Σ_d (∂_d T − s ∂_d N)²`` over D directions d: the
    derivatives of T follow, sign included, those of NDVI times ``ndvi_scale_kelvin`` s. A linear
    error of 1 K per pixel costs 1, whatever D is.

    A coarse pixel counts where all fine pixels of the target's block are there and, for the
    Gaussian, ``minimum_coverage`` of the PSF falls on pixels that are; a derivative counts where
    LST, NDVI and prediction are there in all 3 × 3 pixels. A term without any is 0.

    Args:
        gamma: Weight of the texture, in pixels² (both terms are in K², texture per pixel²).
        psf: ``"gaussian"``: a Gaussian on the fourth power of temperature, as radiance adds up;
            ``"norm_l4"``: the same with the coarse pixel's box; ``"box"``: the mean temperature.
        mtf_at_nyquist: Modulation transfer of the Gaussian at the coarse Nyquist frequency: 0.3 is
            a σ of 0.49 coarse pixels, the source's 0.1 one of 0.68, a box has 0.64. Twelve real
            1 km scenes, moved down the loss as described at ``MixedGradientLoss``, have a
            bias-free error against ASTER of 1.46 K at 0.3, 1.50 K at 0.1 and 1.48 K with
            ``"norm_l4"`` (bicubic: 1.63 K).
        ndvi_scale_kelvin: Kelvin per unit of NDVI, or ``"fitted"`` per sample at the coarse scale,
            see ``keras_lstsr.losses.MixedGradientLoss``.
        directions: 2 (east, south) or 4 (also the diagonals).
        minimum_coverage: Share of the Gaussian that has to fall on valid pixels inside the image,
            0 to 1. The default leaves out the outermost coarse pixels, which saw beyond the image.
        scale_factor: Fine pixels along a coarse pixel's side.
        scale_kelvin: Temperatures (and s) are divided by it: 1 leaves kelvin.
        name: Name in logs.
        **keywords: See ``MaskedLoss``.

    Target: ``[B, H, W, 2]``: LST in kelvin and NDVI, NaN where missing. Prediction:
    ``[B, H, W, 1]`` in kelvin.

    Raises:
        ConfigError: If an option is invalid, or the target has no NDVI; it names the option.

    Source: after Ait-Bachir et al. (2025), arXiv:2502.01204. Theirs works on normalised LST and
    NDVI; here s puts both into kelvin. Their PSF is cut at one coarse pixel, acts on temperature
    and is followed by bicubic decimation; here it is cut at 4 σ, acts on the fourth power and is
    taken at the coarse pixels' centres.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        *,
        psf: str = "gaussian",
        mtf_at_nyquist: float = 0.3,
        ndvi_scale_kelvin: float | str = "fitted",
        directions: int = 4,
        minimum_coverage: float = 0.95,
        scale_factor: int = 4,
        scale_kelvin: float = 1.0,
        name: str = "sif",
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.gamma = not_negative("gamma", gamma)
        self.psf = one_of("psf", psf, PSFS)
        self.mtf_at_nyquist = fraction("mtf_at_nyquist", mtf_at_nyquist)
        self.ndvi_scale_kelvin = ndvi_scale(ndvi_scale_kelvin)
        self.directions = whole("directions", directions, 2)
        check(self.directions in (2, 4), "directions", directions, "2 or 4")
        self.minimum_coverage = fraction("minimum_coverage", minimum_coverage)
        self.scale_factor = whole("scale_factor", scale_factor, 1)
        self.scale_kelvin = positive("scale_kelvin", scale_kelvin)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        loss = self.consistency_error(y_true, y_pred)
        loss = loss + self.gamma * self.texture_error(y_true, y_pred)
        return expose_divergence(loss, valid_mask(y_true[..., :1]), valid_mask(y_pred))

    def consistency_error(self, y_true: Any, y_pred: Any) -> Any:
        """The consistency term per sample, ``[B]``, in units of ``scale_kelvin``²."""
        lst, factor = y_true[..., :1], self.scale_factor
        observed = valid_mask(lst)
        valid = ops.logical_and(observed, valid_mask(y_pred))
        predicted = replace_missing(y_pred, valid, PLACEHOLDER_KELVIN)
        target = norm_l4(replace_missing(lst, observed, PLACEHOLDER_KELVIN), factor)
        if self.psf == "gaussian":
            degraded, enough = seen_by_gaussian(
                predicted, valid, factor, self.mtf_at_nyquist, self.minimum_coverage
            )
            counted = ops.logical_and(block_all(observed, factor), enough)
        else:
            counted = block_all(valid, factor)
            degraded = (norm_l4 if self.psf == "norm_l4" else block_mean)(predicted, factor)
        return masked_mean(ops.square((degraded - target) / self.scale_kelvin), counted)

    def texture_error(self, y_true: Any, y_pred: Any) -> Any:
        """The texture term per sample before its weight, ``[B]``."""
        check_channels("the scale-invariance-free loss", y_true, y_pred)
        lst, ndvi = y_true[..., :1], y_true[..., 1:2]
        valid = ops.logical_and(valid_mask(lst), valid_mask(ndvi))
        valid = ops.logical_and(valid, valid_mask(y_pred))
        predicted = replace_missing(y_pred, valid, PLACEHOLDER_KELVIN) / self.scale_kelvin
        slope = kelvin_per_ndvi(self.ndvi_scale_kelvin, y_true, self.scale_factor)
        guide = replace_missing(ndvi, valid, 0.0) * (slope / self.scale_kelvin)
        squared = [
            ops.square(of_prediction - of_guide)
            for of_prediction, of_guide in zip(
                directional_derivatives(predicted, self.directions),
                directional_derivatives(guide, self.directions),
                strict=True,
            )
        ]
        total = sum(squared[1:], squared[0]) * (2.0 / self.directions)
        return masked_mean(total, neighbourhood_valid(valid))
