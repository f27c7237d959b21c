"""Curves and table of the MixGL defects sweep: ``python benchmarks/mixgl_defects.py SWEEP_FOLDER``.

The folder is what ``keras-lstsr sweep --config configs/mixgl_defects_sweep.yaml`` wrote. Prints a
Markdown table of the gradient error in its right definition and as each run's loss sees it, after
the first and the last epoch, on the validation split; draws both over the epochs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

RIGHT = "val_mean_gradient_error"
OWN = "val_loss_mean_gradient_error"  # absent where the loss's definition is the right one


def read_histories(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Returns the epochs of each finished run, in the order in which they were trained."""
    runs = []
    for path in folder.glob("*/run.json"):
        info = json.loads(path.read_text())
        if info["status"] == "finished":
            runs.append((info["started"], path.parent))
    return {run.name: json.loads((run / "history.json").read_text()) for _, run in sorted(runs)}


def own(epoch: dict[str, float]) -> float:
    """Returns the gradient error as the run's loss defines it."""
    return epoch.get(OWN, epoch[RIGHT])


def table(histories: dict[str, list[dict[str, float]]]) -> str:
    """Returns the Markdown table."""
    lines = [
        "| run | its own MGE: first → last epoch | right MGE (K²/pixel²): first → last epoch |",
        "|---|---|---|",
    ]
    for name, epochs in histories.items():
        first, last = epochs[0], epochs[-1]
        lines.append(
            f"| `{name}` | {own(first):.3f} → {own(last):.3f} "
            f"| {first[RIGHT]:.3f} → {last[RIGHT]:.3f} |"
        )
    return "\n".join(lines)


def draw(histories: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draws each run's own gradient error, relative to its start, and the right one."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    relative, right = figure.subplots(1, 2)
    for name, epochs in histories.items():
        numbers = [epoch["epoch"] for epoch in epochs]
        style = "-" if name.startswith("right") else "--"
        relative.plot(numbers, [own(e) / own(epochs[0]) for e in epochs], style, label=name)
        right.plot(numbers, [epoch[RIGHT] for epoch in epochs], style, label=name)
    relative.set_title("MGE as the run's loss defines it, relative to epoch 1")
    right.set_title("MGE in its right definition (K²/pixel²)")
    for axes in (relative, right):
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=100)


def main() -> None:
    """Reads, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--figure", type=Path, default=Path("mixgl_defects.png"))
    arguments = parser.parse_args()
    histories = read_histories(arguments.sweep)
    print(table(histories))
    draw(histories, arguments.figure)
    print(f"\n{arguments.figure}")


if __name__ == "__main__":
    main()
