"""Fine LST made to agree with the coarse LST that it was sharpened from.

What a coarse sensor measured is the one thing known about a sharpened map: degraded, it must be
that measurement again. Methods without a residual correction (regressions, networks) miss it.
"""

from __future__ import annotations

import warnings
from typing import Literal, TypeVar, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.grids.axes import raster_name
from keras_lstsr.grids.degradation import ModisPsf, PointSpread, degrade
from keras_lstsr.grids.grid import Placed, placed
from keras_lstsr.grids.resample import upsample_bilinear, upsample_nearest

ConsistencyMode = Literal["none", "block", "psf"]
Upsampling = Literal["nearest", "bilinear"]
Raster = TypeVar("Raster", xr.DataArray, NDArray[np.floating])
Float64Array = NDArray[np.float64]

CONSISTENCY_MODES: tuple[str, ...] = get_args(ConsistencyMode)

_UPSAMPLINGS = {"nearest": upsample_nearest, "bilinear": upsample_bilinear}


class ConsistencyWarning(UserWarning):
    """Fine LST that could not be made to agree with the coarse LST within the tolerance."""


def consistency_residual(
    fine: xr.DataArray | NDArray[np.floating],
    coarse: xr.DataArray | NDArray[np.floating],
    mode: ConsistencyMode = "block",
    *,
    psf: PointSpread | None = None,
    radiance: bool = False,
) -> Float64Array:
    """Returns how much warmer the coarse LST is than the fine LST degraded to its pixels.

    Args:
        fine: LST in kelvin, ``[h · factor, w · factor]``, NaN where missing.
        coarse: LST in kelvin, ``[h, w]``, NaN where missing; its pixels hold the fine ones whole.
        mode: ``"block"`` degrades by the mean of each block, ``"psf"`` by a point spread function.
        psf: For ``"psf"``; ``None`` is ``ModisPsf()``.
        radiance: Average fourth powers of temperature (norm-L4) instead of temperature.

    Returns:
        Kelvin, float64 ``[h, w]``; NaN where the coarse pixel or any fine pixel of it is.

    Raises:
        GridError: If the shapes or, where both have them, the grids do not nest, or the mode is
            not one of these two.
    """
    fine_kelvin, coarse_kelvin, factor, _ = _nested(fine, coarse)
    GridError.unless(mode in ("block", "psf"), "mode", repr(mode), "block or psf")
    return coarse_kelvin - _seen(np.asarray(fine_kelvin, np.float64), factor, mode, psf, radiance)


def enforce_consistency(
    fine: Raster,
    coarse: xr.DataArray | NDArray[np.floating],
    mode: ConsistencyMode = "block",
    *,
    psf: PointSpread | None = None,
    radiance: bool = False,
    upsampling: Upsampling = "nearest",
    tolerance_kelvin: float = 0.01,
    max_iterations: int = 200,
) -> Raster:
    """Corrects fine LST until, degraded, it is the coarse LST.

    The residual at the coarse pixels is upsampled and added, and again, until none is larger than
    the tolerance (iterative back-projection). In mode ``"block"`` with ``"nearest"`` and without
    ``radiance`` once is enough, and each block is moved by one number; ``"bilinear"`` leaves no
    steps between blocks. Texture inside a coarse pixel stays as it is.

    Mode ``"psf"`` also sharpens: it undoes the blur between coarse pixels, and with it lifts
    their noise, by up to 1 / (what the PSF leaves of the finest coarse pattern): 2 for MODIS.

    Gaps are kept: NaN of the fine LST stays NaN, and where the coarse pixel or any fine pixel of it
    is missing nothing can be compared and the block is left as it is, but for what its neighbours'
    bilinear correction brings.

    Args:
        fine: As for ``consistency_residual``.
        coarse: Likewise.
        mode: ``"none"`` returns a copy; for the others see there, as for the next two.
        psf: See there.
        radiance: See there.
        upsampling: ``"nearest"`` or ``"bilinear"``.
        tolerance_kelvin: Largest residual that may stay.
        max_iterations: Corrections after which it gives up.

    Returns:
        The corrected LST, of the same kind and float type as ``fine``.

    Raises:
        GridError: If the shapes or, where both have them, the grids do not nest, or a setting is
            impossible.

    Warns:
        ConsistencyWarning: If the residual is still above the tolerance.

    Source: Irani and Peleg (1991), CVGIP: Graphical Models and Image Processing 53, 231-239.
    """
    fine_kelvin, target, factor, given = _nested(fine, coarse)
    _check_settings(mode, upsampling, tolerance_kelvin, max_iterations)
    corrected = np.array(fine_kelvin, np.float64)
    if mode != "none":
        for iteration in range(max_iterations + 1):
            residual = target - _seen(corrected, factor, mode, psf, radiance)
            known = np.nan_to_num(residual, nan=0.0)
            left = float(np.abs(known).max(initial=0.0))
            if left <= tolerance_kelvin:
                break
            if iteration < max_iterations:
                corrected += _UPSAMPLINGS[upsampling](known, factor)
        else:
            warnings.warn(
                f"after {max_iterations} corrections the fine LST is still {left:.3g} K off the "
                f"coarse LST somewhere; {tolerance_kelvin:g} K was asked for",
                ConsistencyWarning,
                stacklevel=2,
            )
    result = corrected.astype(np.result_type(fine.dtype, np.float32), copy=False)
    if given is not None:
        return given.as_given(given.raster.copy(data=result))  # type: ignore[return-value]
    if isinstance(fine, xr.DataArray):
        return fine.copy(data=result)
    return result


def _seen(
    fine_kelvin: Float64Array, factor: int, mode: str, psf: PointSpread | None, radiance: bool
) -> Float64Array:
    if mode == "psf":
        seen = degrade(fine_kelvin, factor, "psf", psf=psf or ModisPsf(), radiance=radiance)
    else:
        seen = degrade(fine_kelvin, factor, "norm_l4" if radiance else "mean")
    return seen.astype(np.float64, copy=False)


def _nested(
    fine: xr.DataArray | NDArray[np.floating], coarse: xr.DataArray | NDArray[np.floating]
) -> tuple[NDArray[np.floating], Float64Array, int, Placed | None]:
    """Returns the values, the factor, and the fine raster where both are rasters.

    Those are turned north-up; arrays are taken to run as what they are compared with.
    """
    ours = theirs = None
    if isinstance(fine, np.ndarray) or isinstance(coarse, np.ndarray):
        fine_kelvin, coarse_kelvin = np.asarray(fine), np.asarray(coarse, np.float64)
    else:
        ours, theirs = placed(fine, "fine"), placed(coarse, "coarse")
        fine_kelvin = np.asarray(ours.raster.values)
        coarse_kelvin = np.asarray(theirs.raster.values, np.float64)
    both = fine_kelvin.ndim == coarse_kelvin.ndim == 2
    factor = fine_kelvin.shape[0] // coarse_kelvin.shape[0] if both else 0
    GridError.unless(
        factor >= 1 and fine_kelvin.shape == tuple(factor * side for side in coarse_kelvin.shape),
        "fine",
        f"shapes {fine_kelvin.shape} and {coarse_kelvin.shape}",
        "[h · factor, w · factor] and [h, w]",
        "fine and coarse LST do not nest",
    )
    if ours is not None and theirs is not None:
        expected = theirs.grid.finer(factor)
        GridError.unless(
            ours.grid.offset_in(expected) == (0, 0),
            raster_name(ours.raster, "fine"),
            ours.grid.transform[:6],
            expected.transform[:6],
            "fine and coarse LST do not nest",
            path=ours.raster.encoding.get("source"),
            action="Bring the fine LST onto the nested grid first.",
        )
    return fine_kelvin, coarse_kelvin, factor, ours


def _check_settings(
    mode: str, upsampling: str, tolerance_kelvin: float, max_iterations: int
) -> None:
    modes, upsamplings = ", ".join(CONSISTENCY_MODES), ", ".join(_UPSAMPLINGS)
    GridError.unless(mode in CONSISTENCY_MODES, "mode", repr(mode), modes)
    GridError.unless(upsampling in _UPSAMPLINGS, "upsampling", repr(upsampling), upsamplings)
    GridError.unless(tolerance_kelvin > 0, "tolerance_kelvin", tolerance_kelvin, "above 0")
    GridError.unless(max_iterations >= 1, "max_iterations", max_iterations, "1 or more")
