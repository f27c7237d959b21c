"""Scores methods on pairs: every method on every pair, with and without co-registration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.evaluation.benchmark import BASELINE, BenchmarkResult
from keras_lstsr.evaluation.methods import FALLBACK_ATTRIBUTES, PairMethod
from keras_lstsr.evaluation.protocols import PairProtocol
from keras_lstsr.evaluation.report_content import SceneMaps, Spectra
from keras_lstsr.evaluation.scoring import (
    CONSISTENCY_METRIC,
    PAIR_METRICS,
    ImageMaps,
    score_maps,
)
from keras_lstsr.grids.registration import Shift
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.metrics.spectra import fourier_ring_correlation, radial_power_spectrum
from keras_lstsr.pairs.files import Pair, PairSource
from keras_lstsr.pairs.masks import extent_of
from keras_lstsr.pairs.registration import (
    REFERENCE_METHOD,
    Coregistration,
    SetRegistration,
    register_pairs,
)

UNSHIFTED = "_unshifted"
SUBPIXEL = "_subpixel"
SPECTRUM_RINGS = 64
SCATTER_PIXELS = 6000

Progress = Callable[[str, str], None]
"""Called with the step (``"register"``, ``"score"``) and the pair that is done."""


@dataclass
class PairsEvaluation:
    """What came out of an evaluation on pairs.

    Attributes:
        results: One per protocol and variant of co-registration; the first is the main one.
        registration: The shifts found; None where none was looked for.
        applied_shift: The shift of the first result; None where none was applied.
        scenes: Maps of representative pairs.
        spectra: Mean spectra of the first result's images.
        scatter: Method → (true, predicted) kelvin of a sample of the first result's pixels.
        fallbacks: Method → what it did otherwise on which pairs, in words.
        left_out: Pairs without a score in the first result: too little that is clear.
        scene_rule: By what rule the scenes were chosen, in words.
        training_notes: Which models were trained on pairs that they are scored on, in words.
    """

    results: list[BenchmarkResult]
    registration: SetRegistration | None = None
    applied_shift: Shift | None = None
    scenes: list[SceneMaps] = field(default_factory=list)
    spectra: Spectra | None = None
    scatter: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = field(
        default_factory=dict
    )
    fallbacks: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    scene_rule: str = ""
    training_notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Variant:
    """A protocol with the shift that it is run with, and the result that it fills."""

    protocol: PairProtocol
    shift: Shift | None
    result: BenchmarkResult


def evaluate_pairs(
    sources: Sequence[PairSource],
    methods: Mapping[str, PairMethod],
    protocols: Sequence[PairProtocol],
    *,
    factor: int = 4,
    coregister: Coregistration = "pixel",
    progress: Progress | None = None,
) -> PairsEvaluation:
    """Scores methods on pairs.

    Memory holds one pair with the results of all methods.

    Args:
        sources: The pairs.
        methods: Name → method; ``bicubic`` among them is what the others are counted against.
        protocols: How to score; the first gives maps, spectra and scatter.
        factor: Fine pixels along a coarse pixel's side.
        coregister: What to do about a truth that is not where it says; see
            ``pairs.registration.Coregistration``. Protocols that compare with no foreign truth are
            not concerned.
        progress: Called after each pair.

    Returns:
        The evaluation.

    Raises:
        ProductError: If a raster cannot be read, or no pair can be scored or registered.
        GridError: If a method's result does not lie on the fine grid.
    """
    # What is wrong with an option shows on the first pair, not after the registration of all.
    for source in sources[:1]:
        _sharpened(protocols[0].prepared(source.load(), factor), methods, factor, {})
    registration = None
    if coregister != "none" and any(protocol.uses_shift for protocol in protocols):
        registration = register_pairs(
            sources, factor, progress=progress and (lambda name: progress("register", name))
        )
    variants = [
        variant for p in protocols for variant in _variants(p, coregister, registration, sources)
    ]
    collector = _Collector()
    evaluation = PairsEvaluation(
        [variant.result for variant in variants], registration, variants[0].shift
    )
    for source in sources:
        pair = source.load()
        for number, (variant, maps) in enumerate(
            _scored_maps(pair, methods, variants, factor, evaluation.fallbacks)
        ):
            scores = score_maps(maps)
            variant.result.scores += scores
            if scores:
                variant.result.groups[maps.image] = pair.group
            if scores and variant is variants[0]:
                collector.add(maps, seed=len(variant.result.groups) + number)
        if progress is not None:
            progress("score", pair.name)
    scored = set(variants[0].result.groups)
    evaluation.left_out = [
        source.name
        for source in sources
        if not any(image == source.name or image.startswith(f"{source.name}/") for image in scored)
    ]
    empty = [result.title for result in evaluation.results if not result.scores]
    if empty:
        raise ProductError(
            "no pair can be scored",
            field=empty[0],
            expected="49 pixels that the truth and every method have",
        )
    evaluation.spectra, evaluation.scatter = collector.spectra(factor), collector.scatter()
    _add_scenes(evaluation, sources, methods, variants[0], factor)
    return evaluation


def _variants(
    protocol: PairProtocol,
    coregister: Coregistration,
    registration: SetRegistration | None,
    sources: Sequence[PairSource],
) -> list[_Variant]:
    if not protocol.uses_shift:
        return [_variant(protocol, "", protocol.title, None, sources)]
    unshifted = _variant(
        protocol, UNSHIFTED, f"{protocol.title}, without co-registration", None, sources
    )
    if registration is None:
        return [unshifted]
    exact = coregister == "subpixel"
    shift = registration.constant if exact else registration.whole_pixels
    words = f"{protocol.title}, truth shifted by {shift_text(shift)}"
    shifted = _variant(protocol, SUBPIXEL if exact else "", words, shift, sources)
    found = registration.constant
    shifted.result.details |= {
        "shift_found_pixels": _rounded(found.rows, found.columns),
        "shift_spread_pixels": _rounded(found.row_spread, found.column_spread),
        "pairs_registered": found.count,
        "registered_with": REFERENCE_METHOD,
    }
    return [shifted, unshifted] if coregister == "both" else [shifted]


def _variant(
    protocol: PairProtocol,
    ending: str,
    title: str,
    shift: Shift | None,
    sources: Sequence[PairSource],
) -> _Variant:
    details: dict[str, Any] = {"protocol": protocol.name, "pairs": len(sources)}
    if protocol.uses_shift:
        rows, columns = (0.0, 0.0) if shift is None else (shift.rows, shift.columns)
        details["shift_applied_pixels"] = _rounded(rows, columns)
    result = BenchmarkResult(
        f"{protocol.name}{ending}", title, metrics=_metrics(protocol), details=details
    )
    return _Variant(protocol, shift, result)


def _rounded(rows: float, columns: float) -> dict[str, float]:
    # Shifts are found to a hundredth of a pixel.
    return {"rows": round(rows, 2), "columns": round(columns, 2)}


def _metrics(protocol: PairProtocol) -> tuple[str, ...]:
    # A sub-image's coarse pixels may be cut by its border: consistency is a whole scene's matter.
    if protocol.name.startswith("report"):
        return tuple(metric for metric in PAIR_METRICS if metric != CONSISTENCY_METRIC)
    return PAIR_METRICS


def shift_text(shift: Shift) -> str:
    """Writes a shift for a title: ``(−1, −1) pixels (rows, columns)``."""
    values = ", ".join(f"{v:.3g}".replace("-", "−") for v in (shift.rows, shift.columns))
    return f"({values}) pixels (rows, columns)"


def _scored_maps(
    pair: Pair,
    methods: Mapping[str, PairMethod],
    variants: Sequence[_Variant],
    factor: int,
    fallbacks: dict[str, list[str]],
) -> Iterator[tuple[_Variant, ImageMaps]]:
    """Yields what to score of a pair; each method works once per task."""
    tasks: dict[str, tuple[Pair, dict[str, xr.DataArray]]] = {}
    for variant in variants:
        task = variant.protocol.task
        if task not in tasks:
            prepared = variant.protocol.prepared(pair, factor)
            tasks[task] = prepared, _sharpened(prepared, methods, factor, fallbacks)
        prepared, fine = tasks[task]
        if not fine:
            continue
        for maps in variant.protocol.images(prepared, fine, variant.shift):
            yield variant, maps


def _sharpened(
    pair: Pair,
    methods: Mapping[str, PairMethod],
    factor: int,
    fallbacks: dict[str, list[str]],
) -> dict[str, xr.DataArray]:
    """Returns the methods' results; none for a pair without a pixel that has LST and guide."""
    guided = np.isfinite(block_mean(np.asarray(pair.guide.values), factor))
    if not (guided & np.isfinite(pair.lst.values)).any():
        return {}
    results = {}
    expected = tuple(factor * pair.lst.sizes[axis] for axis in ("y", "x"))
    for name, method in methods.items():
        result = method(pair.lst, pair.guide)
        if result.shape != expected:
            raise GridError(
                f"the result of {name} does not lie on the fine grid",
                path=pair.name,
                found=f"shape {result.shape}",
                expected=f"shape {expected}",
            )
        for attribute in FALLBACK_ATTRIBUTES:
            if attribute in result.attrs:
                note = f"{pair.name}: {result.attrs[attribute]}"
                fallbacks.setdefault(name, []).append(note)
        results[name] = result
    return results


class _Collector:
    """Sums spectra and samples pixels over the images of one result."""

    def __init__(self) -> None:
        self._frequency: NDArray[np.floating] | None = None
        self._pixel_size_m: float | None = None
        self._power: dict[str, list[NDArray[np.floating]]] = {}
        self._ring: dict[str, list[NDArray[np.floating]]] = {}
        self._pixels: dict[str, list[NDArray[np.floating]]] = {}

    def add(self, maps: ImageMaps, *, seed: int) -> None:
        scored = np.isfinite(maps.truth)
        for values in maps.maps.values():
            scored &= np.isfinite(values)
        part = extent_of(scored)
        truth = np.where(scored[part], maps.truth[part], np.nan)
        images = {m: np.where(scored[part], v[part], np.nan) for m, v in maps.maps.items()}
        self._sample(truth, images, seed)
        if min(truth.shape) < 2 * SPECTRUM_RINGS:
            return
        pixel_m, rings = maps.pixel_size_m, SPECTRUM_RINGS
        frequency, power = radial_power_spectrum(truth, pixel_m, rings=rings)
        # Pixel sizes that differ a little from image to image are taken as the first one's.
        if self._frequency is None:
            self._frequency, self._pixel_size_m = frequency, pixel_m
        self._power.setdefault("", []).append(power)
        for method, values in images.items():
            _, power = radial_power_spectrum(values, pixel_m, rings=rings)
            self._power.setdefault(method, []).append(power)
            _, ring = fourier_ring_correlation(truth, values, pixel_m, rings=rings)
            self._ring.setdefault(method, []).append(ring)

    def _sample(
        self,
        truth: NDArray[np.floating],
        images: Mapping[str, NDArray[np.floating]],
        seed: int,
    ) -> None:
        where = np.flatnonzero(np.isfinite(truth))
        chosen = np.random.default_rng(seed).permutation(where)[:SCATTER_PIXELS]
        self._pixels.setdefault("", []).append(truth.ravel()[chosen])
        for method, values in images.items():
            self._pixels.setdefault(method, []).append(values.ravel()[chosen])

    def spectra(self, factor: int) -> Spectra | None:
        if self._frequency is None or self._pixel_size_m is None:
            return None
        mean = {name: np.nanmean(curves, axis=0) for name, curves in self._power.items()}
        truth = mean.pop("")
        ring = {name: np.nanmean(curves, axis=0) for name, curves in self._ring.items()}
        coarse_m = factor * self._pixel_size_m
        return Spectra(self._frequency, truth, mean, ring, coarse_pixel_size_m=coarse_m)

    def scatter(self) -> dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]:
        pixels = {name: np.concatenate(parts) for name, parts in self._pixels.items()}
        truth = pixels.pop("", np.empty(0))
        chosen = np.random.default_rng(0).permutation(truth.size)[:SCATTER_PIXELS]
        return {name: (truth[chosen], values[chosen]) for name, values in pixels.items()}


def representative_images(result: BenchmarkResult) -> tuple[list[str], str]:
    """Chooses the images that a report shows.

    Those where the best method on average (bicubic aside) gains most on bicubic by the main
    metric, the median amount, and least; without bicubic, where its own error is.

    Returns:
        Up to three images, and the rule in words.
    """
    metric = result.main_metric
    errors = {
        method: {s.image: s.values[metric] for s in result.scores if s.method == method}
        for method in result.methods
    }
    others = [method for method in result.methods if method != BASELINE] or result.methods
    best = min(others, key=lambda method: float(np.mean(list(errors[method].values()))))
    against = BASELINE if BASELINE in errors and best != BASELINE else None
    gain = {
        image: error - (errors[against][image] if against else 0.0)
        for image, error in errors[best].items()
    }
    ranked = sorted(gain, key=lambda image: gain[image])
    chosen = [ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1]]
    compared = f"gains on {BASELINE}" if against else "errs"
    order = "most, the median amount and least" if against else "least, the median amount and most"
    rule = f"Scenes shown: where {best}, the best on average, {compared} {order} (bias-free RMSE)."
    return list(dict.fromkeys(chosen)), rule


def _add_scenes(
    evaluation: PairsEvaluation,
    sources: Sequence[PairSource],
    methods: Mapping[str, PairMethod],
    variant: _Variant,
    factor: int,
) -> None:
    images, evaluation.scene_rule = representative_images(variant.result)
    by_name = {source.name: source for source in sources}
    for image in images:
        # A sub-image's name begins with its pair's.
        pair = by_name[image if image in by_name else image.rpartition("/")[0]].load()
        prepared = variant.protocol.prepared(pair, factor)
        fine = _sharpened(prepared, methods, factor, {})
        maps = next(
            maps
            for maps in variant.protocol.images(prepared, fine, variant.shift)
            if maps.image == image
        )
        evaluation.scenes.append(_scene_maps(maps, prepared, variant.result))


def _scene_maps(maps: ImageMaps, pair: Pair, result: BenchmarkResult) -> SceneMaps:
    part = extent_of(np.isfinite(maps.truth))
    return SceneMaps(
        name=maps.image,
        group=pair.group,
        coarse_kelvin=np.asarray(pair.lst.values),
        truth_kelvin=maps.truth[part],
        maps={method: values[part] for method, values in maps.maps.items()},
        scores={s.method: s.values for s in result.scores if s.image == maps.image},
        guide=np.asarray(pair.guide.values),
        guide_name=str(pair.guide.name or "guide").upper(),
        pixel_size_m=maps.pixel_size_m,
    )
