"""Scores out-of-fold predictions of pairs by the protocol that all methods are scored by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.benchmark import BASELINE
from keras_lstsr.evaluation.compare import evaluate_pairs
from keras_lstsr.evaluation.methods import PairMethod, SharpeningMethod
from keras_lstsr.evaluation.protocols import AsterProtocol
from keras_lstsr.grids.georeference import raster_crs, raster_on_grid
from keras_lstsr.pairs.files import Pair, PairSource
from keras_lstsr.pairs.registration import Coregistration
from keras_lstsr.training.pretrain_report import GUIDED, CrossValidationScores, PairScore

_PAIR = "pair"
VARIANTS: tuple[Coregistration, ...] = ("pixel", "subpixel")


def score_out_of_fold(
    sources: Sequence[PairSource],
    predictions: Mapping[str, NDArray[np.floating]],
    *,
    factor: int = 4,
    baselines: Sequence[str] = (BASELINE, "tsharp"),
) -> CrossValidationScores:
    """Scores predictions beside classical methods as ``keras-lstsr evaluate --pairs`` does.

    The protocol is ASTER's, with the truth shifted by the set's common shift in whole pixels, and
    once more in fractions of a pixel.

    Args:
        sources: The pairs.
        predictions: Pair → fine LST in kelvin on the grid of the pair's guide, cropped to what
            it covers.
        factor: Fine pixels along a coarse pixel's side.
        baselines: Classical methods to score besides; bicubic must be among them.

    Returns:
        Scores under ``"aster"`` and ``"aster_subpixel"``.

    Raises:
        ProductError: If a raster cannot be read, or no pair can be scored.
        GridError: If a prediction is missing or of another shape than its guide.
    """
    methods: dict[str, PairMethod] = {name: SharpeningMethod(name, factor) for name in baselines}
    methods[GUIDED] = OutOfFold(predictions)
    named = [NamedSource(source) for source in sources]
    scores = CrossValidationScores(rows=[], means={}, details={})
    means, details = {}, {}
    for variant in VARIANTS:
        evaluation = evaluate_pairs(
            named, methods, [AsterProtocol()], factor=factor, coregister=variant
        )
        (result,) = evaluation.results
        means[result.name], details[result.name] = result.summary(), result.details
        scores.rows.extend(
            PairScore(result.name, score.image, score.method, score.values)
            for score in result.scores
        )
    return replace(scores, means=means, details=details)


@dataclass(frozen=True)
class NamedSource:
    """A source whose LST says of which pair it is: methods see rasters alone."""

    source: PairSource

    @property
    def name(self) -> str:
        """The pair's name."""
        return self.source.name

    @property
    def group(self) -> str:
        """The pair's group."""
        return self.source.group

    def load(self) -> Pair:
        """Reads the pair and writes its name into the attributes of LST."""
        pair = self.source.load()
        return replace(pair, lst=pair.lst.assign_attrs({_PAIR: pair.name}))


class OutOfFold:
    """What the model of each pair's fold has predicted, as a ``PairMethod`` of ``NamedSource``.

    Args:
        predictions: As for ``score_out_of_fold``.
    """

    def __init__(self, predictions: Mapping[str, NDArray[np.floating]]) -> None:
        self._predictions = predictions

    def __call__(self, lst: xr.DataArray, guide: xr.DataArray) -> xr.DataArray:
        """See ``PairMethod``."""
        name = lst.attrs[_PAIR]
        values = self._predictions.get(name)
        if values is None or values.shape != guide.shape:
            raise GridError(
                "there is no prediction for the pair's grid",
                path=name,
                found="none" if values is None else f"shape {values.shape}",
                expected=f"shape {guide.shape}",
            )
        like = xr.DataArray(name="lst_kelvin", attrs={"units": "K"})
        crs = raster_crs(guide, "guide")
        return raster_on_grid(np.asarray(values), like, crs, guide.rio.transform())
