"""Figures of a training: loss, error beside bicubic, maps of one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.training.baseline import bicubic_model
from keras_lstsr.training.network import predicted_kelvin

Record = dict[str, float]

MODEL_COLOUR, TRAIN_COLOUR, BASELINE_COLOUR = "#0b5fa5", "#8a8a8a", "#c4501b"


def draw_curves(history: list[Record], best: int, folder: Path) -> list[Path]:
    """Draws the loss by epoch, and the error in kelvin where there is a truth.

    Writes ``loss.png`` and ``rmse.png`` with the best epoch marked, and returns their paths.
    """
    epochs = [record["epoch"] for record in history]
    figure, axes = _axes("Epoch", "Loss")
    _curve(axes, epochs, history, "loss", TRAIN_COLOUR, "training")
    _curve(axes, epochs, history, "val_loss", MODEL_COLOUR, "validation")
    names = [name for name in ("loss", "val_loss") if name in history[0]]
    losses = [record[name] for record in history for name in names]
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


def sample_maps(
    model: keras.Model, batches: Any, config: ExperimentConfig, title: str
) -> tuple[str, dict[str, NDArray[np.floating]]]:
    """Predicts the sample of the first batch that shows most; ``title`` says what the sample is.

    Returns:
        A title, and maps in kelvin ``[H, W]`` by their titles: input, bicubic, prediction and,
        where it is known, truth.
    """
    inputs, target = next(iter(batches))
    coarse = np.asarray(inputs["lst_kelvin"])
    index = _most_telling(coarse[..., 0])
    sample = {name: np.asarray(values)[index : index + 1] for name, values in inputs.items()}

    def run(network: keras.Model) -> NDArray[np.floating]:
        taken = {each.name: sample[each.name] for each in network.inputs}
        fine: NDArray[np.floating] = predicted_kelvin(network, taken)[0, ..., 0]
        return fine

    names = ("4 km", "1 km") if config.data.task == "4km_to_1km" else ("1 km", "250 m")
    coarse_name, fine_name = names
    maps = {
        f"input, {coarse_name}": sample["lst_kelvin"][0, ..., 0],
        f"bicubic, {fine_name}": run(bicubic_model(config.model.scale_factor)),
        f"network, {fine_name}": run(model),
    }
    if config.knows_truth:
        truth = np.asarray(target)[index, ..., 0]
        maps[f"truth, {fine_name}"] = truth
        errors = [_rmse(maps[f"{name}, {fine_name}"], truth) for name in ("bicubic", "network")]
        title += f": RMSE {errors[0]:.2f} K by bicubic, {errors[1]:.2f} K by the network"
    return title, maps


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
    if name in history[0]:
        marker = "o" if len(epochs) < 3 else None
        axes.plot(epochs, [r[name] for r in history], color=colour, label=label, marker=marker)


def _mark_best(axes: Axes, epoch: float) -> None:
    axes.axvline(epoch, color="0.6", linewidth=0.8, linestyle=":", label=f"epoch kept, {epoch:g}")
    axes.legend(frameon=False)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _most_telling(patches: NDArray[np.floating]) -> int:
    # Of the patches with the fewest gaps, the one with the widest spread of temperatures.
    valid = np.isfinite(patches).sum(axis=(1, 2))
    filled = np.where(np.isfinite(patches), patches, np.nanmean(patches))
    spread = filled.std(axis=(1, 2))
    return int(np.argmax(np.where(valid == valid.max(), spread, -1.0)))


def _rmse(field: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.nanmean((field - truth) ** 2)))
