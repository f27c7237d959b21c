"""Curves and table of the MixGL defects sweep: ``python benchmarks/mixgl_defects.py SWEEP…``.

A folder is what ``keras-lstsr sweep --config configs/mixgl_defects_sweep.yaml`` wrote; several are
the same sweep with other seeds. Prints a Markdown table of the gradient error in its right
definition and as each run's loss sees it, after the first and the last epoch, on the validation
split, with the range over the seeds; draws both over the epochs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

RIGHT = "val_mean_gradient_error"
OWN = "val_loss_mean_gradient_error"  # absent where the loss's definition is the right one

Epoch = dict[str, float]


def read_histories(folders: Sequence[Path]) -> dict[str, list[list[Epoch]]]:
    """Returns run → the epochs of each seed, of finished runs, in the order of their training."""
    runs = []
    for folder in folders:
        for path in folder.glob("*/run.json"):
            info = json.loads(path.read_text())
            if info["status"] == "finished":
                runs.append((info["started"], path.parent))
    found: dict[str, list[list[Epoch]]] = {}
    for _, run in sorted(runs):
        found.setdefault(run.name, []).append(json.loads((run / "history.json").read_text()))
    return found


def own(epoch: Epoch) -> float:
    """Returns the gradient error as the run's loss defines it."""
    return epoch.get(OWN, epoch[RIGHT])


def right(epoch: Epoch) -> float:
    """Returns the gradient error in its right definition."""
    return epoch[RIGHT]


def cell(seeds: Sequence[Sequence[Epoch]], error: Callable[[Epoch], float]) -> str:
    """Returns the mean after the first and the last epoch, and the range of several seeds."""
    texts = []
    for number in (0, -1):
        values = [error(epochs[number]) for epochs in seeds]
        text = f"{sum(values) / len(values):.4g}"
        if len(values) > 1:
            text += f" ({min(values):.4g} to {max(values):.4g})"
        texts.append(text)
    return " → ".join(texts)


def table(histories: dict[str, list[list[Epoch]]]) -> str:
    """Returns the Markdown table."""
    lines = [
        "| run | seeds | its own MGE: first → last epoch "
        "| right MGE (K²/pixel²): first → last epoch |",
        "|---|---|---|---|",
    ]
    for name, seeds in histories.items():
        lines.append(f"| `{name}` | {len(seeds)} | {cell(seeds, own)} | {cell(seeds, right)} |")
    return "\n".join(lines)


def draw(histories: dict[str, list[list[Epoch]]], path: Path) -> None:
    """Draws each run's own gradient error, relative to its start, and the right one."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    relative, absolute = figure.subplots(1, 2)
    for number, (name, seeds) in enumerate(histories.items()):
        look = {"color": f"C{number % 10}", "ls": "-" if name.startswith("right") else "--"}
        for seed, epochs in enumerate(seeds):
            numbers = [epoch["epoch"] for epoch in epochs]
            label = name if seed == 0 else None
            relative.plot(numbers, [own(e) / own(epochs[0]) for e in epochs], **look)
            absolute.plot(numbers, [right(e) for e in epochs], **look, label=label)
    relative.set_title("MGE as the run's loss defines it, relative to epoch 1")
    absolute.set_title("MGE in its right definition (K²/pixel²)")
    for axes in (relative, absolute):
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    absolute.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, dpi=100)


def main() -> None:
    """Reads, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, nargs="+")
    parser.add_argument("--figure", type=Path, default=Path("mixgl_defects.png"))
    arguments = parser.parse_args()
    histories = read_histories(arguments.sweep)
    print(table(histories))
    draw(histories, arguments.figure)
    print(f"\n{arguments.figure}")


if __name__ == "__main__":
    main()
