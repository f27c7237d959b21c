"""What the HTML report of a benchmark shows: scores, maps, spectra, scatter, shifts, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.benchmark import BenchmarkResult


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
        guide: The guide that the methods saw, ``[.., ..]`` of any size; None when there is none.
        guide_name: What the guide is, with its unit if it has one.
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
    guide: NDArray[np.floating] | None = None
    guide_name: str = "NDVI"
    pixel_size_m: float | None = None

    def __post_init__(self) -> None:
        flat = {"coarse_kelvin": self.coarse_kelvin, "truth_kelvin": self.truth_kelvin}
        if self.guide is not None:
            flat["guide"] = self.guide
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


@dataclass(frozen=True)
class RegistrationShift:
    """The shift that was found between one image and its truth.

    Attributes:
        image: Names the image.
        row_pixels: Shift down the rows, in pixels of the truth.
        column_pixels: Shift along the columns, in pixels of the truth.
        quality: How sure the match is; 1 is perfect.
    """

    image: str
    row_pixels: float
    column_pixels: float
    quality: float


@dataclass(eq=False)
class ReportContent:
    """Everything that the report shows; what is empty or None leaves no section.

    Attributes:
        title: The page's title.
        lead: One or two sentences on what was compared, with which data.
        results: Benchmarks; the first one gives the headline.
        scenes: Scenes to show as maps.
        spectra: Mean spectra over the images.
        scatter: Method → (true, predicted) LST in kelvin, both ``[N]``, a subsample of the pixels.
        shifts: Shifts found, one per image.
        constant_shift: The shift that was applied to all images, (rows, columns) in pixels of the
            truth; None when none was.
        notes: Settings, versions, fallbacks, data: one paragraph each.

    Raises:
        GridError: If the two arrays of a scatter differ in length.
    """

    title: str
    lead: str
    results: Sequence[BenchmarkResult]
    scenes: Sequence[SceneMaps] = ()
    spectra: Spectra | None = None
    scatter: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = field(
        default_factory=dict
    )
    shifts: Sequence[RegistrationShift] = ()
    constant_shift: tuple[float, float] | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for method, (truth, prediction) in self.scatter.items():
            if np.shape(truth) != np.shape(prediction) or np.ndim(truth) != 1:
                raise GridError(
                    f"the scatter of {method} is no list of pairs",
                    field="scatter",
                    found=f"shapes {np.shape(truth)} and {np.shape(prediction)}",
                    expected="two arrays [N]",
                )
