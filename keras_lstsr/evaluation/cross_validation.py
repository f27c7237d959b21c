"""Scores out-of-fold predictions of samples by the protocol that all methods are scored by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import GUIDED
from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.compare import SampleSet, compare
from keras_lstsr.evaluation.methods import Method, Refined, SharpeningMethod
from keras_lstsr.evaluation.protocols import AsterProtocol, NestedProtocol, ScoringProtocol
from keras_lstsr.evaluation.result import BASELINE
from keras_lstsr.evaluation.sources import RecordSamples
from keras_lstsr.grids.grid import Grid
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.scene_sample import Coregistration, SampleSource, SceneSample
from keras_lstsr.records.schema import load_metadata
from keras_lstsr.training.scores import CrossValidationScores, SampleScore, Scorer


def score_out_of_fold(
    sources: Iterable[SampleSource],
    predictions: Mapping[str, NDArray[np.floating]],
    *,
    name: str = GUIDED,
    protocol: ScoringProtocol | None = None,
    factor: int = 4,
    baselines: Sequence[str] = (BASELINE, "tsharp"),
) -> CrossValidationScores:
    """Scores predictions beside classical methods as ``keras-lstsr evaluate`` does.

    A truth of another instrument is shifted by the set's common shift in whole pixels, and once
    more in fractions of a pixel.

    Args:
        sources: The samples.
        predictions: Sample → fine LST in kelvin on the fine grid that the protocol gives methods:
            for pairs, what the guides cover; for records, the whole sample.
        name: Names the network among the methods.
        protocol: How to score; by default ASTER's protocol.
        factor: Fine pixels along a coarse pixel's side.
        baselines: Classical methods to score besides; bicubic must be among them.

    Returns:
        Scores by the name of the result: ``"aster"`` and ``"aster_subpixel"`` by default.

    Raises:
        ProductError: If a raster cannot be read, or no sample can be scored.
        GridError: If a prediction is missing or of another shape than the sample's fine grid.
    """
    protocol = protocol or AsterProtocol()
    methods: dict[str, Method] = {each: SharpeningMethod(each, factor) for each in baselines}
    methods[name] = OutOfFold(predictions, factor)
    variants: tuple[Coregistration, ...] = (
        ("pixel", "subpixel") if protocol.foreign_truth else ("none",)
    )
    scores = CrossValidationScores(rows=[], means={}, details={})
    means, details = {}, {}
    for variant in variants:
        samples = SampleSet("cross-validation", sources, [protocol], variant, factor)
        (result,) = compare(samples, methods).results
        means[result.name], details[result.name] = result.summary(), result.details
        scores.rows.extend(
            SampleScore(result.name, score.image, score.method, score.values)
            for score in result.scores
        )
    return replace(scores, means=means, details=details)


def pairs_scorer(folder: str | PathLike[str], name: str = GUIDED) -> Scorer:
    """Returns what scores predictions of a folder's pairs by ASTER's protocol.

    Args:
        folder: Folder of pairs.
        name: Names the network among the methods.

    Raises:
        ProductError: If the folder holds no pairs.
    """
    sources = find_pairs(folder)
    return lambda predictions: score_out_of_fold(sources, predictions, name=name)


def records_scorer(folder: str | PathLike[str], name: str = GUIDED) -> Scorer:
    """Returns what scores predictions of records against the records' own truth.

    Args:
        folder: A records folder with truth.
        name: Names the network among the methods.

    Raises:
        RecordsError: If the folder holds no records.
    """
    metadata = load_metadata(folder)
    baselines = (BASELINE, "tsharp") if "ndvi" in metadata.guides else (BASELINE,)

    def score(predictions: Mapping[str, NDArray[np.floating]]) -> CrossValidationScores:
        splits = [split for split, count in metadata.counts.items() if count]
        return score_out_of_fold(
            RecordSamples(Path(folder), splits, names=predictions.keys()),
            predictions,
            name=name,
            protocol=NestedProtocol("unseen_ground", "1 km → 250 m, unseen ground", cropped=False),
            factor=metadata.scale_factor,
            baselines=baselines,
        )

    return score


class OutOfFold:
    """What the model of each sample's fold has predicted, as a method.

    Args:
        predictions: As for ``score_out_of_fold``.
        factor: Fine pixels along a coarse pixel's side.
    """

    def __init__(self, predictions: Mapping[str, NDArray[np.floating]], factor: int = 4) -> None:
        self._predictions, self._factor = predictions, factor

    def __call__(self, sample: SceneSample) -> Refined:
        """See ``Method``."""
        values = self._predictions.get(sample.name)
        grid = Grid.of(sample.lst, "lst").finer(self._factor)
        if values is None or values.shape != grid.shape:
            raise GridError(
                "there is no prediction for the sample's grid",
                path=sample.name,
                found="none" if values is None else f"shape {values.shape}",
                expected=f"shape {grid.shape}",
            )
        fine = grid.raster(np.asarray(values), name="lst_kelvin", attrs={"units": "K"})
        return Refined(fine)
