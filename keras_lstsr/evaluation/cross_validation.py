"""Scores out-of-fold predictions of samples by the protocol that all methods are scored by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import GUIDED
from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.evaluation.compare import SampleSet, compare
from keras_lstsr.evaluation.methods import (
    Method,
    PredictorMethod,
    Refined,
    SharpeningMethod,
    parse_method,
)
from keras_lstsr.evaluation.places import PLACES, PlacesProtocol, is_classical
from keras_lstsr.evaluation.protocols import AsterProtocol, NestedProtocol, ScoringProtocol
from keras_lstsr.evaluation.result import BASELINE, BenchmarkResult
from keras_lstsr.evaluation.sources import RecordSamples
from keras_lstsr.grids.grid import Grid
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.place_scenes import place_of
from keras_lstsr.records.scene_sample import Coregistration, SampleSource, SceneSample
from keras_lstsr.records.schema import load_metadata
from keras_lstsr.training.scores import CrossValidationScores, SampleScore, Scorer

if TYPE_CHECKING:
    from keras_lstsr.inference.predictor import Predictor


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


PLACE_BASELINES = (BASELINE, "tsharp", "tsharp:regression=local")
"""The classical methods beside which predictions of degraded samples are scored."""


def places_scorer(folder: str | PathLike[str], name: str = GUIDED) -> Scorer:
    """Returns what scores predictions of degraded samples by the protocol of places.

    The scores' variants are places by day or by night, ``GROUP_day``, with means over their dates;
    and ``places_day_guided``, ``places_day_alone``, …, with means over places: those with a guide
    that classical methods can use, and those without.

    Args:
        folder: A records folder with truth.
        name: Names the network among the methods.

    Raises:
        RecordsError: If the folder holds no records.
    """
    metadata = load_metadata(folder)
    factor, splits = metadata.scale_factor, [s for s, count in metadata.counts.items() if count]

    def score(predictions: Mapping[str, NDArray[np.floating]]) -> CrossValidationScores:
        methods: dict[str, Method] = {each: parse_method(each, factor) for each in PLACE_BASELINES}
        methods[name] = OutOfFold(predictions, factor)
        samples = SampleSet(
            "cross-validation",
            _WithKnownGuides(RecordSamples(Path(folder), splits, names=predictions.keys())),
            [PlacesProtocol()],
            factor=factor,
            some_unguided=True,
        )
        (result,) = compare(samples, methods).results
        variant = {
            image: f"{group}_{result.day_night[image]}"
            for image, group in zip(result.images, result.group_of_images, strict=True)
        }
        return CrossValidationScores(
            [SampleScore(variant[s.image], s.image, s.method, s.values) for s in result.scores],
            _means_by_place(result, variant),
            {each: dict(result.details) for each in variant.values()},
        )

    return score


def _means_by_place(
    result: BenchmarkResult, variant: Mapping[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Variant → method → metric → mean: over the images of a place, then over places."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    kinds: dict[str, list[str]] = {}
    for place in sorted(set(variant.values())):
        own = [s for s in result.scores if variant[s.image] == place]
        for method in dict.fromkeys(score.method for score in own):
            rows = [score.values for score in own if score.method == method]
            means.setdefault(place, {})[method] = {**_mean(rows), "images": float(len(rows))}
        guided = any(is_classical(method) and method != BASELINE for method in means[place])
        kind = f"{PLACES}_{result.day_night[own[0].image]}_{'guided' if guided else 'alone'}"
        kinds.setdefault(kind, []).append(place)
    for kind, places in kinds.items():
        for method in result.methods:
            rows = [means[place][method] for place in places if method in means[place]]
            if rows:
                whole = {**_mean(rows), "images": sum(row["images"] for row in rows)}
                means.setdefault(kind, {})[method] = whole
    return means


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the finite values; a metric without any has none."""
    found = {name: [row[name] for row in rows if name in row] for name in rows[0]}
    finite = {name: [v for v in values if np.isfinite(v)] for name, values in found.items()}
    return {name: float(np.mean(values)) for name, values in finite.items() if values}


@dataclass(frozen=True)
class _WithKnownGuides:
    """Samples without the guides that are missing throughout, which records fill up with NaN."""

    samples: Iterable[SceneSample]

    def __iter__(self) -> Iterator[SceneSample]:
        for sample in self.samples:
            known = {n: g for n, g in sample.guides.items() if np.isfinite(g.values).any()}
            yield replace(sample, guides=known)


class ModelsOfFolds:
    """The networks of a cross-validation as one method: a place gets the one that left it out.

    Their standard deviations have the calibration of the final model.

    Args:
        folder: What ``keras-lstsr cross-validate`` with ``cross_validation.test_degraded`` wrote.

    Raises:
        ConfigError: If no fold of it has left a place out.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        from keras_lstsr.training.cross_validation import read_folds

        self._folder = Path(folder)
        self._fold_of = {
            place_of(scene): record.fold
            for record in read_folds(folder)
            for scene in record.tested_degraded
            if place_of(scene)
        }
        if not self._fold_of:
            raise ConfigError(
                "no fold has left a place out",
                path=folder,
                field="cross_validation.test_degraded",
                action="Train on records with places, with this setting true.",
            )
        self._methods: dict[int, PredictorMethod] = {}

    def __call__(self, sample: SceneSample) -> Refined:
        """See ``Method``.

        Raises:
            ConfigError: If no fold has left the sample's place out, or the cross-validation has
                not finished.
            ModelError: If the fold's model cannot be loaded.
        """
        fold = self._fold_of.get(place_of(sample.name))
        if fold is None:
            raise ConfigError(
                "no fold has left this place out",
                path=self._folder,
                found=sample.name,
                expected=", ".join(sorted(self._fold_of)),
            )
        if fold not in self._methods:
            self._methods[fold] = PredictorMethod(self._predictor(fold))
        return self._methods[fold](sample)

    def _predictor(self, fold: int) -> Predictor:
        from keras_lstsr.artifacts.loading import open_model
        from keras_lstsr.artifacts.model_folder import ModelFolder
        from keras_lstsr.inference.predictor import KerasPredictor
        from keras_lstsr.training.network import calibrated

        whole = ModelFolder(self._folder)
        card, config = whole.read_card(), whole.read_config()
        if card is None or config is None:
            raise ConfigError(
                "the cross-validation has not finished",
                path=self._folder,
                expected="card.json and config.yaml",
                action="Run the same command again: it goes on where it stopped.",
            )
        model, provenance = open_model(self._folder / "folds" / f"fold_{fold}")
        if "factor" in card.calibration:
            model = calibrated(model, config, card.calibration["factor"])
        return KerasPredictor(model, provenance)


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
