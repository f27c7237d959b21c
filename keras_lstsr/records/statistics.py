"""Mergeable statistics of the training split.

Sums are kept as exact fractions: every float64 is one, so that merging in any order, over any
number of workers, ends in the same bits, and ``dataset.json`` is the same for the same input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import Relation, Summary

_ZERO = Fraction(0)


def _exact_sum(values: NDArray[np.float64]) -> Fraction:
    # NumPy's pairwise sum is deterministic for one array; fractions are exact from here on.
    return Fraction(float(np.sum(values)))


@dataclass(frozen=True)
class Moments:
    """Count, sum, sum of squares and range of a variable; ±inf for the range of nothing."""

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
    """Sums of two variables over the pixels where both are valid: LST in kelvin, and a guide."""

    lst: Moments = Moments()
    guide: Moments = Moments()
    products: Fraction = _ZERO

    @classmethod
    def of(cls, lst_kelvin: NDArray[np.floating], guide: NDArray[np.floating]) -> CoMoments:
        """Returns the sums of two arrays of one shape."""
        both = ~(np.isnan(lst_kelvin) | np.isnan(guide))
        lst = lst_kelvin[both].astype(np.float64)
        other = guide[both].astype(np.float64)
        return cls(Moments.of(lst), Moments.of(other), _exact_sum(lst * other))

    def merge(self, other: CoMoments) -> CoMoments:
        """Returns the sums over both sets of pixels together."""
        return CoMoments(
            self.lst.merge(other.lst),
            self.guide.merge(other.guide),
            self.products + other.products,
        )

    def relation(self) -> Relation:
        """Returns covariance, slope and correlation; there must be pixels."""
        count = self.lst.count
        covariance = float(
            self.products / count - (self.lst.total / count) * (self.guide.total / count)
        )
        lst_variance, guide_variance = self.lst.variance, self.guide.variance
        both = math.sqrt(lst_variance * guide_variance)
        return Relation(
            count=count,
            covariance_kelvin=covariance,
            slope_kelvin=covariance / guide_variance if guide_variance > 0 else 0.0,
            correlation=max(-1.0, min(1.0, covariance / both)) if both > 0 else 0.0,
            lst_std_kelvin=math.sqrt(lst_variance),
            guide_std=math.sqrt(guide_variance),
        )


@dataclass(frozen=True)
class SampleStatistics:
    """What is known of a set of samples: LST by day and night, guides, and how they go together.

    Attributes:
        lst: Moments of LST in kelvin by ``day``, ``night`` or ``unknown``.
        fine: Moments of the guides by name, and of the truth as ``truth_kelvin``. A guide that
            serves a day and a night sample counts twice, as it does in training.
        relation: Sums of LST and a guide on the LST's grid by guide and ``day``, ``night`` or
            ``unknown``.
    """

    lst: dict[str, Moments] = field(default_factory=dict)
    fine: dict[str, Moments] = field(default_factory=dict)
    relation: dict[tuple[str, str], CoMoments] = field(default_factory=dict)

    @classmethod
    def of(cls, sample: Sample) -> SampleStatistics:
        """Returns the statistics of one sample."""
        fine = {name: Moments.of(guide) for name, guide in sample.guides.items()}
        if sample.truth_kelvin is not None:
            fine["truth_kelvin"] = Moments.of(sample.truth_kelvin)
        relation = {
            (name, sample.day_night): CoMoments.of(
                sample.lst_kelvin, block_mean(guide, sample.scale_factor)
            )
            for name, guide in sample.guides.items()
        }
        return cls({sample.day_night: Moments.of(sample.lst_kelvin)}, fine, relation)

    def merge(self, other: SampleStatistics) -> SampleStatistics:
        """Returns the statistics of both sets of samples together."""
        return SampleStatistics(
            _merged(self.lst, other.lst, Moments()),
            _merged(self.fine, other.fine, Moments()),
            _merged(self.relation, other.relation, CoMoments()),
        )

    def summaries(self) -> dict[str, Summary]:
        """Returns ``statistics`` of ``dataset.json``; variables without valid pixels are absent."""
        named = {"lst_kelvin": _sum(self.lst.values(), Moments()), **self.fine}
        named |= {f"lst_kelvin_{name}": moments for name, moments in self.lst.items()}
        return {name: moments.summary() for name, moments in named.items() if moments.count}

    def relations(self) -> dict[str, dict[str, Relation]]:
        """Returns ``guide_relations`` of ``dataset.json``; absent where no pixel has both."""
        found: dict[str, dict[str, Relation]] = {}
        for guide in dict.fromkeys(guide for guide, _ in self.relation):
            own = {time: sums for (name, time), sums in self.relation.items() if name == guide}
            named = {"all": _sum(own.values(), CoMoments()), **own}
            known = {time: sums.relation() for time, sums in named.items() if sums.lst.count}
            if known:
                found[guide] = known
        return found


class _Mergeable(Protocol):
    def merge(self, other: Self) -> Self: ...


Key = TypeVar("Key")
Sums = TypeVar("Sums", bound=_Mergeable)


def _merged(first: dict[Key, Sums], second: dict[Key, Sums], nothing: Sums) -> dict[Key, Sums]:
    result = dict(first)
    for name, sums in second.items():
        result[name] = result.get(name, nothing).merge(sums)
    return result


def _sum(parts: Iterable[Sums], nothing: Sums) -> Sums:
    return reduce(lambda total, part: total.merge(part), parts, nothing)
