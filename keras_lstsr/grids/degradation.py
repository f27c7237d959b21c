"""Fine rasters degraded as a coarse sensor would see the same ground.

``grids.resample`` holds the plain reductions by whole blocks; here they stand beside those by area,
for factors that are not whole, and by the point spread function (PSF) of a sensor, under one rule
for gaps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import placed
from keras_lstsr.grids.resample import block_mean, blocks, norm_l4

Degradation = Literal["norm_l4", "mean", "area", "psf"]
FootprintKind = Literal["gaussian", "modis"]
Axis = Literal["rows", "columns"]
Raster = TypeVar("Raster", xr.DataArray, NDArray[np.floating])
Float64Array = NDArray[np.float64]

DEGRADATIONS: tuple[str, ...] = get_args(Degradation)

GOOD_PIXEL_NOISE_KELVIN = 0.12
"""Noise of a good 1 km LST pixel: about twice the NEdT of MODIS bands 31 and 32 (0.05 K)."""

# The Gaussian is cut here; 6e-5 of its weight lies beyond along each axis.
_CUT_SIGMAS = 4.0
# Full width at half maximum of a Gaussian, in standard deviations.
_FWHM_OF_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
# Share of a coarse pixel that may be missing by rounding.
_SHARE_TOLERANCE = 1e-9


class PointSpread(Protocol):
    """What a coarse pixel sees around its centre, one function for each axis."""

    def reach(self, axis: Axis) -> float:
        """Returns how far it sees along an axis, in coarse pixels."""
        ...

    def weights(self, near: Float64Array, far: Float64Array, axis: Axis) -> Float64Array:
        """Returns the weights of fine pixels between two distances from the centre.

        Args:
            near: Upper or left edges of fine pixels, in coarse pixels from the centre.
            far: Their other edges.
            axis: Which axis.

        Returns:
            Weights up to a common factor.
        """
        ...


@dataclass(frozen=True)
class ModisPsf:
    """A whisk-broom sensor such as MODIS: triangular along the scan, rectangular along the track.

    The detector is one pixel wide and sweeps one pixel on while it integrates, so that along the
    scan the response is a triangle with a base of two pixels. On the sinusoidal grid of a
    day's overpass near nadir the scan runs nearly along the rows, that is over the columns.

    Attributes:
        scan_axis: The axis that the scan runs over.
        scan_pixels: Full width at half maximum along the scan, half of the triangle's base, in
            coarse pixels. Off nadir it grows with the view angle.
        track_pixels: Width along the track in coarse pixels.

    Source: Nishihama et al. (1997), MODIS Level 1A Earth Location ATBD, section 3.1.3.3; Tan et
    al. (2006), Remote Sensing of Environment 105, 98-114.
    """

    scan_axis: Axis = "columns"
    scan_pixels: float = 1.0
    track_pixels: float = 1.0

    def __post_init__(self) -> None:
        axes = get_args(Axis)
        GridError.unless(self.scan_axis in axes, "scan_axis", self.scan_axis, " or ".join(axes))
        for name in ("scan_pixels", "track_pixels"):
            _check_width(name, getattr(self, name))

    def reach(self, axis: Axis) -> float:
        """Returns the triangle's width along the scan and half of the other along the track."""
        return self.scan_pixels if axis == self.scan_axis else self.track_pixels / 2

    def weights(self, near: Float64Array, far: Float64Array, axis: Axis) -> Float64Array:
        """Returns the response's integral over each fine pixel."""
        if axis != self.scan_axis:
            return _overlap(near, far, self.track_pixels / 2)
        # Integral of the triangle 1 − |x| from −1.
        below, above = (np.clip(end / self.scan_pixels, -1.0, 1.0) for end in (near, far))
        return above - below - (above * np.abs(above) - below * np.abs(below)) / 2.0


@dataclass(frozen=True)
class GaussianPsf:
    """A round Gaussian, taken at the fine pixels' centres as in ``keras_lstsr.losses``.

    Attributes:
        sigma_pixels: Standard deviation in coarse pixels.
    """

    sigma_pixels: float

    def __post_init__(self) -> None:
        _check_width("sigma_pixels", self.sigma_pixels)

    @classmethod
    def of_fwhm(cls, fwhm_pixels: float) -> GaussianPsf:
        """Makes the Gaussian with a full width at half maximum in coarse pixels."""
        return cls(fwhm_pixels / _FWHM_OF_SIGMA)

    @classmethod
    def of_mtf(cls, mtf_at_nyquist: float) -> GaussianPsf:
        """Makes the Gaussian with a modulation transfer at the coarse Nyquist frequency.

        It is ``exp(−2 π² σ² f²)`` with f = ½ per coarse pixel, so σ = sqrt(−2 ln MTF) / π.
        """
        fits = 0 < mtf_at_nyquist < 1
        GridError.unless(fits, "mtf_at_nyquist", mtf_at_nyquist, "between 0 and 1, both excluded")
        return cls(math.sqrt(-2.0 * math.log(mtf_at_nyquist)) / math.pi)

    def reach(self, axis: Axis) -> float:
        """Returns four standard deviations."""
        return _CUT_SIGMAS * self.sigma_pixels

    def weights(self, near: Float64Array, far: Float64Array, axis: Axis) -> Float64Array:
        """Returns the Gaussian at each fine pixel's centre."""
        return np.exp(-0.5 * ((near + far) / 2.0 / self.sigma_pixels) ** 2)


@dataclass(frozen=True)
class Footprint:
    """The ground that the value of a coarse pixel comes from.

    Attributes:
        kind: ``"gaussian"``: a Gaussian blur and then the mean over the pixel, as an image is made
            that is blurred by optics and resampled; ``"modis"``: MODIS's triangle along the scan,
            which is the wider axis (columns where both are alike), and a rectangle along the track.
        fwhm_m: Full width at half maximum over rows and over columns in metres: of the Gaussian, or
            of the triangle and the rectangle.
    """

    kind: FootprintKind = "gaussian"
    fwhm_m: tuple[float, float] = (930.0, 930.0)

    def __post_init__(self) -> None:
        kinds = get_args(FootprintKind)
        GridError.unless(self.kind in kinds, "kind", self.kind, " or ".join(kinds))
        for width in self.fwhm_m:
            _check_width("fwhm_m", width)

    def psf(self, pixel_size_m: float) -> PointSpread:
        """Returns its point spread function on coarse pixels of that size."""
        rows, columns = (width / pixel_size_m for width in self.fwhm_m)
        if self.kind == "gaussian":
            return _BlurredPixel(rows / _FWHM_OF_SIGMA, columns / _FWHM_OF_SIGMA)
        return (
            ModisPsf("rows", rows, columns)
            if rows > columns
            else ModisPsf("columns", columns, rows)
        )


@dataclass(frozen=True)
class _BlurredPixel:
    """A Gaussian with these standard deviations, in coarse pixels, averaged over the pixel."""

    rows: float
    columns: float

    def reach(self, axis: Axis) -> float:
        return 0.5 + _CUT_SIGMAS * getattr(self, axis)

    def weights(self, near: Float64Array, far: Float64Array, axis: Axis) -> Float64Array:
        count = max(1, round(1.0 / float(np.median(far - near))))
        own = (np.arange(count) + 0.5) / count - 0.5  # the pixel's fine pixels
        apart = ((near + far) / 2.0)[..., None] - own
        return np.exp(-0.5 * (apart / getattr(self, axis)) ** 2).sum(axis=-1)


def degrade(
    fine: Raster,
    factor: float,
    method: Degradation = "norm_l4",
    *,
    psf: PointSpread | None = None,
    radiance: bool = False,
    min_valid_fraction: float = 1.0,
) -> Raster:
    """Degrades a fine raster to pixels ``factor`` times as wide, which nest on its upper left.

    The methods are:

    - ``"norm_l4"``: fourth root of the mean fourth power of each block, as radiance adds up.
    - ``"mean"``: mean of each block.
    - ``"area"``: mean by the area that fine and coarse pixels share; the factor need not be whole.
      For a whole one it is the mean.
    - ``"psf"``: mean by the weights of a point spread function about each coarse pixel's centre,
      which sees beyond the block; the factor need not be whole.

    One rule holds for gaps, whatever the method: a coarse pixel is NaN where less than
    ``min_valid_fraction`` of its own area is valid. So all methods leave the same gaps. What a
    PSF sees beyond, where it is missing or off the raster, is left out and the other weights are
    raised to add up to one.

    Args:
        fine: ``[..., H, W]``; NaN where missing. As a ``DataArray`` ``[y, x]`` with CRS and
            coordinates.
        factor: Fine pixels along a coarse pixel's side, 1 or more.
        method: One of the above.
        psf: For ``"psf"``; ``None`` is ``ModisPsf()``.
        radiance: Average fourth powers and take the fourth root, as ``"norm_l4"`` always does.
        min_valid_fraction: Share of a coarse pixel's area, above 0 to 1, that must be valid.

    Returns:
        ``[..., H // factor, W // factor]`` of the same kind and float type. A rest that does not
        fill a coarse pixel is left out by ``"area"`` and ``"psf"``.

    Raises:
        GridError: If the method is unknown or a setting impossible, if ``"norm_l4"`` or
            ``"mean"`` cannot cut the raster into whole blocks, or the raster has no CRS or
            no regular north-up grid.
    """
    _check(factor, method, psf, min_valid_fraction)
    given = None if isinstance(fine, np.ndarray) else placed(fine, "fine")
    values = np.asarray(fine if given is None else given.raster.values)
    radiance = radiance or method == "norm_l4"
    if method in ("norm_l4", "mean"):
        whole = _whole(factor)
        blocks(values, whole)  # raises where the raster cannot be cut
        if min_valid_fraction == 1.0:
            coarse = norm_l4(values, whole) if radiance else block_mean(values, whole)
        else:
            coarse = _reduced(values, whole, None, radiance, min_valid_fraction)
    else:
        spread = (psf or ModisPsf()) if method == "psf" else None
        coarse = _reduced(values, factor, spread, radiance, min_valid_fraction)
    if given is None:
        return coarse
    raster = given.grid.coarser(factor).raster(coarse, name=fine.name, attrs=fine.attrs)
    return given.as_given(raster)


def _check_width(name: str, width: float) -> None:
    GridError.unless(width > 0 and math.isfinite(width), name, width, "above 0")


def _check(factor: float, method: str, psf: PointSpread | None, min_valid_fraction: float) -> None:
    known = ", ".join(DEGRADATIONS)
    GridError.unless(method in DEGRADATIONS, "method", method, known, "unknown degradation")
    GridError.unless(factor >= 1 and math.isfinite(factor), "factor", factor, "1 or more")
    possible = 0 < min_valid_fraction <= 1
    GridError.unless(possible, "min_valid_fraction", min_valid_fraction, "above 0, to 1")
    used = psf is None or method == "psf"
    GridError.unless(used, "psf", f"method {method}", "method psf", "a PSF is given and not used")


def _reduced(
    values: NDArray[np.floating],
    factor: float,
    psf: PointSpread | None,
    radiance: bool,
    min_valid_fraction: float,
) -> NDArray[np.floating]:
    valid = np.isfinite(values)
    known = np.where(valid, values, 0.0).astype(np.float64)
    if radiance:
        known **= 4
    mask = valid.astype(np.float64)
    height, width = values.shape[-2:]
    own = _weights(height, factor, None, "rows"), _weights(width, factor, None, "columns")
    share = _applied(mask, own)
    if psf is None:
        total, seen = _applied(known, own), share
    else:
        spread = _weights(height, factor, psf, "rows"), _weights(width, factor, psf, "columns")
        total, seen = _applied(known, spread), _applied(mask, spread)
    # A PSF may give all of its weight to the part of its pixel that is missing.
    enough = (share >= min_valid_fraction - _SHARE_TOLERANCE) & (seen > _SHARE_TOLERANCE)
    mean = np.divide(total, seen, out=np.full(total.shape, np.nan), where=enough)
    return (mean**0.25 if radiance else mean).astype(values.dtype)


def _applied(values: Float64Array, weights: tuple[csr_array, csr_array]) -> Float64Array:
    rows, columns = weights
    planes = values.reshape(-1, *values.shape[-2:])
    reduced = np.stack([(columns @ (rows @ plane).T).T for plane in planes])
    return reduced.reshape(*values.shape[:-2], rows.shape[0], columns.shape[0])


def _weights(length: int, factor: float, psf: PointSpread | None, axis: Axis) -> csr_array:
    """Weights ``[coarse, fine]`` along one axis, each row adding up to 1; ``None`` is the area.

    The row adds up to 1 with what lies beyond the border, so that sums tell the share seen.
    """
    count = int(length / factor + 1e-9)
    reach = 0.5 if psf is None else psf.reach(axis)
    centres = (np.arange(count) + 0.5) * factor
    first = np.floor(centres - reach * factor + 1e-9).astype(np.intp)
    taps = math.ceil(2 * reach * factor - 1e-9) + 1
    fine = first[:, None] + np.arange(taps)
    near, far = (fine - centres[:, None]) / factor, (fine + 1 - centres[:, None]) / factor
    weight = _overlap(near, far, 0.5) if psf is None else psf.weights(near, far, axis)
    weight = weight / weight.sum(axis=1, keepdims=True)
    # Zero weights would only cost time; what is tiny is rounding of an edge.
    there = (fine >= 0) & (fine < length) & (weight > 1e-12)
    coarse = np.broadcast_to(np.arange(count)[:, None], fine.shape)
    return csr_array((weight[there], (coarse[there], fine[there])), shape=(count, length))


def _overlap(near: Float64Array, far: Float64Array, half: float) -> Float64Array:
    return np.clip(np.minimum(far, half) - np.maximum(near, -half), 0.0, None)


def _whole(factor: float) -> int:
    if factor != int(factor):
        action = "Use method area or psf."
        raise GridError("blocks need a whole factor", field="factor", found=factor, action=action)
    return int(factor)
