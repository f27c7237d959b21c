"""Figures of a training: loss, error beside bicubic, maps of one patch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Record = dict[str, float]

MODEL_COLOUR, TRAIN_COLOUR, BASELINE_COLOUR = "#0b5fa5", "#8a8a8a", "#c4501b"


def draw_curves(history: list[Record], folder: Path) -> list[Path]:
    """Draws the loss by epoch, and the error in kelvin where there is a truth.

    Args:
        history: Records of the epochs.
        folder: Where to write ``loss.png`` and ``rmse.png``.

    Returns:
        The files written.
    """
    epochs = [record["epoch"] for record in history]
    best = min(history, key=lambda record: record["val_loss"])["epoch"]
    figure, axes = _axes("Epoch", "Loss")
    _curve(axes, epochs, history, "loss", TRAIN_COLOUR, "training")
    _curve(axes, epochs, history, "val_loss", MODEL_COLOUR, "validation")
    losses = [record[name] for record in history for name in ("loss", "val_loss")]
    if min(losses) > 0 and max(losses) > 20 * min(losses):
        axes.set_yscale("log")
    _mark_best(axes, best)
    paths = [_save(figure, folder / "loss.png")]
    if "val_rmse_kelvin" in history[0]:
        figure, axes = _axes("Epoch", "RMSE (K)")
        _curve(axes, epochs, history, "rmse_kelvin", TRAIN_COLOUR, "training")
        _curve(axes, epochs, history, "val_rmse_kelvin", MODEL_COLOUR, "validation")
        baseline = history[0].get("bicubic_val_rmse_kelvin")
        if baseline is not None:
            axes.axhline(baseline, color=BASELINE_COLOUR, linestyle="--", label="bicubic")
            # The first epochs of an untrained network would flatten all that matters.
            errors = [record["val_rmse_kelvin"] for record in history]
            top = max(baseline, float(np.median(errors)))
            axes.set_ylim(0.9 * min(baseline, *errors), 1.2 * top)
        _mark_best(axes, best)
        paths.append(_save(figure, folder / "rmse.png"))
    return paths


def draw_maps(
    maps: Mapping[str, NDArray[np.floating]], path: Path, *, title: str, unit: str = "K"
) -> Path:
    """Draws temperature maps of the same ground side by side, in one colour scale.

    Args:
        maps: Title to LST in kelvin ``[H, W]``; sizes may differ. NaN is drawn grey.
        path: The PNG to write.
        title: Title of the figure.
        unit: Label of the colour bar.

    Returns:
        The path.
    """
    values = np.concatenate([field[np.isfinite(field)] for field in maps.values()])
    low, high = np.percentile(values, [0.5, 99.5])
    colours = colormaps["inferno"].with_extremes(bad="0.75")
    figure = Figure(figsize=(3.1 * len(maps) + 0.9, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    for panel, (name, field) in zip(panels, maps.items(), strict=True):
        image = panel.imshow(field, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        panel.set_title(name, fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.colorbar(image, ax=list(panels), label=unit, shrink=0.85, extend="both")
    figure.suptitle(title, fontsize=11)
    return _save(figure, path)


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _curve(
    axes: Axes,
    epochs: list[float],
    history: list[Record],
    name: str,
    colour: str,
    label: str,
) -> None:
    marker = "o" if len(epochs) < 3 else None
    axes.plot(epochs, [r[name] for r in history], color=colour, label=label, marker=marker)


def _mark_best(axes: Axes, epoch: float) -> None:
    axes.axvline(epoch, color="0.6", linewidth=0.8, linestyle=":", label=f"best epoch, {epoch:g}")
    axes.legend(frameon=False)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
