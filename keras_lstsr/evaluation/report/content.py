"""What an evaluation found and a report shows: scores, maps, spectra, scatter, shifts, notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.result import BenchmarkResult
from keras_lstsr.grids.registration import Shift
from keras_lstsr.records.truth import SetRegistration

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
                    f"the scatter of {method} is no list of pairs",
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
        """Says all there is to know beside the figures, one paragraph each."""
        notes = [self.scene_rule] if self.scene_rule else []
        if self.registration is not None:
            found, whole = self.registration.constant, self.registration.whole_pixels
            notes.append(
                f"Co-registration: the truth's position against the sharpened LST, median of "
                f"{found.count} pairs weighted by quality: {shift_text(found)}, spread "
                f"{found.row_spread:.2f} and {found.column_spread:.2f}; rounded to whole ones: "
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
                f"Left out, as too little is clear: {named}"
                + (f" and {more} more." if more > 0 else ".")
            )
        return [*notes, *self.learnt_from, *self.notes]


def shift_text(shift: Shift) -> str:
    """Writes a shift for a title: ``(−1, −1) pixels (rows, columns)``."""
    values = ", ".join(f"{v:.3g}".replace("-", "−") for v in (shift.rows, shift.columns))
    return f"({values}) pixels (rows, columns)"
