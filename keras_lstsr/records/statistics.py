"""Mergeable statistics of the training split.

Sums are kept as exact fractions: every float64 is one, so that merging in any order, over any
number of workers, ends in the same bits, and ``dataset.json`` is the same for the same input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.schema import Relation, Summary

_ZERO = Fraction(0)


def _exact_sum(values: NDArray[np.float64]) -> Fraction:
    # NumPy's pairwise sum is deterministic for one array; fractions are exact from here on.
    return Fraction(float(np.sum(values)))


@dataclass(frozen=True)
class Moments:
    """Count, sum, sum of squares and range of a variable.

    Attributes:
        count: Valid values seen.
        total: Their sum.
        squares: The sum of their squares.
        minimum: The smallest; +inf where there is none.
        maximum: The largest; −inf where there is none.
    """

    count: int = 0
    total: Fraction = _ZERO
    squares: Fraction = _ZERO
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Moments:
        """Returns the moments of an array's values that are not NaN."""
        valid = values[~np.isnan(values)].astype(np.float64)
        if valid.size == 0:
            return cls()
        return cls(
            count=int(valid.size),
            total=_exact_sum(valid),
            squares=_exact_sum(valid**2),
            minimum=float(valid.min()),
            maximum=float(valid.max()),
        )

    def merge(self, other: Moments) -> Moments:
        """Returns the moments of both sets of values together."""
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    @property
    def mean(self) -> float:
        """The mean; NaN without values."""
        return float(self.total / self.count) if self.count else math.nan

    @property
    def variance(self) -> float:
        """The population variance; NaN without values."""
        if not self.count:
            return math.nan
        mean = self.total / self.count
        return max(float(self.squares / self.count - mean * mean), 0.0)

    def summary(self) -> Summary:
        """Returns the figures for ``dataset.json``; there must be values."""
        return Summary(
            count=self.count,
            mean=self.mean,
            std=math.sqrt(self.variance),
            min=self.minimum,
            max=self.maximum,
        )


@dataclass(frozen=True)
class CoMoments:
    """Sums of two variables over the pixels where both are valid: LST in kelvin, and NDVI."""

    lst: Moments = Moments()
    ndvi: Moments = Moments()
    products: Fraction = _ZERO

    @classmethod
    def of(cls, lst_kelvin: NDArray[np.floating], ndvi: NDArray[np.floating]) -> CoMoments:
        """Returns the sums of two arrays of one shape."""
        both = ~(np.isnan(lst_kelvin) | np.isnan(ndvi))
        lst = lst_kelvin[both].astype(np.float64)
        index = ndvi[both].astype(np.float64)
        return cls(Moments.of(lst), Moments.of(index), _exact_sum(lst * index))

    def merge(self, other: CoMoments) -> CoMoments:
        """Returns the sums over both sets of pixels together."""
        return CoMoments(
            self.lst.merge(other.lst),
            self.ndvi.merge(other.ndvi),
            self.products + other.products,
        )

    def relation(self) -> Relation:
        """Returns covariance, slope and correlation; there must be pixels."""
        count = self.lst.count
        covariance = float(
            self.products / count - (self.lst.total / count) * (self.ndvi.total / count)
        )
        lst_variance, ndvi_variance = self.lst.variance, self.ndvi.variance
        both = math.sqrt(lst_variance * ndvi_variance)
        return Relation(
            count=count,
            covariance_kelvin=covariance,
            slope_kelvin=covariance / ndvi_variance if ndvi_variance > 0 else 0.0,
            correlation=max(-1.0, min(1.0, covariance / both)) if both > 0 else 0.0,
            lst_std_kelvin=math.sqrt(lst_variance),
            ndvi_std=math.sqrt(ndvi_variance),
        )


@dataclass(frozen=True)
class PatchStatistics:
    """What is known of a set of patches: LST by day and night, NDVI, and how they go together.

    Attributes:
        lst: Moments of LST in kelvin by ``day``, ``night`` or ``unknown``.
        ndvi: Moments of NDVI. A guide that serves a day and a night patch counts twice, as it
            does in training.
        relation: Sums of LST and NDVI on the LST's grid by ``day``, ``night`` or ``unknown``.
    """

    lst: dict[str, Moments] = field(default_factory=dict)
    ndvi: Moments = Moments()
    relation: dict[str, CoMoments] = field(default_factory=dict)

    @classmethod
    def of_patch(
        cls,
        lst_kelvin: NDArray[np.floating],
        ndvi: NDArray[np.floating] | None,
        day_night: str,
        scale_factor: int,
    ) -> PatchStatistics:
        """Returns the statistics of one patch.

        Args:
            lst_kelvin: ``[h, w]`` in kelvin, NaN where missing.
            ndvi: ``[h · scale_factor, w · scale_factor]``, NaN where missing; None without guide.
            day_night: ``day``, ``night`` or ``unknown``.
            scale_factor: Fine pixels along a coarse pixel's side.
        """
        lst = {day_night: Moments.of(lst_kelvin)}
        if ndvi is None:
            return cls(lst=lst)
        coarse = block_mean(ndvi, scale_factor)
        return cls(lst, Moments.of(ndvi), {day_night: CoMoments.of(lst_kelvin, coarse)})

    def merge(self, other: PatchStatistics) -> PatchStatistics:
        """Returns the statistics of both sets of patches together."""
        lst = dict(self.lst)
        for name, moments in other.lst.items():
            lst[name] = lst.get(name, Moments()).merge(moments)
        relation = dict(self.relation)
        for name, sums in other.relation.items():
            relation[name] = relation.get(name, CoMoments()).merge(sums)
        return PatchStatistics(lst, self.ndvi.merge(other.ndvi), relation)

    def summaries(self) -> dict[str, Summary]:
        """Returns ``statistics`` of ``dataset.json``; variables without valid pixels are absent."""
        everything = Moments()
        for moments in self.lst.values():
            everything = everything.merge(moments)
        named = {"lst_kelvin": everything, "ndvi": self.ndvi}
        named |= {f"lst_kelvin_{name}": moments for name, moments in self.lst.items()}
        return {name: moments.summary() for name, moments in named.items() if moments.count}

    def relations(self) -> dict[str, Relation]:
        """Returns ``ndvi_relation`` of ``dataset.json``; absent where no pixel has both."""
        everything = CoMoments()
        for sums in self.relation.values():
            everything = everything.merge(sums)
        named = {"all": everything, **self.relation}
        return {name: sums.relation() for name, sums in named.items() if sums.lst.count}
