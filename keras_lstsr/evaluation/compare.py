"""Scores methods on samples: every method on every sample, with and without co-registration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from keras_lstsr.config.guides import is_regressor
from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.evaluation.methods import Method
from keras_lstsr.evaluation.protocols import ScoringProtocol
from keras_lstsr.evaluation.report.content import (
    Collector,
    Evaluation,
    SceneMaps,
    representative_images,
    scene_maps,
    shift_text,
)
from keras_lstsr.evaluation.result import (
    MINIMUM_SCORED_PIXELS,
    BenchmarkResult,
    ImageMaps,
    score_maps,
)
from keras_lstsr.grids.registration import Shift
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.scene_sample import (
    REFERENCE_METHOD,
    Coregistration,
    SampleSource,
    SceneSample,
    SetRegistration,
    register_scenes,
)

UNSHIFTED = "_unshifted"
SUBPIXEL = "_subpixel"

Progress = Callable[[str, str], None]
"""Called with the step (``"register"``, ``"score"``) and the sample that is done."""


@dataclass(frozen=True)
class SampleSet:
    """What methods are scored on, and how.

    Attributes:
        data: Names the set in words, e.g. the folder in quotation marks.
        sources: The samples; gone through several times, each loaded alone.
        protocols: How to score; the first gives maps, spectra and scatter.
        coregister: What to do about a truth that is not where it says; protocols that compare
            with no foreign truth are not concerned.
        factor: Fine pixels along a coarse pixel's side.
        guided: Whether the samples have a guide.
        some_unguided: Whether some have none: they are scored with the methods that need none.
        notes: What else to say of it in a report, one paragraph each.
    """

    data: str
    sources: Iterable[SampleSource]
    protocols: Sequence[ScoringProtocol]
    coregister: Coregistration = "none"
    factor: int = 4
    guided: bool = True
    some_unguided: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Variant:
    """A protocol with the shift that it is run with, and the result that it fills."""

    protocol: ScoringProtocol
    shift: Shift | None
    result: BenchmarkResult


def compare(
    samples: SampleSet, methods: Mapping[str, Method], *, progress: Progress | None = None
) -> Evaluation:
    """Scores methods on a set of samples.

    Memory holds one sample with the results of all methods.

    Args:
        samples: The samples, and how to score.
        methods: Name → method; ``bicubic`` among them is what the others are counted against.
        progress: Called after each sample.

    Returns:
        The evaluation.

    Raises:
        ProductError: If a raster cannot be read, or no sample can be scored.
        GridError: If a method's result does not lie on the fine grid, or no sample can be
            registered.
    """
    comparison = _Comparison(samples, methods)
    comparison.try_out()
    registration = None
    if samples.coregister != "none" and any(p.foreign_truth for p in samples.protocols):
        registration = register_scenes(
            samples.sources,
            samples.factor,
            progress=progress and (lambda name: progress("register", name)),
        )
    variants = [v for p in samples.protocols for v in _variants(p, samples, registration)]
    first, collector = variants[0], Collector()
    left_out: list[str] = []
    files: dict[str, frozenset[str]] = {}
    for source in samples.sources:
        sample = source.load()
        files[sample.name] = frozenset(sample.files.values())
        scored = False
        for variant, _, maps in comparison.images(sample, variants):
            scores = score_maps(maps)
            variant.result.scores += scores
            if scores:
                variant.result.groups[maps.image] = sample.group
                variant.result.day_night[maps.image] = sample.day_night
            if scores and variant is first:
                scored = True
                if len(maps.maps) == len(methods):
                    collector.add(maps)
        left_out += [] if scored else [sample.name]
        if progress is not None:
            progress("score", sample.name)
    order = {method: place for place, method in enumerate(methods)}
    for variant in variants:
        variant.result.details["samples"] = len(files)
        if samples.some_unguided:  # the first sample may lack methods
            variant.result.scores.sort(key=lambda score: order[score.method])
        if not variant.result.scores:
            raise ProductError(
                "no sample can be scored",
                path=samples.data,
                field=variant.result.title,
                expected=f"{MINIMUM_SCORED_PIXELS} pixels that the truth and every method have",
            )
    shown, rule = representative_images(first.result)
    return Evaluation(
        data=samples.data,
        results=[variant.result for variant in variants],
        registration=registration,
        applied_shift=first.shift,
        scenes=comparison.scenes(first, shown),
        files=files,
        scene_rule=rule,
        spectra=collector.spectra(samples.factor),
        scatter=collector.scatter(),
        method_notes={name: list(cases) for name, cases in comparison.notes.items()},
        left_out=left_out,
        notes=[f"Methods: {', '.join(methods)}.", *samples.notes],
    )


class _Comparison:
    """Runs methods on the samples of a set, and remembers what they said."""

    def __init__(self, samples: SampleSet, methods: Mapping[str, Method]) -> None:
        self._samples, self._methods = samples, methods
        # An ordered set for each method: a sample that is refined again says the same again.
        self.notes: dict[str, dict[str, None]] = {}

    def try_out(self) -> None:
        """Refines the first sample: what is wrong with an option shows before all else."""
        for source in self._samples.sources:
            protocol = self._samples.protocols[0]
            self._refined(protocol.prepared(source.load(), self._samples.factor))
            break

    def images(
        self, sample: SceneSample, variants: Sequence[_Variant]
    ) -> Iterator[tuple[_Variant, SceneSample, ImageMaps]]:
        """Yields what the methods saw of a sample and what to score; they work once per task."""
        tasks: dict[str, tuple[SceneSample, dict[str, xr.DataArray]]] = {}
        for variant in variants:
            protocol = variant.protocol
            if protocol.task not in tasks:
                prepared = protocol.prepared(sample, self._samples.factor)
                tasks[protocol.task] = prepared, self._refined(prepared)
            prepared, fine = tasks[protocol.task]
            if fine:
                for maps in protocol.images(prepared, fine, variant.shift):
                    yield variant, prepared, maps

    def _refined(self, sample: SceneSample) -> dict[str, xr.DataArray]:
        """Returns the methods' results; none where a method finds no pixel to work on."""
        factor = self._samples.factor
        guides = {n: g for n, g in sample.guides.items() if np.isfinite(g.values).any()}
        wanted = [name for name in sample.guides if is_regressor(name)]
        methods = dict(self._methods)
        if self._samples.some_unguided and not wanted:
            methods = {n: m for n, m in methods.items() if not getattr(m, "needs_guide", False)}
        usable = np.isfinite(sample.lst.values)
        if any(getattr(method, "needs_guide", False) for method in methods.values()):
            usable &= all(name in guides for name in wanted)
            for name in guides.keys() & wanted:
                usable &= np.isfinite(block_mean(np.asarray(guides[name].values), factor))
        if not usable.any():
            return {}
        results = {}
        expected = tuple(factor * sample.lst.sizes[axis] for axis in ("y", "x"))
        blind = replace(sample, guides=guides, truth=None)
        for name, method in methods.items():
            refined = method(blind)
            if refined.lst_kelvin.shape != expected:
                raise GridError(
                    f"the result of {name} does not lie on the fine grid",
                    path=sample.name,
                    found=f"shape {refined.lst_kelvin.shape}",
                    expected=f"shape {expected}",
                )
            if refined.note:
                self.notes.setdefault(name, {})[f"{sample.name}: {refined.note}"] = None
            results[name] = refined.lst_kelvin
        return results

    def scenes(self, variant: _Variant, images: Sequence[str]) -> list[SceneMaps]:
        """Refines the samples of some images once more, and returns their maps."""
        found: dict[str, SceneMaps] = {}
        for source in self._samples.sources:
            # A sub-image's name begins with its sample's.
            if not any(f"{image}/".startswith(f"{source.name}/") for image in images):
                continue
            for _, prepared, maps in self.images(source.load(), [variant]):
                if maps.image in images:
                    found[maps.image] = scene_maps(maps, prepared, variant.result)
        return [found[image] for image in images]


def _variants(
    protocol: ScoringProtocol, samples: SampleSet, registration: SetRegistration | None
) -> list[_Variant]:
    if not protocol.foreign_truth:
        return [_variant(protocol, "", protocol.title, None)]
    unshifted = _variant(protocol, UNSHIFTED, f"{protocol.title}, without co-registration", None)
    if registration is None:
        return [unshifted]
    exact = samples.coregister == "subpixel"
    shift = registration.constant if exact else registration.whole_pixels
    words = f"{protocol.title}, truth shifted by {shift_text(shift)}"
    shifted = _variant(protocol, SUBPIXEL if exact else "", words, shift)
    found = registration.constant
    shifted.result.details |= {
        "shift_found_pixels": _rounded(found.rows, found.columns),
        "shift_spread_pixels": _rounded(found.row_spread, found.column_spread),
        "samples_registered": found.count,
        "registered_with": REFERENCE_METHOD,
    }
    return [shifted, unshifted] if samples.coregister == "both" else [shifted]


def _variant(protocol: ScoringProtocol, ending: str, title: str, shift: Shift | None) -> _Variant:
    details: dict[str, Any] = {"protocol": protocol.name}
    if protocol.foreign_truth:
        rows, columns = (0.0, 0.0) if shift is None else (shift.rows, shift.columns)
        details["shift_applied_pixels"] = _rounded(rows, columns)
    result = BenchmarkResult(
        f"{protocol.name}{ending}", title, main_metrics=protocol.main_metrics, details=details
    )
    return _Variant(protocol, shift, result)


def _rounded(rows: float, columns: float) -> dict[str, float]:
    # Shifts are found to a hundredth of a pixel.
    return {"rows": round(rows, 2), "columns": round(columns, 2)}
