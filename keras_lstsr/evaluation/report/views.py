"""A benchmark in words and tables for the HTML page: who is best, how surely, image by image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex

from keras_lstsr.evaluation.places import (
    PLACES,
    TO_BEST,
    TO_BICUBIC,
    WORSE,
    PlaceRow,
    is_classical,
    place_rows,
)
from keras_lstsr.evaluation.report.figures import differences_svg
from keras_lstsr.evaluation.report.tables import HEADINGS, format_value
from keras_lstsr.evaluation.result import BASELINE, MAIN_METRICS, BenchmarkResult, badness
from keras_lstsr.maps import ERROR_COLOURS, ColourScale

DASH = "–"
PLACES_SCALE = ColourScale(ERROR_COLOURS, -1.0, 1.0)
"""Of the binary logarithm of a ratio: half of bicubic's error is the deepest blue."""

# Metrics in the order in which they are read; others follow as they come.
_FIRST_METRICS = (
    *MAIN_METRICS,
    "bias_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
)
# More columns than these, each with its interval, do not fit beside one another.
_TABLE_COLUMNS = 7
# Rows of a table of images; the CSV has them all.
MAXIMUM_TABLE_IMAGES = 300


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a value as text, its interval as text, and whether it is the best."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Finding:
    """What a benchmark found, in words.

    Attributes:
        headline: The best method and what it is compared with.
        certainty: The difference to bicubic with its interval; empty when there is none.
    """

    headline: str
    certainty: str = ""


def finding(result: BenchmarkResult) -> Finding:
    """Returns in words which method is best, by how much, on how many images, and how surely."""
    metric = result.main_metric
    name, unit = name_and_unit(metric)
    means = {method: _finite_mean(result, method, metric) for method in result.methods}
    ranked = sorted(
        (method for method, mean in means.items() if np.isfinite(mean)),
        key=lambda method: _badness(metric, means[method]),
    )
    if not ranked:
        return Finding(f"No method has a finite {name}: nothing can be concluded.")
    best, *others = ranked
    figure = f"{plain(means[best])}{unit} {name}"
    if not others:
        return Finding(f"{best}: {figure}.")
    second = f"{others[0]} with {plain(means[others[0]])}{unit}"
    if best == BASELINE:
        return Finding(f"No method beats {BASELINE} ({figure}); the nearest is {second}.")
    if BASELINE not in ranked:
        return Finding(f"The best of {len(ranked)} methods is {best}: {figure}, ahead of {second}.")
    differences = result.excess(best)
    compared = differences[np.isfinite(differences)]
    headline = (
        f"The best of {len(ranked)} methods is {best}: {figure}, "
        f"{BASELINE} {plain(means[BASELINE])}{unit}; "
        f"better on {np.sum(compared < 0)} of {len(compared)} images."
    )
    interval = result.difference_to_baseline(best)
    if interval is None:
        return Finding(headline)
    how = ", drawn by group of images that share ground," if result.groups else ""
    chance = ", which includes 0" if interval.low <= 0 <= interval.high else ""
    return Finding(
        headline,
        f"Mean difference to {BASELINE} {plain(interval.mean)}{unit} (below 0 is better); "
        f"its {100 * interval.level:.0f} % bootstrap interval{how} is "
        f"{plain(interval.low)} to {plain(interval.high)}{unit}{chance}.",
    )


def places_finding(result: BenchmarkResult) -> Finding:
    """Returns in words how each network compares with the best classical method, place by place."""
    rows = place_rows(result)
    kinds = [[row for row in rows if (row.half, row.guided) == kind] for kind in _kinds(rows)]
    headlines, counts = [], []
    for name in (m for m in result.methods if not is_classical(m)):
        parts = [
            f"{plain(kind[-1].figures[name][TO_BEST])} by {kind[-1].half}"
            + (" with a guide" if kind[-1].guided else " without one")
            for kind in kinds
            if name in kind[-1].figures
        ]
        words = f"Error of {name} over the best classical method’s, mean of places"
        headlines.append(f"{words}: {', '.join(parts)}.")
        worse = int(np.sum(result.values(name, TO_BICUBIC) > WORSE))
        counts.append(f"{name} is more than 1 % worse than bicubic on {worse} scenes")
    certainty = f"{'; '.join(counts)} of {len(result.images)}."
    return Finding(" ".join(headlines), certainty) if headlines else finding(result)


def _kinds(rows: Sequence[PlaceRow]) -> list[tuple[str, bool]]:
    return list(dict.fromkeys((row.half, row.guided) for row in rows))


def _badness(metric: str, value: float) -> float:
    return float(badness(metric, np.asarray(value)))


def name_and_unit(metric: str) -> tuple[str, str]:
    """Returns a metric's name and its unit after a narrow space, ``("bias-free RMSE", " K")``."""
    heading = HEADINGS.get(metric, metric.replace("_kelvin", " (K)").replace("_", " "))
    match = re.fullmatch(r"(.*?)\s*\(([^()]*)\)", heading)
    return (match[1], f"\u202f{match[2]}") if match else (heading, "")


def _heading(metric: str) -> str:
    name, unit = name_and_unit(metric)
    return f"{name} ({unit.strip()})" if unit else name


def plain(value: float) -> str:
    """Writes a value with two digits and a true minus sign; a dash where it is not finite."""
    # Adding 0 turns a −0 into a 0.
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−") if np.isfinite(value) else DASH


def number_text(metric: str, value: float) -> str:
    """Writes a metric's value as in the other tables; a dash where it is not finite."""
    return format_value(metric, value).replace("-", "−") if np.isfinite(value) else DASH


def _finite_mean(result: BenchmarkResult, method: str, metric: str) -> float:
    values = result.values(method, metric)
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def result_view(result: BenchmarkResult, index: int) -> dict[str, Any]:
    """Returns what the template shows of a benchmark; ``index`` makes its ids unique."""
    places = result.details.get("protocol") == PLACES
    images = len(result.images)
    groups = len(set(result.group_of_images)) if result.groups else 0
    return {
        "id": f"result-{index}",
        "name": result.name,
        "title": result.title,
        "finding": places_finding(result) if places else finding(result),
        "main_metric": name_and_unit(result.main_metric)[0],
        "images": images,
        "groups": groups,
        "places": _places_view(result) if places else None,
        "tables": _summary_tables(result),
        "differences": _differences_view(result, index),
        "image_tables": [_image_table(result, metric) for metric in _in_reading_order(result)],
        "images_shown": min(images, MAXIMUM_TABLE_IMAGES),
    }


def _places_view(result: BenchmarkResult) -> dict[str, Any]:
    methods = [method for method in result.methods if method != BASELINE]
    networks = [method for method in methods if not is_classical(method)]
    rows = []
    for row in place_rows(result):
        cells = [_shaded(row.figures.get(method, {}).get(TO_BICUBIC)) for method in methods]
        best = [_shaded(row.figures.get(method, {}).get(TO_BEST)) for method in networks]
        rows.append((row, f"{row.bicubic_kelvin:.2f}", [*cells, *best]))
    headings = [*methods, *(f"{name} over the best classical" for name in networks)]
    return {"headings": headings, "rows": rows}


def _shaded(ratio: float | None) -> tuple[str, str]:
    """Writes a ratio, with the style of its cell: blue below 1, red above."""
    if ratio is None or not np.isfinite(ratio):
        return DASH, ""
    place = (np.log2(ratio) - PLACES_SCALE.low) / (PLACES_SCALE.high - PLACES_SCALE.low)
    red, green, blue, _ = colormaps[PLACES_SCALE.colours](float(np.clip(place, 0, 1)))
    ink = "#111" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "#fff"
    return f"{ratio:.2f}", f"background:{to_hex((red, green, blue))};color:{ink}"


def _summary_tables(result: BenchmarkResult) -> list[dict[str, Any]]:
    summary = result.summary()
    metrics = _in_reading_order(result)
    chunks = [metrics[i : i + _TABLE_COLUMNS] for i in range(0, len(metrics), _TABLE_COLUMNS)]
    if any("worse_than_bicubic" in row for row in summary.values()):
        chunks[0].append("worse_than_bicubic")
    if len({row["images"] for row in summary.values()}) > 1:
        chunks[0].append("images")
    return [_summary_table(summary, columns) for columns in chunks]


def _in_reading_order(result: BenchmarkResult) -> list[str]:
    first = [result.main_metric, *_FIRST_METRICS]
    known = [metric for metric in dict.fromkeys(first) if metric in result.metrics]
    return [*known, *(metric for metric in result.metrics if metric not in known)]


def _summary_table(
    summary: Mapping[str, Mapping[str, float]], columns: Sequence[str]
) -> dict[str, Any]:
    nan = float("nan")
    # Means over other images cannot be compared.
    alike = len({row["images"] for row in summary.values()}) == 1
    best = {
        c: _best(c, [row.get(c, nan) for row in summary.values()]) if alike else None
        for c in columns
    }
    rows = []
    for method, row in summary.items():
        cells = []
        for column in columns:
            value = row.get(column, nan)
            text = number_text(column, value)
            if column == "worse_than_bicubic":
                shown = method != BASELINE and np.isfinite(value)
                cells.append(Cell(f"{text} of {row['images']:.0f}" if shown else DASH))
            elif column == "images":
                cells.append(Cell(text))
            else:
                ends = [row.get(f"{column}_{end}", nan) for end in ("low", "high")]
                texts = [number_text(column, end) for end in ends]
                # Ends that are alike to the last digit shown tell nothing.
                known = np.isfinite(ends).all() and texts[0] != texts[1]
                interval = " to ".join(texts) if known else ""
                cells.append(Cell(text, interval, text == best[column]))
        rows.append((method, cells))
    return {
        "columns": columns,
        "headings": [_heading(column) for column in columns],
        "rows": rows,
        "has_intervals": any(cell.interval for _, cells in rows for cell in cells),
    }


def _best(metric: str, values: Sequence[float]) -> str | None:
    """Returns the best value as text; None where there is nothing to compare or all are alike."""
    finite = [value for value in values if np.isfinite(value)]
    if len({number_text(metric, value) for value in values}) < 2 or len(finite) < 2:
        return None
    return number_text(metric, min(finite, key=lambda value: _badness(metric, value)))


def _image_table(result: BenchmarkResult, metric: str) -> dict[str, Any]:
    columns = [result.values(method, metric) for method in result.methods]
    pixels = {score.image: score.scored_pixels for score in result.scores}
    rows = []
    for number, image in enumerate(result.images[:MAXIMUM_TABLE_IMAGES]):
        values = [float(column[number]) for column in columns]
        best = _best(metric, values)
        texts = [number_text(metric, value) for value in values]
        cells = [Cell(text, best=text == best) for text in texts]
        rows.append((image, result.groups.get(image, ""), pixels[image], cells))
    return {
        "metric": _heading(metric),
        "methods": result.methods,
        "has_groups": bool(result.groups),
        "rows": rows,
    }


def _differences_view(result: BenchmarkResult, index: int) -> dict[str, Any] | None:
    if BASELINE not in result.methods or len(result.methods) < 2 or len(result.images) < 2:
        return None
    metric = result.main_metric
    differences = {m: result.excess(m) for m in result.methods if m != BASELINE}
    found = {method: result.difference_to_baseline(method) for method in differences}
    name, unit = name_and_unit(metric)
    intervals = {
        method: (interval.mean, interval.low, interval.high)
        for method, interval in found.items()
        if interval is not None
    }
    label = f"{name} minus {BASELINE}’s" + (f" ({unit.strip()})" if unit else "")
    if metric.startswith("ratio_"):
        label = f"{name} minus 1"
    elif not metric.endswith("_kelvin"):
        label = f"{BASELINE}’s {name} minus the method’s" + (f" ({unit.strip()})" if unit else "")
    svg = differences_svg(f"differences{index}", differences, intervals, label)
    words = "; ".join(
        f"{method} {plain(mean)}{unit}, {plain(low)} to {plain(high)}{unit}"
        for method, (mean, low, high) in intervals.items()
    )
    return {"svg": Markup(svg), "name": name, "alt": f"Mean differences and intervals: {words}."}
