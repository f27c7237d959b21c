"""The benchmark over places: how degraded scenes are scored, and the figures place by place."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from keras_lstsr.artifacts.contract import STD_NAME
from keras_lstsr.evaluation.report.tables import markdown_lines, write_texts
from keras_lstsr.evaluation.result import BASELINE, BenchmarkResult, ImageMaps
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.registration import Shift
from keras_lstsr.grids.resample import upsample_nearest
from keras_lstsr.records.scene_sample import SceneSample, eroded
from keras_lstsr.sharpening import METHODS

PLACES = "places"
MARGIN_PIXELS = 4
"""Only pixels further than this from any edge or gap of LST are scored."""

WORSE = 1.01
"""A method is worse than bicubic where its error is more than 1 % above bicubic's."""

TO_BICUBIC, TO_BEST = "ratio_to_bicubic", "ratio_to_best_classical"
INSIDE, LARGEST = "in_90_interval", "largest_error_kelvin"
_OF_NETWORK = {
    TO_BICUBIC: "error over bicubic’s",
    TO_BEST: "over the best classical’s",
    "worse_than_bicubic": "worse than bicubic",
    INSIDE: "in 90 % interval",
    "largest_to_bicubic": "largest error over bicubic’s",
}
_MEAN_OF = "mean of"
# Half of a normal distribution's 90 % interval, in standard deviations.
_HALF_OF_90 = 1.6448536269514722


@dataclass(frozen=True)
class PlacesProtocol:
    """Degraded fine LST against itself, four fine pixels from any edge or gap of LST.

    All methods are scored on the pixels that each of them has: gaps of a guide are left out.
    The error is the standard deviation of result less truth; methods are compared by its ratio to
    bicubic's, since scenes differ in contrast. ``ratio_to_best_classical`` is against the best
    classical method of the scene, bicubic among them.
    """

    name = PLACES
    title = "1 km → 250 m, places"
    task = "1km_to_250m"
    foreign_truth = False
    main_metrics: tuple[str, ...] = (TO_BICUBIC,)

    def prepared(self, sample: SceneSample, factor: int) -> SceneSample:
        """Returns the sample: its guides lie on the grid that nests in LST."""
        return sample

    def images(
        self, sample: SceneSample, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image."""
        assert sample.truth is not None
        truth = np.asarray(sample.truth.values, np.float64)
        lst = np.asarray(sample.lst.values)
        seen = upsample_nearest(np.isfinite(lst), truth.shape[0] // lst.shape[0])
        usable = eroded(np.isfinite(truth) & seen, MARGIN_PIXELS)
        for result in fine.values():
            usable &= np.isfinite(result.values)
        errors = {name: (result.values - truth)[usable] for name, result in fine.items()}
        spread = {
            name: float(error.std()) if error.size else np.nan for name, error in errors.items()
        }
        best = min((s for name, s in spread.items() if is_classical(name)), default=np.nan)
        further = {}
        for name, error in errors.items():
            further[name] = {
                TO_BICUBIC: spread[name] / spread.get(BASELINE, np.nan),
                TO_BEST: spread[name] / best,
                LARGEST: float(np.abs(error).max(initial=0.0)),
                INSIDE: np.nan,
            }
            if STD_NAME in fine[name].coords:
                half = _HALF_OF_90 * fine[name].coords[STD_NAME].values[usable]
                further[name][INSIDE] = float(np.mean(np.abs(error - error.mean()) <= half))
        yield ImageMaps(
            sample.name,
            np.where(usable, truth, np.nan),
            {name: np.asarray(result.values) for name, result in fine.items()},
            Grid.of(sample.truth).pixel_size[0],
            further=further,
        )


def is_classical(method: str) -> bool:
    """Tells a classical method by its name in the tables, options or not, from a network."""
    return method.partition(":")[0] in METHODS


@dataclass(frozen=True)
class PlaceRow:
    """A place by day or by night; or, the mean of several.

    Attributes:
        place: Its name.
        half: ``day``, ``night`` or ``unknown``.
        guided: Whether methods that need a guide were scored.
        dates: Number of scenes.
        bicubic_kelvin: Mean error of bicubic.
        figures: Method → ``ratio_to_bicubic``, ``ratio_to_best_classical`` and
            ``in_90_interval``, means over the scenes; ``worse_than_bicubic``, scenes with an error
            more than 1 % above bicubic's; ``largest_to_bicubic``, the greatest ratio of largest
            errors.
    """

    place: str
    half: str
    guided: bool
    dates: int
    bicubic_kelvin: float
    figures: Mapping[str, Mapping[str, float]]

    @property
    def mean(self) -> bool:
        """Whether it is the mean of several."""
        return self.place.startswith(_MEAN_OF)

    @property
    def label(self) -> str:
        """In words, e.g. ``zhangye, day``."""
        return f"{self.place}, {self.half}"


def place_rows(result: BenchmarkResult) -> list[PlaceRow]:
    """Returns the figures by place: days and nights, with a guide and without, apart.

    After the rows of each kind, where they are several, comes their mean.
    """
    values = {m: {n: result.values(m, n) for n in result.metrics} for m in result.methods}
    needing = [
        m for m in result.methods if is_classical(m) and METHODS[m.partition(":")[0]].needs_guide
    ]
    members: dict[tuple[str, bool, str], list[int]] = {}
    for number, image in enumerate(result.images):
        guided = any(np.isfinite(values[m][TO_BICUBIC][number]) for m in needing)
        key = result.day_night.get(image, "unknown"), not guided, result.group_of_images[number]
        members.setdefault(key, []).append(number)
    rows: list[PlaceRow] = []
    kinds = sorted({key[:2] for key in members})
    for half, unguided in kinds:
        own = [
            _row(group, half, not unguided, numbers, values)
            for (its_half, its_unguided, group), numbers in sorted(members.items())
            if (its_half, its_unguided) == (half, unguided)
        ]
        rows += own if len(own) == 1 else [*own, _mean(own)]
    return rows


def _row(
    place: str,
    half: str,
    guided: bool,
    numbers: Sequence[int],
    values: Mapping[str, Mapping[str, np.ndarray]],
) -> PlaceRow:
    figures = {}
    for method, metrics in values.items():
        own = {name: metric[numbers] for name, metric in metrics.items()}
        there = np.isfinite(own[TO_BICUBIC])
        if there.any():
            largest = own[LARGEST] / values[BASELINE][LARGEST][numbers]
            figures[method] = {
                TO_BICUBIC: float(own[TO_BICUBIC][there].mean()),
                TO_BEST: float(own[TO_BEST][there].mean()),
                INSIDE: float(own[INSIDE][there].mean()),
                "worse_than_bicubic": float((own[TO_BICUBIC][there] > WORSE).sum()),
                "largest_to_bicubic": float(largest[there].max()),
            }
    bicubic = values[BASELINE]["bias_free_rmse_kelvin"][numbers]
    return PlaceRow(place, half, guided, len(numbers), float(bicubic.mean()), figures)


def _mean(rows: Sequence[PlaceRow]) -> PlaceRow:
    figures: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(m for row in rows for m in row.figures):
        own = [row.figures[method] for row in rows if method in row.figures]
        every = {name: np.array([each[name] for each in own]) for name in own[0]}
        figures[method] = {name: float(values.mean()) for name, values in every.items()} | {
            "worse_than_bicubic": float(every["worse_than_bicubic"].sum()),
            "largest_to_bicubic": float(every["largest_to_bicubic"].max()),
        }
    first, dates = rows[0], sum(row.dates for row in rows)
    bicubic = float(np.mean([row.bicubic_kelvin for row in rows]))
    return PlaceRow(
        f"{_MEAN_OF} {len(rows)} places", first.half, first.guided, dates, bicubic, figures
    )


def place_metrics(result: BenchmarkResult) -> dict[str, float]:
    """Returns the means of places as flat figures for an experiment tracker."""
    return {
        f"{result.name}.{method}.{name}.{row.half}_{'guided' if row.guided else 'alone'}": value
        for row in place_rows(result)
        if row.mean
        for method, figures in row.figures.items()
        for name, value in figures.items()
        if np.isfinite(value)
    }


def places_markdown(result: BenchmarkResult) -> str:
    """Returns the figures by place as Markdown: errors over bicubic's, and a table per network."""
    rows = place_rows(result)
    others = [m for m in result.methods if m != BASELINE]
    cells = [
        [row.label, "yes" if row.guided else "no", f"{row.dates}", f"{row.bicubic_kelvin:.3f}"]
        + [number(row, method, TO_BICUBIC) for method in others]
        for row in rows
    ]
    tables = [markdown_lines(["place", "NDVI", "dates", "bicubic (K)", *others], cells)]
    for name in (m for m in others if not is_classical(m)):
        cells = [
            [row.label, *(number(row, name, metric) for metric in _OF_NETWORK)]
            for row in rows
            if name in row.figures
        ]
        tables.append(markdown_lines([name, *_OF_NETWORK.values()], cells))
    return "\n\n".join(tables)


def number(row: PlaceRow, method: str, name: str) -> str:
    """Writes a figure of a method; a dash where there is none."""
    value = row.figures.get(method, {}).get(name, np.nan)
    if not np.isfinite(value):
        return "–"
    if name == "worse_than_bicubic":
        return f"{value:.0f} of {row.dates}"
    return f"{value:.0%}" if name == INSIDE else f"{value:.2f}"


def write_place_tables(result: BenchmarkResult, folder: Path) -> list[Path]:
    """Writes ``places_by_place.md`` and ``places_by_place.csv``.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["place", "day_night", "guided", "dates", "method", *_OF_NETWORK])
    for row in place_rows(result):
        for method, figures in row.figures.items():
            own = [figures[name] for name in _OF_NETWORK]
            writer.writerow([row.place, row.half, row.guided, row.dates, method, *own])
    texts = {".md": f"# {result.title}\n\n{places_markdown(result)}\n", ".csv": stream.getvalue()}
    return write_texts(folder / f"{result.name}_by_place", texts)
