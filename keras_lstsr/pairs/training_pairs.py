"""Pairs as training wants them: LST, NDVI and truth on nested grids, each truth in its place.

A set's constant shift serves for scoring, where one pair's own shift could flatter its result.
To learn from, each truth is wanted exactly where it belongs, and single pairs lie up to half a
pixel off the set; so each is moved by the shift found for it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ProductError
from keras_lstsr.grids.registration import Shift, constant_shift, shifted
from keras_lstsr.grids.warp import warp_spline
from keras_lstsr.pairs.files import Pair, PairSource, cropped_to_guide
from keras_lstsr.pairs.folds import Footprint, covered_ground
from keras_lstsr.pairs.masks import ASTER_ERODED_PIXELS, ASTER_MINIMUM_KELVIN, eroded
from keras_lstsr.pairs.registration import shift_of_pair

# Of a shift's prominence. The 54 real pairs have 0.21 to 0.72; noise has next to none.
LEAST_SHIFT_QUALITY = 0.1


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """A pair on nested grids.

    Attributes:
        name: Names the pair.
        group: Pairs of one group share ground.
        lst_kelvin: Coarse LST, ``[h, w]`` float32, NaN where missing.
        ndvi: NDVI, ``[h · f, w · f]`` float32, NaN where missing.
        truth_kelvin: True fine LST, ``[h · f, w · f]`` float32, NaN where nothing is learnt.
        footprint: Of the fine grid.
        shift: By how much the truth was moved, in its own pixels; None where it lay right.
        own_shift: Whether that was found for this pair alone.
    """

    name: str
    group: str
    lst_kelvin: NDArray[np.float32]
    ndvi: NDArray[np.float32]
    truth_kelvin: NDArray[np.float32]
    footprint: Footprint
    shift: Shift | None = None
    own_shift: bool = False

    @property
    def valid_share(self) -> float:
        """Part of the fine pixels that have truth."""
        return float(np.isfinite(self.truth_kelvin).mean())


class PairSet:
    """The pairs of a training, registered one by one.

    Memory holds all pairs.

    Args:
        sources: The pairs.
        factor: Fine pixels along a coarse pixel's side.
        progress: Called with each pair's name once it is registered.

    Raises:
        ProductError: If a raster cannot be read, or there is no pair.
        GridError: If a guide does not fit its LST.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        factor: int,
        *,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if not sources:
            raise ProductError("there is no pair to learn from")
        self.factor = factor
        self._pairs: dict[str, Pair] = {}
        self._ready: dict[str, TrainingPair] = {}
        self.shifts: dict[str, Shift | None] = {}
        self.footprints: dict[str, Footprint] = {}
        for source in sources:
            pair = cropped_to_guide(source.load(), factor)
            self._pairs[pair.name] = pair
            self.footprints[pair.name] = Footprint.of(pair.guide)
            shift = shift_of_pair(pair, factor)
            usable = shift is not None and shift.quality >= LEAST_SHIFT_QUALITY
            self.shifts[pair.name] = shift if usable else None
            if progress is not None:
                progress(pair.name)

    @property
    def names(self) -> list[str]:
        """The pairs' names in their order."""
        return list(self._pairs)

    @property
    def groups(self) -> list[str]:
        """The pairs' groups in their order."""
        return [pair.group for pair in self._pairs.values()]

    def selected(
        self, names: Sequence[str], registered_with: Collection[str], without: Sequence[str] = ()
    ) -> list[TrainingPair]:
        """Returns pairs with their truth in its place.

        Args:
            names: The pairs wanted.
            registered_with: Pairs whose common shift stands in for pairs without a clear one of
                their own.
            without: Pairs on whose ground no truth is left.

        Returns:
            The pairs in the order of ``names``.

        Raises:
            GridError: If a pair has no shift of its own and none of ``registered_with`` has.
        """
        tested = [self.footprints[name] for name in without]
        return [without_ground(self._in_place(name, registered_with), tested) for name in names]

    def _in_place(self, name: str, registered_with: Collection[str]) -> TrainingPair:
        own = self.shifts[name]
        if own is None:
            known = (self.shifts[other] for other in registered_with)
            common = constant_shift([shift for shift in known if shift is not None])
            return training_pair(self._pairs[name], shift=common)
        if name not in self._ready:
            self._ready[name] = training_pair(self._pairs[name], shift=own, own_shift=True)
        return self._ready[name]


def without_ground(pair: TrainingPair, others: Sequence[Footprint]) -> TrainingPair:
    """Leaves out a pair's truth on ground that other rasters cover, be it in part.

    Args:
        pair: Any pair.
        others: The other rasters, anywhere on Earth.

    Returns:
        The pair; the same if no other is there.
    """
    if not others:
        return pair
    hidden = covered_ground(pair.footprint, others)
    return replace(pair, truth_kelvin=np.where(hidden, np.float32(np.nan), pair.truth_kelvin))


def training_pair(
    pair: Pair, *, shift: Shift | None = None, own_shift: bool = False
) -> TrainingPair:
    """Brings a pair's truth onto its own fine grid, by a cubic spline.

    Colder truth than 270 K is left out, and the rest eroded by 6 pixels, as the ASTER protocol
    does.

    Args:
        pair: As ``cropped_to_guide`` returns it.
        shift: How far the truth lies from where it says.
        own_shift: Whether that was found for this pair alone.

    Returns:
        The pair in arrays.

    Raises:
        GridError: If the truth has no CRS or is rotated.
    """
    truth = pair.truth if shift is None else shifted(pair.truth, shift)
    usable = eroded(np.asarray(truth.values) >= ASTER_MINIMUM_KELVIN, ASTER_ERODED_PIXELS)
    return TrainingPair(
        pair.name,
        pair.group,
        np.asarray(pair.lst.values, np.float32),
        np.asarray(pair.guide.values, np.float32),
        np.asarray(warp_spline(truth.where(usable), pair.guide).values, np.float32),
        Footprint.of(pair.guide),
        shift,
        own_shift,
    )


def nested_pair(pair: Pair, factor: int) -> TrainingPair:
    """Takes a pair whose truth lies in its place and needs no mask, as simulated ones do.

    Args:
        pair: With a truth that covers the guide's ground on the same pixels.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        The pair in arrays.

    Raises:
        ProductError: If the guide covers no pixel of LST.
    """
    cropped = cropped_to_guide(pair, factor)
    return TrainingPair(
        pair.name,
        pair.group,
        np.asarray(cropped.lst.values, np.float32),
        np.asarray(cropped.guide.values, np.float32),
        np.asarray(warp_spline(cropped.truth, cropped.guide, order=1).values, np.float32),
        Footprint.of(cropped.guide),
    )
