"""Confidence intervals of mean scores by a bootstrap that draws whole groups of images.

Images that share ground, or one place on several days, are no independent samples: intervals that
take them for such are too narrow. So groups are drawn with replacement, each with all its values
(cluster bootstrap), and the mean is that of all values drawn.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from keras_lstsr.errors import ConfigError

# Groups drawn that are held at a time: three arrays of 8 MB.
_CHUNK_GROUPS = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: Mean of the finite values; NaN if there are none.
        low: Lower end; NaN if there are fewer than two groups, which tell nothing of the spread.
        high: Upper end; NaN likewise.
        level: Confidence level, e.g. 0.95.
    """

    mean: float
    low: float
    high: float
    level: float


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[Hashable] | NDArray[np.generic] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of the mean by the cluster bootstrap.

    The ends are expanded percentiles of the resampled means: for G groups those at
    ``Φ(∓ √(G / (G − 1)) t)`` with t the quantile of Student's distribution with G − 1 degrees of
    freedom. Plain percentiles are too narrow by that factor, which counts when groups are few.

    Args:
        values: ``[N]`` scores; those that are not finite are left out.
        groups: ``[N]`` group of each value; None takes each value for a group.
        level: Between 0 and 1.
        resamples: Number of draws.
        seed: The same seed gives the same interval.

    Returns:
        The mean of the values, and its interval. Groups of equal values give an interval of no
        width; fewer than two groups give NaN ends.

    Raises:
        ConfigError: If the level is not between 0 and 1, there is no resample, or ``values`` and
            ``groups`` differ in length.

    Source: cluster bootstrap: Davison & Hinkley (1997), section 3.8; expanded percentiles:
    Hesterberg (2015), doi:10.1080/00031305.2015.1089789.
    """
    scores = np.asarray(values, dtype=np.float64)
    _check(scores, groups, level, resamples)
    finite = np.isfinite(scores)
    members = _group_numbers(groups, len(scores))[finite]
    scores = scores[finite]
    if not scores.size:
        return Interval(float("nan"), float("nan"), float("nan"), level)
    # Around a score: the mean of equal scores is theirs to the last digit, and so are the draws'.
    mean = float(scores[0] + np.mean(scores - scores[0]))
    _, members = np.unique(members, return_inverse=True)
    sizes = np.bincount(members).astype(np.float64)
    count = len(sizes)
    if count < 2:
        return Interval(mean, float("nan"), float("nan"), level)
    sums = np.asarray(np.bincount(members, scores - mean), dtype=np.float64)
    means = _resampled_means(sums, sizes, resamples, seed)
    student = stats.t.ppf(0.5 + level / 2, count - 1)
    tail = float(stats.norm.cdf(-np.sqrt(count / (count - 1)) * student))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, mean + float(low), mean + float(high), level)


def paired_difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Hashable] | NDArray[np.generic] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of the mean of first minus second, image by image.

    What the images have in common cancels, so that two methods can differ clearly though their
    own intervals overlap. They differ at the level if the interval leaves out 0. Scores of both
    methods are of the same images in the same order; images of which either is not finite are left
    out. See :func:`bootstrap_interval` for the other arguments.

    Raises:
        ConfigError: If the lengths differ, or as of :func:`bootstrap_interval`.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ConfigError("paired scores differ in number", found=f"shapes {a.shape} and {b.shape}")
    with np.errstate(invalid="ignore"):
        difference = a - b
    return bootstrap_interval(difference, groups, level=level, resamples=resamples, seed=seed)


def _check(
    scores: NDArray[np.float64],
    groups: Sequence[Hashable] | NDArray[np.generic] | None,
    level: float,
    resamples: int,
) -> None:
    if scores.ndim != 1:
        raise ConfigError("scores are not a list", found=f"shape {scores.shape}", expected="[N]")
    if groups is not None and len(groups) != len(scores):
        raise ConfigError(
            "scores and groups differ in number",
            found=f"{len(scores)} scores and {len(groups)} groups",
            expected="a group for each score",
        )
    if not 0 < level < 1:
        raise ConfigError("the confidence level is out of range", found=level, expected="0 to 1")
    if resamples < 1:
        raise ConfigError("there is nothing to draw", field="resamples", found=resamples)


def _group_numbers(
    groups: Sequence[Hashable] | NDArray[np.generic] | None, count: int
) -> NDArray[np.int64]:
    if groups is None:
        return np.arange(count)
    # In order of appearance: names need not be sortable.
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    count = len(sums)
    chunk = max(1, _CHUNK_GROUPS // count)
    means = []
    for start in range(0, resamples, chunk):
        draws = min(chunk, resamples - start)
        drawn = rng.integers(count, size=(draws, count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
