"""How good a result is: what guides can do for it, and how it agrees with the coarse LST."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import guide_meaning
from keras_lstsr.grids.resample import coarse_guide

if TYPE_CHECKING:
    from keras_lstsr.grids.consistency import ConsistencyMode

_LEAST_SHARE_SHOWN = 0.001
# Small patches of water or rock are in every scene.
_SHARE_TO_TELL = 0.05
# Below it, the network gives less than half of the guide's detail.
_HALF = 0.5
# A line through fewer pixels explains all of them.
_FEWEST_PIXELS_OF_A_FIT = 3
# Deviations below this part of a guide's values are rounding.
_CONSTANT = 1e-6
_TOLERANCE_KELVIN = 0.01


@dataclass(frozen=True)
class GuideUse:
    """What the guides of a scene can do for it.

    Attributes:
        missing_shares: Guide → share of the fine pixels with LST on which it is missing, 0…1.
        constant: Whether all guides are the same in all coarse pixels with LST.
        explained_share: Share of the variance of coarse LST that one regression on the guides
            over the whole scene explains, 0…1; NaN where too few pixels have both.
        unfollowed_share: Share of the fine pixels with LST and guides on which the model gives
            less than half of the guides' detail, 0…1; None from a model that does not tell.
    """

    missing_shares: dict[str, float]
    constant: bool
    explained_share: float
    unfollowed_share: float | None = None

    def notes(self) -> list[str]:
        """Says in sentences where the result is poorer than guides promise."""
        alone = len(self.missing_shares) == 1
        less = "the result is about bicubic" if alone else "the result has less detail"
        notes = [
            f"{guide_meaning(name)} is missing on {share_text(share)} of the fine pixels with LST: "
            f"{less} there."
            for name, share in self.missing_shares.items()
            if share > 0
        ]
        names = " and ".join(map(guide_meaning, self.missing_shares))
        if self.constant:
            notes.append(
                f"{names} is the same in all LST pixels: it explains nothing, and the result is "
                "about bicubic."
            )
        elif (self.unfollowed_share or 0) >= _SHARE_TO_TELL:
            notes.append(
                f"LST hardly follows {names} on {share_text(self.unfollowed_share or 0)} of the "
                "pixels that have both, as at night: the network falls back to about bicubic there."
            )
        return notes

    def as_attributes(self) -> dict[str, float]:
        """Returns the figures as attributes of a raster; those unknown are left out."""
        figures = {
            "guide_missing_share": max(self.missing_shares.values()),
            "guide_unfollowed_share": self.unfollowed_share,
            "guide_explained_share": self.explained_share,
        }
        return {
            name: float(f"{value:.6g}")  # rounded, but to 0 only if it is 0
            for name, value in figures.items()
            if value is not None and not math.isnan(value)
        }


def guide_use(
    lst_kelvin: NDArray[np.floating],
    guides: Mapping[str, NDArray[np.floating]],
    factor: int,
    followed: NDArray[np.floating] | None = None,
) -> GuideUse:
    """Finds out what guides ``[f·h, f·w]``, at least one, can do for a scene ``[h, w]``.

    NaN is missing. ``followed`` is how far the model follows them, ``[f·h, f·w]``, 0…1; None if it
    does not tell.
    """
    height, width = lst_kelvin.shape
    valid = ~np.isnan(lst_kelvin)
    missing_shares = {}
    for name, guide in guides.items():
        lacking = np.isnan(guide).reshape(height, factor, width, factor).mean(axis=(1, 3))[valid]
        missing_shares[name] = float(lacking.mean()) if lacking.size else 0.0
    coarse = np.concatenate([coarse_guide(guide, factor) for guide in guides.values()])
    usable = valid & np.isfinite(coarse).all(axis=0)
    explained, constant = float("nan"), False
    if usable.sum() >= max(_FEWEST_PIXELS_OF_A_FIT, len(coarse) + 2):
        explained, constant = _explained_share(lst_kelvin[usable], coarse[:, usable])
    unfollowed = None if followed is None else _unfollowed_share(followed, guides)
    return GuideUse(missing_shares, constant, explained, unfollowed)


def _explained_share(
    lst_kelvin: NDArray[np.floating], guides: NDArray[np.float64]
) -> tuple[float, bool]:
    """Returns the share of the variance that a regression explains, and if all are constant."""
    lst = lst_kelvin.astype(np.float64) - lst_kelvin.mean(dtype=np.float64)
    spread = guides.std(axis=1)
    varying = spread > _CONSTANT * np.abs(guides).max(axis=1)
    if not varying.any():
        return 0.0, True
    centred = (guides - guides.mean(axis=1, keepdims=True))[varying] / spread[varying, None]
    slopes = np.linalg.lstsq(centred.T, lst, rcond=1e-8)[0]
    variance = lst.var()
    return float((slopes @ centred).var() / variance) if variance > 0 else float("nan"), False


def _unfollowed_share(
    followed: NDArray[np.floating], guides: Mapping[str, NDArray[np.floating]]
) -> float:
    both = np.isfinite(followed)
    for guide in guides.values():
        both &= np.isfinite(guide)
    count = int(both.sum())
    return float((both & (followed < _HALF)).sum() / count) if count else 0.0


def unused_guides(names: Sequence[str]) -> str:
    """Says which guides a model does not take; empty text where it takes all."""
    titles = " and ".join(map(guide_meaning, names))
    return f"This model does not take {titles}: it makes no difference." if names else ""


def without_guides(names: Mapping[str, object]) -> str:
    """Says what a model that takes guides can do when none is given."""
    titles = " and ".join(map(guide_meaning, names)) if len(names) < 3 else "guides"
    return (
        f"Without {titles} the model works from LST alone: it gives back some of the contrast "
        "between LST pixels, but no finer detail, and is only a little better than bicubic "
        f"upsampling; give {titles} of the same time for real detail."
    )


def share_text(share: float) -> str:
    """Writes a share in percent, so that only none is 0 %."""
    if 0 < share < _LEAST_SHARE_SHOWN:
        return f"less than {_LEAST_SHARE_SHOWN:.1%}"
    return f"{share:.1%}" if share else "0%"


# A fine pixel may leave the scene's range by the range's width, or by this much.
_LEAST_MARGIN_KELVIN = 10.0
# Root mean square of what the result's means over LST's pixels may be off LST.
_MOST_OFF_KELVIN = 5.0


def implausible(fine_kelvin: NDArray[np.floating], lst_kelvin: NDArray[np.floating]) -> str:
    """Says why a result cannot be that of its input; empty text where it can.

    Two things are asked for: it does not leave the input's range by more than the range's width
    (or 10 K, where that is more), and its means over the input's pixels are the input to 5 K.

    Args:
        fine_kelvin: ``[f·h, f·w]``, NaN where missing.
        lst_kelvin: ``[h, w]``, likewise; at least one pixel is valid.
    """
    low, high = float(np.nanmin(lst_kelvin)), float(np.nanmax(lst_kelvin))
    least, most = float(np.nanmin(fine_kelvin)), float(np.nanmax(fine_kelvin))
    margin = max(_LEAST_MARGIN_KELVIN, high - low)
    if least < low - margin or most > high + margin:
        return (
            f"the result runs from {least:.1f} to {most:.1f} K, its input from {low:.1f} to "
            f"{high:.1f} K"
        )
    height, width = lst_kelvin.shape
    factor = fine_kelvin.shape[0] // height
    means = fine_kelvin.reshape(height, factor, width, factor).mean(axis=(1, 3), dtype=np.float64)
    off = float(np.sqrt(np.nanmean((means - lst_kelvin) ** 2)))
    if off > _MOST_OFF_KELVIN:
        return f"the result's means over the input's pixels are {off:.1f} K (RMS) off the input"
    return ""


@dataclass(frozen=True, eq=False)
class Correction:
    """How a result was made to agree with the coarse LST.

    Residuals are coarse LST less the result as it is seen at LST's pixels: kelvin, ``[h, w]``, NaN
    where either is missing.

    Attributes:
        mode: ``"block"`` or ``"psf"``: how it is seen there, as a mean or by MODIS's point spread
            function.
        before: The residual that the model left.
        after: The residual that is left.
    """

    mode: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def left_kelvin(self) -> float:
        """The largest residual that is left; 0 where none is known."""
        return float(np.nanmax(np.abs(self.after), initial=0.0))

    @property
    def before_kelvin(self) -> float:
        """Root mean square of the residual that the model left; NaN where none is known."""
        known = self.before[np.isfinite(self.before)]
        return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")

    def maps(self) -> dict[str, NDArray[np.float64]]:
        """Returns the residuals with titles for the quicklook."""
        return {
            f"residual of the model: RMS {self.before_kelvin:.2f} K": self.before,
            f"after the correction ({self.mode}): at most {self.left_kelvin:.2f} K": self.after,
        }

    def notes(self) -> list[str]:
        """Says if the result still does not agree."""
        if self.left_kelvin <= _TOLERANCE_KELVIN:
            return []
        return [
            f"The result could not be made to agree with LST everywhere: differences of up to "
            f"{self.left_kelvin:.2f} K remain."
        ]

    def as_attributes(self) -> dict[str, object]:
        """Returns the figures as attributes of a raster."""
        return {
            "consistency": self.mode,
            "consistency_residual_before_kelvin": round(self.before_kelvin, 4),
            "consistency_residual_left_kelvin": round(self.left_kelvin, 4),
        }


def made_consistent(
    fine_kelvin: NDArray[np.float32], lst_kelvin: NDArray[np.float32], mode: ConsistencyMode
) -> tuple[NDArray[np.float32], Correction]:
    """Corrects a result until it agrees with the coarse LST; texture inside LST's pixels stays.

    That puts the coarse LST's own noise back into the result: against the truth it is mostly less
    accurate than without. See ``enforce_consistency`` for arrays and modes.

    Returns:
        The corrected result, and what was corrected.
    """
    from keras_lstsr.grids import consistency

    before = consistency.consistency_residual(fine_kelvin, lst_kelvin, mode)
    with warnings.catch_warnings():
        # The residual that is left tells it.
        warnings.simplefilter("ignore", consistency.ConsistencyWarning)
        fine = consistency.enforce_consistency(
            fine_kelvin, lst_kelvin, mode, tolerance_kelvin=_TOLERANCE_KELVIN
        )
    after = consistency.consistency_residual(fine, lst_kelvin, mode)
    return fine, Correction(mode, before, after)
