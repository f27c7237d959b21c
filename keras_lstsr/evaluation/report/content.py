"""What an evaluation found and a report shows: scores, maps, spectra, pixels, shifts, notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.report.tables import HEADINGS
from keras_lstsr.evaluation.result import BASELINE, BenchmarkResult, ImageMaps
from keras_lstsr.grids.registration import Shift
from keras_lstsr.metrics.spectra import fourier_ring_correlation, radial_power_spectrum
from keras_lstsr.records.scene_sample import SceneSample, SetRegistration, extent_of

SPECTRUM_RINGS = 64
SCATTER_PIXELS = 6000
# Larger scenes are shown in part: the window with most scored pixels.
MAXIMUM_MAP_PIXELS = 512
_MAXIMUM_NAMED = 5


@dataclass(frozen=True, eq=False)
class SceneMaps:
    """One scene of a benchmark, for the maps side by side.

    All arrays show the same ground; the coarse LST and the guide may lie on other grids.

    Attributes:
        name: Names the image, as in the benchmark's scores.
        group: Names the group of images that share ground; empty when there is none.
        coarse_kelvin: The input LST in kelvin, ``[h, w]``, NaN where missing.
        truth_kelvin: True fine LST in kelvin, ``[H, W]``, NaN where it is not scored.
        maps: Method → fine LST in kelvin, ``[H, W]`` on the truth's grid, NaN where missing.
        scores: Method → metric → value, shown under the maps; may be empty.
        guides: Name → guide that the methods saw, ``[.., ..]`` of any size.
        pixel_size_m: Side of a pixel of the truth in metres; None leaves out the scale bar.

    Raises:
        GridError: If a map has another shape than the truth, or an array is not two-dimensional.
    """

    name: str
    group: str
    coarse_kelvin: NDArray[np.floating]
    truth_kelvin: NDArray[np.floating]
    maps: Mapping[str, NDArray[np.floating]]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    guides: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    pixel_size_m: float | None = None

    def __post_init__(self) -> None:
        flat = {"coarse_kelvin": self.coarse_kelvin, "truth_kelvin": self.truth_kelvin}
        flat |= {f"guides[{name}]": array for name, array in self.guides.items()}
        for name, array in flat.items():
            if np.ndim(array) != 2:
                raise GridError(
                    "a map of the report is not two-dimensional",
                    path=self.name,
                    field=name,
                    found=f"shape {np.shape(array)}",
                    expected="[H, W]",
                )
        for method, array in self.maps.items():
            if np.shape(array) != np.shape(self.truth_kelvin):
                raise GridError(
                    f"the map of {method} does not lie on the truth's grid",
                    path=self.name,
                    field="maps",
                    found=f"shape {np.shape(array)}",
                    expected=f"shape {np.shape(self.truth_kelvin)}",
                )


@dataclass(frozen=True, eq=False)
class Spectra:
    """Power and correlation with the truth by spatial frequency.

    Attributes:
        frequency_per_km: Frequencies in cycles per kilometre, ``[F]``, rising; a frequency of 0 is
            not drawn.
        truth: Power of the truth, ``[F]``.
        methods: Method → power, ``[F]``.
        ring_correlation: Method → Fourier ring correlation with the truth, ``[F]``; may be empty.
        power_unit: Unit of the power.
        coarse_pixel_size_m: Side of a pixel of the input in metres; marks the shortest wavelength
            that it can hold, two pixels.

    Raises:
        GridError: If a curve has another length than the frequencies.
    """

    frequency_per_km: NDArray[np.floating]
    truth: NDArray[np.floating]
    methods: Mapping[str, NDArray[np.floating]]
    ring_correlation: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    power_unit: str = "K²"
    coarse_pixel_size_m: float | None = None

    def __post_init__(self) -> None:
        curves = {"truth": self.truth}
        curves |= {f"methods[{name}]": curve for name, curve in self.methods.items()}
        curves |= {f"ring_correlation[{n}]": curve for n, curve in self.ring_correlation.items()}
        for name, curve in curves.items():
            if np.shape(curve) != np.shape(self.frequency_per_km):
                raise GridError(
                    "a spectrum has another length than its frequencies",
                    field=name,
                    found=f"shape {np.shape(curve)}",
                    expected=f"shape {np.shape(self.frequency_per_km)}",
                )


@dataclass(eq=False)
class Evaluation:
    """What came out of scoring methods on one set of samples, and what a report shows of it.

    Attributes:
        data: Names the set in words, e.g. the folder in quotation marks.
        results: One per protocol and variant of co-registration; the first is the main one.
        registration: The shifts found; None where none was looked for.
        applied_shift: The shift of the first result; None where none was applied.
        scenes: Maps of representative images of the first result.
        scene_rule: By what rule they were chosen, in words.
        spectra: Mean spectra of the first result's images.
        scatter: Method → (true, predicted) LST in kelvin, both ``[N]``: a sample of the first
            result's pixels.
        method_notes: Method → what it did differently on which samples, ``"name: words"``.
        left_out: Samples without a score in the first result: too little that is clear.
        files: Sample → SHA-256 of the files that it was read from.
        learnt_from: Which models have learnt from samples that they are scored on, in words.
        notes: Settings and versions, one paragraph each.

    Raises:
        GridError: If the two arrays of a scatter differ in length.
    """

    data: str
    results: list[BenchmarkResult]
    registration: SetRegistration | None = None
    applied_shift: Shift | None = None
    scenes: list[SceneMaps] = field(default_factory=list)
    scene_rule: str = ""
    spectra: Spectra | None = None
    scatter: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = field(
        default_factory=dict
    )
    method_notes: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    learnt_from: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for method, (truth, prediction) in self.scatter.items():
            if np.shape(truth) != np.shape(prediction) or np.ndim(truth) != 1:
                raise GridError(
                    f"the scatter of {method} is not a list of pairs",
                    field="scatter",
                    found=f"shapes {np.shape(truth)} and {np.shape(prediction)}",
                    expected="two arrays [N]",
                )

    def lead(self) -> str:
        """Says in a sentence or two what was compared, with which data."""
        if not self.results:
            return ""
        first = self.results[0]
        images, groups = len(first.images), len(set(first.group_of_images))
        grouped = f", in {groups} groups; images of one group share ground" * (groups < images)
        compared = f"{len(first.methods)} methods on {images} images of {self.data}"
        return f"{compared}{grouped}. {first.title}."

    def all_notes(self) -> list[str]:
        """Says what else there is to know of the figures, one paragraph each."""
        notes = [self.scene_rule] if self.scene_rule else []
        if self.registration is not None:
            found, whole = self.registration.constant, self.registration.whole_pixels
            notes.append(
                f"Co-registration: the truth's position against the sharpened LST, median of "
                f"{found.count} pairs weighted by quality: {shift_text(found)}, spread "
                f"{found.row_spread:.2f} and {found.column_spread:.2f}; in whole pixels: "
                f"{shift_text(whole)}."
            )
        for method, cases in self.method_notes.items():
            reasons = Counter(case.partition(": ")[2] for case in cases)
            described = "; ".join(f"{reason} ({n} ×)" for reason, n in reasons.most_common(3))
            notes.append(f"{method}: {described}.")
        if self.left_out:
            named = ", ".join(self.left_out[:_MAXIMUM_NAMED])
            more = len(self.left_out) - _MAXIMUM_NAMED
            notes.append(
                f"Left out, too few clear pixels: {named}"
                + (f" and {more} more." if more > 0 else ".")
            )
        return [*notes, *self.notes]


def shift_text(shift: Shift) -> str:
    """Writes a shift for a title: ``(−1, −1) pixels (rows, columns)``."""
    values = ", ".join(f"{v:.3g}".replace("-", "−") for v in (shift.rows, shift.columns))
    return f"({values}) pixels (rows, columns)"


class Collector:
    """Means of spectra and a sample of pixels over the images of one result.

    Memory holds the curves and some thousand pixels, however many images there are.
    """

    def __init__(self) -> None:
        self._frequency: NDArray[np.floating] | None = None
        self._pixel_size_m: float | None = None
        self._power: dict[str, list[NDArray[np.floating]]] = {}
        self._ring: dict[str, list[NDArray[np.floating]]] = {}
        self._rng = np.random.default_rng(0)
        self._methods: list[str] = []
        # Random key, truth and each method's result of the pixels with the smallest keys.
        self._pixels: NDArray[np.floating] | None = None

    def add(self, maps: ImageMaps) -> None:
        """Takes in an image that has been scored."""
        scored = np.isfinite(maps.truth)
        for values in maps.maps.values():
            scored &= np.isfinite(values)
        part = extent_of(scored)
        truth = np.where(scored[part], maps.truth[part], np.nan)
        images = {m: np.where(scored[part], v[part], np.nan) for m, v in maps.maps.items()}
        self._sample(truth, images)
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
        self, truth: NDArray[np.floating], images: Mapping[str, NDArray[np.floating]]
    ) -> None:
        where = np.flatnonzero(np.isfinite(truth))
        chosen = self._rng.permutation(where)[:SCATTER_PIXELS]
        columns = [self._rng.random(chosen.size), truth.ravel()[chosen]]
        columns += [values.ravel()[chosen] for values in images.values()]
        pixels = np.stack(columns, dtype=np.float64)
        if self._pixels is not None:
            pixels = np.concatenate([self._pixels, pixels], axis=1)
        self._methods = list(images)
        self._pixels = pixels[:, np.argsort(pixels[0])[:SCATTER_PIXELS]]

    def spectra(self, factor: int) -> Spectra | None:
        """Returns the mean spectra; None where no image was large enough to have one."""
        if self._frequency is None or self._pixel_size_m is None:
            return None
        mean = {name: np.nanmean(curves, axis=0) for name, curves in self._power.items()}
        truth = mean.pop("")
        ring = {name: np.nanmean(curves, axis=0) for name, curves in self._ring.items()}
        coarse_m = factor * self._pixel_size_m
        return Spectra(self._frequency, truth, mean, ring, coarse_pixel_size_m=coarse_m)

    def scatter(self) -> dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]:
        """Returns, by method, true and predicted kelvin of pixels drawn from all images."""
        if self._pixels is None:
            return {}
        _, truth, *predictions = self._pixels
        return {m: (truth, values) for m, values in zip(self._methods, predictions, strict=True)}


def representative_images(result: BenchmarkResult) -> tuple[list[str], str]:
    """Chooses the images that a report shows.

    Those where the best method on average (bicubic aside) gains most on bicubic by the main
    metric, the median amount, and least; without bicubic, where its own error is.

    Returns:
        Up to three images, and the rule in words.
    """
    metric = result.main_metric
    errors = {method: result.values(method, metric) for method in result.methods}
    others = [method for method in result.methods if method != BASELINE] or result.methods
    best = min(others, key=lambda method: float(np.nanmean(errors[method])))
    against = BASELINE if BASELINE in errors and best != BASELINE else None
    gain = errors[best] - (errors[against] if against else 0.0)
    finite = [index for index in np.argsort(gain, kind="stable") if np.isfinite(gain[index])]
    ranked = [result.images[index] for index in finite]
    chosen = [ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1]]
    compared = f"gains on {BASELINE}" if against else "errs"
    order = "most, the median amount and least" if against else "least, the median amount and most"
    name = HEADINGS.get(metric, metric).partition(" (")[0]
    rule = f"Scenes shown: where {best}, the best on average, {compared} {order} ({name})."
    return list(dict.fromkeys(chosen)), rule


def scene_maps(maps: ImageMaps, sample: SceneSample, result: BenchmarkResult) -> SceneMaps:
    """Returns what a report shows of an image: all of it, or the clearest part of a large one.

    Args:
        maps: What was scored.
        sample: What the methods saw.
        result: The scores.
    """
    part = extent_of(np.isfinite(maps.truth))
    coarse, guides = np.asarray(sample.lst.values), sample.guides
    shown_guides = {name: np.asarray(guide.values) for name, guide in guides.items()}
    if max(maps.truth[part].shape) > MAXIMUM_MAP_PIXELS:
        part = clearest_window(np.isfinite(maps.truth), MAXIMUM_MAP_PIXELS)
        coarse = _same_ground(coarse, part, maps.truth.shape)
        shown_guides = {
            name: _same_ground(values, part, maps.truth.shape)
            for name, values in shown_guides.items()
        }
    metric = result.main_metric
    return SceneMaps(
        name=maps.image,
        group=sample.group,
        coarse_kelvin=coarse,
        truth_kelvin=maps.truth[part],
        maps={method: values[part] for method, values in maps.maps.items()},
        scores={
            s.method: {metric: s.values[metric]} for s in result.scores if s.image == maps.image
        },
        guides={
            GUIDES[name].long_name if name in GUIDES else name: values
            for name, values in shown_guides.items()
        },
        pixel_size_m=maps.pixel_size_m,
    )


def _same_ground(
    values: NDArray[np.floating], part: tuple[slice, slice], shape: tuple[int, ...]
) -> NDArray[np.floating]:
    """Cuts about the ground of a window of an image out of an array that covers the same ground."""
    return values[
        tuple(
            slice(window.start * own // whole, -(-window.stop * own // whole))
            for window, own, whole in zip(part, values.shape, shape, strict=True)
        )
    ]


def clearest_window(valid: NDArray[np.bool_], size: int) -> tuple[slice, slice]:
    """Returns rows and columns of the ``size`` × ``size`` window with most valid pixels.

    Args:
        valid: ``[H, W]``, True where there is a value.
        size: Side of the window; a smaller raster is taken whole.
    """
    height, width = (min(size, side) for side in valid.shape)
    total = np.pad(valid.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = (
        total[height:, width:]
        - total[:-height, width:]
        - total[height:, :-width]
        + total[:-height, :-width]
    )
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    return slice(int(row), int(row) + height), slice(int(column), int(column) + width)
