"""MixGL, the Mixed Gradient Loss: temperatures from the sensor, texture from NDVI."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.config.losses import REPORT_OPTIONS
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.consistency import (
    bicubic_reduction,
    block_all,
    norm_l4,
    seen_by_gaussian,
)
from keras_lstsr.losses.gradients import GRADIENT_OPERATORS, magnitude, neighbourhood_valid
from keras_lstsr.losses.guide import (
    WINDOWS,
    check_channels,
    kelvin_per_ndvi,
    ndvi_of_raised_nir,
    ndvi_scale,
)
from keras_lstsr.losses.masking import (
    PLACEHOLDER_KELVIN,
    MaskedLoss,
    expose_divergence,
    masked_mean,
    replace_missing,
    valid_mask,
)
from keras_lstsr.losses.options import check, fraction, not_negative, one_of, positive, whole

COMPONENTS = ("signed", "magnitude")
GRADIENT_SCALINGS = ("none", "maximum", "batch_maximum", "image_maximum")
CONSISTENCIES = ("norm_l4", "psf", "bicubic", "none")

# Of the PSF, that falls on valid pixels of the sample where consistency counts.
_LEAST_COVERAGE = 0.95


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MixedGradientLoss(MaskedLoss):
    r"""MixGL per sample: ``alpha · MGE + beta · MSE``.

    **MSE** compares the prediction T with the LST L of the target. With ``consistency="norm_l4"``
    both are reduced to the coarse grid as a sensor would see them, so that L may be the coarse LST
    repeated; with ``"none"`` pixel by pixel, for targets that are truly fine.

    **MGE** compares the gradient of T with the gradient of NDVI times ``ndvi_scale_kelvin`` s:
    the mean over pixels of ``(∂x T − s ∂x N)² + (∂y T − s ∂y N)²``. Land is cooler where it is
    greener, so s is negative by day. A field ``T = a + s · NDVI`` has an MGE of 0, and constants
    added to T or to NDVI change nothing.

    A pixel counts where prediction, LST and NDVI are all there (for MSE, LST and prediction), a
    gradient where its 3 × 3 pixels count, a coarse pixel where all its fine pixels count; sums
    are divided by the number that counts, and a term without any is 0.

    Args:
        alpha: Weight of MGE, 0 to 1, at the start; ``assign_alpha`` changes it. Twelve real 1 km
            scenes, upsampled and then moved 200 Adam steps down the loss itself without any
            network, have a bias-free error against ASTER at 250 m of 1.49 K at 0.5 and 1.44 K at
            0.8 (bicubic 1.63 K; unsigned magnitudes at 0.5: 1.90 K), but leave the sensor's own
            temperatures by 0.3 K and 0.7 K.
        beta: Weight of MSE; None is ``1 − alpha``.
        gradient: ``"sobel"``, divided by 8 so that 1 K per pixel is 1; or ``"sobel_report"``, the
            report's kernels with their wrong sign.
        components: ``"signed"``: both components; ``"magnitude"``: ``sqrt(gx² + gy² + 1e-4)``,
            which does not know whether LST rises or falls with NDVI.
        gradient_scaling: ``"none"``: K per pixel; ``"maximum"``: the prediction's gradient divided
            by its maximum over the batch, NDVI's by its maximum per image, as the report's code;
            ``"batch_maximum"`` and ``"image_maximum"``: both by their maximum over the batch or
            per image. The batch is that of one replica. Signed components are divided by the
            largest absolute component, and s keeps nothing but its sign.
        ndvi_scale_kelvin: Kelvin per unit of NDVI, or ``"fitted"``: per sample, the least-squares
            slope of coarse LST (norm-L4) on coarse NDVI (mean); or ``"windows"``: in the window
            around each coarse pixel, the slope of their detail (``consistency.window_slopes``). The
            fit does not see the prediction, so no gradient flows through it.
        window_pixels: Side of these windows in coarse pixels, odd.
        consistency: ``"norm_l4"``, ``"psf"`` (T as a sensor with a Gaussian point spread function
            sees it, L by norm-L4), ``"bicubic"`` (T sampled at coarse centres without antialiasing,
            L by norm-L4) or ``"none"``.
        mtf_at_nyquist: Modulation transfer of that Gaussian at the coarse Nyquist frequency, see
            ``keras_lstsr.losses.ScaleInvarianceFreeLoss``.
        nir_factor: How many times too large near infrared is in NDVI; 1 is right. The report's code
            scaled it by 0.02 instead of 0.0001, so 200.
        scale_factor: Fine pixels along a coarse pixel's side.
        edge_crop: Gradient pixels left out along each edge, after scaling.
        scale_kelvin: Temperatures (and s) are divided by it: 1 leaves kelvin.
        name: Name in logs.
        **keywords: See ``MaskedLoss``.

    Target: ``[B, H, W, 2]``: LST in kelvin and NDVI, NaN where missing. Prediction:
    ``[B, H, W, 1]`` in kelvin.

    Raises:
        ConfigError: If an option is invalid, or the target has no NDVI; it names the option.

    Source: the Mixed Gradient Loss report, eq. of L_MixG, with the sign and the scale between NDVI
    and temperature put in.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        *,
        beta: float | None = None,
        gradient: str = "sobel",
        components: str = "signed",
        gradient_scaling: str = "none",
        ndvi_scale_kelvin: float | str = "fitted",
        window_pixels: int = 9,
        consistency: str = "norm_l4",
        mtf_at_nyquist: float = 0.3,
        nir_factor: float = 1.0,
        scale_factor: int = 4,
        edge_crop: int = 0,
        scale_kelvin: float = 1.0,
        name: str = "mixgl",
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.alpha = _checked_alpha(alpha)
        # A variable, so that a compiled step reads its value instead of keeping the first one.
        self.alpha_variable = keras.Variable(
            self.alpha,
            dtype=self.dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="alpha",
        )
        self.beta = None if beta is None else not_negative("beta", beta)
        self.gradient = one_of("gradient", gradient, GRADIENT_OPERATORS)
        self.components = one_of("components", components, COMPONENTS)
        self.gradient_scaling = one_of("gradient_scaling", gradient_scaling, GRADIENT_SCALINGS)
        self.ndvi_scale_kelvin = ndvi_scale(ndvi_scale_kelvin, ("fitted", WINDOWS))
        self.window_pixels = whole("window_pixels", window_pixels, 3)
        check(self.window_pixels % 2 == 1, "window_pixels", window_pixels, "an odd number")
        self.consistency = one_of("consistency", consistency, CONSISTENCIES)
        self.mtf_at_nyquist = fraction("mtf_at_nyquist", mtf_at_nyquist)
        self.nir_factor = positive("nir_factor", nir_factor)
        self.scale_factor = whole("scale_factor", scale_factor, 1)
        self.edge_crop = whole("edge_crop", edge_crop, 0)
        self.scale_kelvin = positive("scale_kelvin", scale_kelvin)

    @classmethod
    def report(cls, **overrides: Any) -> MixedGradientLoss:
        """The loss that the report's code ran, defects included (``REPORT_OPTIONS``).

        Args:
            **overrides: Constructor arguments that replace the preset's, to undo one defect at a
                time.
        """
        return cls(**{**REPORT_OPTIONS, **overrides})

    def assign_alpha(self, alpha: float) -> None:
        """Sets alpha for the steps to come, compiled ones too; ``get_config`` keeps the first.

        ``keras_lstsr.training.schedules.AlphaSchedule`` does so over the epochs. Under JAX a
        compiled step reads it only if the model is compiled with the metric ``AlphaWeight``.
        """
        self.alpha_variable.assign(_checked_alpha(alpha))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        alpha = ops.convert_to_tensor(self.alpha_variable)
        beta = 1.0 - alpha if self.beta is None else self.beta
        loss = alpha * self.mean_gradient_error(y_true, y_pred)
        loss = loss + beta * self.mean_squared_error(y_true, y_pred)
        return expose_divergence(loss, valid_mask(y_true[..., :1]), valid_mask(y_pred))

    def mean_squared_error(self, y_true: Any, y_pred: Any) -> Any:
        """The MSE term per sample before its weight, ``[B]``, in units of ``scale_kelvin``²."""
        lst = y_true[..., :1]
        valid = ops.logical_and(valid_mask(lst), valid_mask(y_pred))
        target = replace_missing(lst, valid, PLACEHOLDER_KELVIN)
        predicted = replace_missing(y_pred, valid, PLACEHOLDER_KELVIN)
        if self.consistency != "none":
            factor = self.scale_factor
            target, counted = norm_l4(target, factor), block_all(valid, factor)
            if self.consistency == "psf":
                predicted, enough = seen_by_gaussian(
                    predicted, valid, factor, self.mtf_at_nyquist, _LEAST_COVERAGE
                )
                counted = ops.logical_and(counted, enough)
            else:
                reduce = norm_l4 if self.consistency == "norm_l4" else bicubic_reduction
                predicted = reduce(predicted, factor)
            valid = counted
        return masked_mean(ops.square((predicted - target) / self.scale_kelvin), valid)

    def mean_gradient_error(self, y_true: Any, y_pred: Any) -> Any:
        """The MGE term per sample before its weight, ``[B]``."""
        return masked_mean(*self.squared_gradient_errors(y_true, y_pred))

    def squared_gradient_errors(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """What MGE is the mean of: squared errors, finite everywhere, and the pixels that count.

        Both are ``[B, h, w, 1]``, smaller by the operator's border and the crop.
        """
        check_channels("MixGL", y_true, y_pred)
        if self.nir_factor != 1:
            ndvi = ndvi_of_raised_nir(y_true[..., 1:2], self.nir_factor)
            y_true = ops.concatenate([y_true[..., :1], ndvi], axis=-1)
        lst, ndvi = y_true[..., :1], y_true[..., 1:2]
        observed = ops.logical_and(valid_mask(lst), valid_mask(ndvi))
        valid = ops.logical_and(observed, valid_mask(y_pred))
        # Where a neighbour is missing the gradient is nonsense, finite, and has no weight.
        predicted = replace_missing(y_pred, valid, PLACEHOLDER_KELVIN) / self.scale_kelvin
        guide = replace_missing(ndvi, valid, 0.0)
        slope = kelvin_per_ndvi(
            self.ndvi_scale_kelvin, y_true, self.scale_factor, self.window_pixels
        )
        slope = slope / self.scale_kelvin
        counted = neighbourhood_valid(valid)
        predicted_maps = self._maps(predicted)
        if self.gradient_scaling == "none":
            guide_maps = self._maps(guide, slope)
        else:
            # A maximum of one takes any scale away; of s only the sign can stay.
            per_image = self.gradient_scaling == "image_maximum"
            predicted_maps = _divided_by_maximum(predicted_maps, counted, per_image=per_image)
            per_image = per_image or self.gradient_scaling == "maximum"
            guide_maps = _divided_by_maximum(self._maps(guide), counted, per_image=per_image)
            if self.components == "signed":
                sign = ops.sign(_inner(slope))
                guide_maps = [component * sign for component in guide_maps]
        squared = [ops.square(p - g) for p, g in zip(predicted_maps, guide_maps, strict=True)]
        return self._crop(sum(squared[1:], squared[0])), self._crop(counted)

    def _maps(self, values: Any, slope: Any = None) -> list[Any]:
        gx, gy = GRADIENT_OPERATORS[self.gradient](values)
        if slope is not None:
            gx, gy = gx * _inner(slope), gy * _inner(slope)
        return [magnitude(gx, gy)] if self.components == "magnitude" else [gx, gy]

    def _crop(self, maps: Any) -> Any:
        if self.edge_crop == 0:
            return maps
        cropped = maps[:, self.edge_crop : -self.edge_crop, self.edge_crop : -self.edge_crop]
        if 0 in cropped.shape[1:3]:
            raise ConfigError(
                "the crop leaves nothing of the gradient",
                field="loss.options.edge_crop",
                found=f"{self.edge_crop} of {maps.shape[1]} × {maps.shape[2]} pixels",
                action="Crop less, or train on larger samples.",
            )
        return cropped


def _inner(slope: Any) -> Any:
    """Returns slopes on the pixels that have a gradient; one slope per sample holds for all."""
    per_pixel = len(slope.shape) == 4 and slope.shape[1] != 1
    return slope[:, 1:-1, 1:-1] if per_pixel else slope


def _checked_alpha(alpha: Any) -> float:
    checked = not_negative("alpha", alpha)
    problem = "the weight of the gradient term is too large"
    ConfigError.unless(checked <= 1, "loss.alpha", alpha, "0 to 1", problem)
    return checked


def _divided_by_maximum(maps: list[Any], counted: Any, *, per_image: bool) -> list[Any]:
    """Divides the magnitude, or both components, by their largest size where pixels count.

    One maximum per image or for the batch; nothing changes where no pixel counts.
    """
    weights = ops.cast(counted, maps[0].dtype)
    axes = (1, 2, 3) if per_image else (0, 1, 2, 3)
    peaks = [ops.max(ops.abs(each) * weights, axis=axes, keepdims=True) for each in maps]
    largest = peaks[0] if len(peaks) == 1 else ops.maximum(*peaks)
    divisor = ops.where(largest > 0, largest, 1.0)
    return [each / divisor for each in maps]
