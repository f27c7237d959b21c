"""How wide the standard deviations must be for intervals to hold what they promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from keras_lstsr.errors import ConfigError

INTERVAL_SHARE = 0.9


@dataclass(frozen=True)
class Calibration:
    """What cross-validation says of the standard deviations.

    Attributes:
        factor: By which to multiply them.
        share: What two-sided normal intervals are to hold.
        coverage_before: What they held before, over all pixels.
        coverage_by_fold: What they hold in each fold when the factor comes from the other folds.
        pixels: Fine pixels that were used.
    """

    factor: float
    share: float
    coverage_before: float
    coverage_by_fold: tuple[float, ...]
    pixels: int

    def as_json(self) -> dict[str, Any]:
        """Returns the values for a model's card, with the mean of ``coverage_by_fold``."""
        coverage = list(self.coverage_by_fold)
        mean = float(np.mean(coverage)) if coverage else None
        return {**asdict(self), "coverage_by_fold": coverage, "coverage_out_of_fold": mean}


def standardised_errors(
    kelvin: NDArray[np.floating], std: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Returns the errors of an image, less their mean, in standard deviations.

    Args:
        kelvin: Prediction ``[H, W]``, NaN where missing.
        std: Its standard deviation in kelvin, ``[H, W]``.
        truth: ``[H, W]``, NaN where missing.

    Returns:
        ``[N]``, of the pixels that all three have.
    """
    valid = np.isfinite(kelvin) & np.isfinite(std) & np.isfinite(truth)
    error = kelvin[valid].astype(np.float64) - truth[valid]
    return (error - error.mean() if error.size else error) / std[valid].astype(np.float64)


def calibrate(
    errors: Mapping[int, Sequence[NDArray[np.floating]]], share: float = INTERVAL_SHARE
) -> Calibration:
    """Finds the factor by which intervals hold the share of errors that they are to hold.

    With q the ``share`` quantile of the absolute standardised error, ``± z · σ · factor`` holds
    the share exactly where ``factor = q / z``; z is the normal distribution's (1.645 for 90 %).
    Every pixel counts alike.

    Args:
        errors: Fold → ``standardised_errors`` of its images, of predictions by a model that has
            not seen them.
        share: What two-sided intervals are to hold, above 0 and below 1.

    Returns:
        The calibration; with a single fold there are no others to calibrate it on, and
        ``coverage_by_fold`` is empty.

    Raises:
        ConfigError: If there is no error.
    """
    folds = {fold: np.abs(np.concatenate(list(each))) for fold, each in errors.items() if len(each)}
    folds = {fold: each for fold, each in folds.items() if each.size}
    if not folds:
        raise ConfigError("there is no pixel to calibrate on", field="folds")
    everything = np.concatenate(list(folds.values()))
    z = float(norm.ppf(0.5 + share / 2))
    coverage = []
    for fold, held in folds.items():
        others = [each for other, each in folds.items() if other != fold]
        if others:
            level = np.quantile(np.concatenate(others), share)
            coverage.append(float(np.mean(held <= level)))
    return Calibration(
        factor=float(np.quantile(everything, share)) / z,
        share=share,
        coverage_before=float(np.mean(everything <= z)),
        coverage_by_fold=tuple(coverage),
        pixels=int(everything.size),
    )
