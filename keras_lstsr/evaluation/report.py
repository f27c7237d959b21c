"""Tables and figures of a benchmark."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_lstsr.evaluation.benchmark import METRICS, BenchmarkResult

HEADINGS = {
    "rmse_kelvin": "RMSE (K)",
    "bias_kelvin": "bias (K)",
    "psnr_db": "PSNR (dB)",
    "ssim": "SSIM",
    "worse_than_bicubic": "worse than bicubic",
    "images": "images",
}
_WHOLE = {"worse_than_bicubic", "images"}


def format_value(metric: str, value: float) -> str:
    """Writes a value with the digits that its metric deserves."""
    if metric in _WHOLE:
        return f"{value:.0f}"
    return f"{value:.2f}" if metric == "psnr_db" else f"{value:.3f}"


def markdown_table(result: BenchmarkResult) -> str:
    """Returns the summary as a Markdown table, one row per method."""
    summary = result.summary()
    columns = list(next(iter(summary.values())))
    lines = [
        "| method | " + " | ".join(HEADINGS[column] for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for method, row in summary.items():
        cells = (format_value(column, row[column]) for column in columns)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_tables(result: BenchmarkResult, folder: str | PathLike[str]) -> list[Path]:
    """Writes ``<name>.csv`` (every image), ``<name>.json`` and ``<name>.md`` (summary).

    Args:
        result: The benchmark.
        folder: Where to; made if it is not there.

    Returns:
        The paths written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{result.name}{ending}" for ending in (".csv", ".json", ".md")]
    with paths[0].open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "method", "scored_pixels", *METRICS])
        for score in result.scores:
            values = [score.values[metric] for metric in METRICS]
            writer.writerow([score.image, score.method, score.scored_pixels, *values])
    content = {"title": result.title, "summary": result.summary()}
    paths[1].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    paths[2].write_text(f"# {result.title}\n\n{markdown_table(result)}\n", encoding="utf-8")
    return paths


def comparison_figure(
    maps: Mapping[str, NDArray[np.floating]], *, title: str, errors: bool = False
) -> Figure:
    """Draws LST maps side by side with one colour bar, and errors against the truth below.

    Args:
        maps: Name → LST in kelvin, ``[H, W]``, of any size over the same ground; NaN is grey. With
            ``errors`` the last one is the truth.
        title: The figure's title.
        errors: Add a second row with each map of the truth's size minus the truth.

    Returns:
        A figure that the caller saves.
    """
    names = list(maps)
    finite = np.concatenate([m[np.isfinite(m)].ravel() for m in maps.values()])
    low, high = np.percentile(finite, [1, 99]) if finite.size else (270.0, 310.0)
    rows = 2 if errors else 1
    figure = Figure(figsize=(3.6 * len(names) + 0.8, 3.7 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, len(names), squeeze=False)
    scale = ScalarMappable(Normalize(low, high), cmap="inferno")
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_facecolor("0.75")
        axis.imshow(maps[name], norm=scale.norm, cmap=scale.cmap, interpolation="none")
        axis.set_title(name)
    figure.colorbar(scale, ax=list(axes[0]), label="LST (K)", shrink=0.85)
    if errors:
        _draw_errors(figure, axes[1], maps)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title)
    return figure


def _draw_errors(
    figure: Figure, axes: NDArray[np.object_], maps: Mapping[str, NDArray[np.floating]]
) -> None:
    *names, truth_name = maps
    truth = maps[truth_name]
    errors = {n: maps[n] - truth for n in names if maps[n].shape == truth.shape}
    finite = [np.abs(e[np.isfinite(e)]).ravel() for e in errors.values()]
    limit = max(float(np.percentile(np.concatenate(finite), 98)), 0.1) if finite else 1.0
    scale = ScalarMappable(Normalize(-limit, limit), cmap="RdBu_r")
    for axis, name in zip(axes, maps, strict=True):
        if name not in errors:
            axis.set_axis_off()
            continue
        axis.set_facecolor("0.75")
        axis.imshow(errors[name], norm=scale.norm, cmap=scale.cmap, interpolation="none")
        rmse = float(np.sqrt(np.nanmean(errors[name] ** 2)))
        axis.set_title(f"{name} − {truth_name}: RMSE {rmse:.2f} K", fontsize="medium")
    if errors:
        figure.colorbar(scale, ax=list(axes), label="error (K)", shrink=0.85)


def summary_metrics(results: Sequence[BenchmarkResult]) -> dict[str, float]:
    """Returns the summaries as flat figures for an experiment tracker.

    Args:
        results: The benchmarks.

    Returns:
        ``<benchmark>.<method>.<metric>`` → value, finite ones only.
    """
    figures = {}
    for result in results:
        for method, row in result.summary().items():
            for metric, value in row.items():
                if np.isfinite(value):
                    figures[f"{result.name}.{method}.{metric}"] = value
    return figures
