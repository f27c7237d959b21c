"""Tables of a benchmark as text: CSV, JSON, Markdown, and flat figures for a tracker."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from keras_lstsr.evaluation.result import BenchmarkResult
from keras_lstsr.files import write_text_whole
from keras_lstsr.metrics.bootstrap import Interval

HEADINGS = {
    "rmse_kelvin": "RMSE (K)",
    "bias_free_rmse_kelvin": "bias-free RMSE (K)",
    "bias_kelvin": "bias (K)",
    "mae_kelvin": "MAE (K)",
    "psnr_db": "PSNR (dB)",
    "ssim": "SSIM",
    "correlation": "correlation",
    "high_pass_correlation": "high-pass corr.",
    "gradient_correlation": "gradient corr.",
    "rmse_gradient_quarter_1_kelvin": "RMSE, flattest quarter (K)",
    "rmse_gradient_quarter_2_kelvin": "RMSE, 2nd quarter (K)",
    "rmse_gradient_quarter_3_kelvin": "RMSE, 3rd quarter (K)",
    "rmse_gradient_quarter_4_kelvin": "RMSE, steepest quarter (K)",
    "consistency_kelvin": "consistency (K)",
    "ratio_to_bicubic": "error over bicubic’s",
    "ratio_to_best_classical": "error over the best classical’s",
    "largest_error_kelvin": "largest error (K)",
    "in_90_interval": "in 90 % interval",
    "worse_than_bicubic": "worse than bicubic",
    "images": "images",
}
SHOWN_METRICS = (
    "rmse_kelvin",
    "bias_free_rmse_kelvin",
    "bias_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
    "worse_than_bicubic",
)
"""Columns of the table in a terminal."""

_WHOLE = {"worse_than_bicubic", "images"}


def format_value(metric: str, value: float) -> str:
    """Writes a value with the digits that its metric deserves."""
    if metric in _WHOLE:
        return f"{value:.0f}"
    return f"{value:.2f}" if metric == "psnr_db" else f"{value:.3f}"


def markdown_table(result: BenchmarkResult, columns: Sequence[str] | None = None) -> str:
    """Returns the summary's means as a Markdown table, one row per method.

    Args:
        result: The benchmark.
        columns: What to show, in order; None shows all metrics and counts. What the summary lacks
            is left out.
    """
    summary = result.summary()
    there = next(iter(summary.values()))
    wanted = [*result.metrics, *sorted(_WHOLE, reverse=True)] if columns is None else columns
    shown = [column for column in wanted if column in there]
    rows = {
        method: [format_value(column, row[column]) for column in shown]
        for method, row in summary.items()
    }
    return _table(shown, rows)


def interval_table(result: BenchmarkResult) -> str | None:
    """Returns the 95 % intervals of the summary as a Markdown table.

    Args:
        result: The benchmark.

    Returns:
        The table; None where no metric has an interval.
    """
    summary = result.summary()
    shown = [
        metric for metric in result.metrics if any(f"{metric}_low" in r for r in summary.values())
    ]
    if not shown:
        return None
    rows = {
        method: [
            " to ".join(format_value(m, row[f"{m}_{end}"]) for end in ("low", "high"))
            if f"{m}_low" in row
            else "–"
            for m in shown
        ]
        for method, row in summary.items()
    }
    return _table(shown, rows)


def _table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    headings = ["method", *(HEADINGS.get(column, column) for column in columns)]
    return markdown_lines(headings, [[method, *cells] for method, cells in rows.items()])


def markdown_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table of cells."""
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines)


def write_tables(result: BenchmarkResult, folder: str | PathLike[str]) -> list[Path]:
    """Writes ``<name>.csv`` (every image), ``<name>.json`` and ``<name>.md`` (summary).

    Args:
        result: The benchmark.
        folder: Where to; made if it is not there.

    Returns:
        The paths written; each file is there whole or not at all.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    texts = {".csv": _csv_text(result), ".json": _json_text(result), ".md": _markdown_text(result)}
    return write_texts(Path(folder) / result.name, texts)


def write_texts(stem: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes texts of one name, by their endings; returns the paths.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    paths = []
    for ending, text in texts.items():
        path = stem.with_name(stem.name + ending)
        write_text_whole(path, text)
        paths.append(path)
    return paths


def _csv_text(result: BenchmarkResult) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    grouped = ["group"] if result.groups else []
    writer.writerow(["image", *grouped, "method", "scored_pixels", *result.metrics])
    for score in result.scores:
        group = [result.groups.get(score.image, "")] if grouped else []
        values = [score.values[metric] for metric in result.metrics]
        writer.writerow([score.image, *group, score.method, score.scored_pixels, *values])
    return stream.getvalue()


def _json_text(result: BenchmarkResult) -> str:
    # JSON knows no NaN: a metric without a value is null.
    summary = {
        method: {name: value if np.isfinite(value) else None for name, value in row.items()}
        for method, row in result.summary().items()
    }
    differences = {
        method: {"mean": interval.mean, "low": interval.low, "high": interval.high}
        for method, interval in _differences(result).items()
    }
    compared = {f"{result.main_metric}_less_bicubic": differences} if differences else {}
    content = {"title": result.title, **result.details, "summary": summary, **compared}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _markdown_text(result: BenchmarkResult) -> str:
    parts = [f"# {result.title}", markdown_table(result)]
    intervals = interval_table(result)
    if intervals is not None:
        groups = len({result.groups.get(image, image) for image in result.images})
        drawn = f"{groups} groups of images that share ground" if result.groups else "images"
        parts += [f"95 % intervals of the means, bootstrap over {drawn}:", intervals]
    differences = _differences(result)
    if differences:
        name = HEADINGS.get(result.main_metric, result.main_metric)
        parts += [
            f"{name} minus bicubic's, image by image; below 0 is better:",
            markdown_lines(
                ["method", "mean", "95 % interval"],
                [
                    [method, f"{i.mean:.3f}", f"{i.low:.3f} to {i.high:.3f}"]
                    for method, i in differences.items()
                ],
            ),
        ]
    if result.details:
        parts.append("\n".join(f"- {name}: {_plain(v)}" for name, v in result.details.items()))
    return "\n\n".join(parts) + "\n"


def _differences(result: BenchmarkResult) -> dict[str, Interval]:
    """Differences to bicubic that have an interval."""
    found = {method: result.difference_to_baseline(method) for method in result.methods}
    return {method: interval for method, interval in found.items() if interval is not None}


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_plain(part) for part in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary_metrics(results: Sequence[BenchmarkResult]) -> dict[str, float]:
    """Returns the summaries as flat figures for an experiment tracker.

    Args:
        results: The benchmarks.

    Returns:
        ``<benchmark>.<method>.<metric>`` → value, finite ones only and no ends of intervals.
    """
    figures = {}
    for result in results:
        for method, row in result.summary().items():
            for metric, value in row.items():
                if np.isfinite(value) and not metric.endswith(("_low", "_high")):
                    figures[f"{result.name}.{method}.{metric}"] = value
    return figures
