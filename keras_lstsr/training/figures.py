"""Figures of a training: loss, and error beside bicubic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
