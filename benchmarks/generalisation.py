"""Does a 4 km → 1 km network learn the map by heart? ``python benchmarks/generalisation.py``.

Prepares one series of scenes twice, split by date and split by place, trains the same network on
each, and prints how both do on their own test split beside bicubic. Where the same ground lies in
training and test (split by date), a network can answer from memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

SPLITS = ("date", "place")


def run(*arguments: str) -> None:
    """Runs a command of keras-lstsr and stops with its output if it fails."""
    command = [sys.executable, "-m", "keras_lstsr.cli.main", *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if finished.returncode:
        sys.exit(finished.stdout)


def experiment(folder: Path, split: str, seed: int, options: dict) -> dict:
    """Prepares, trains and scores one split; what is there already is kept."""
    place = folder / f"{split}_{seed}"
    records, trained, evaluation = place / "records", place / "run", place / "evaluation"
    if not (records / "dataset.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        source = ["--input", options["input"], "--scale", "0.02", "--nodata", "0"]
        split_options = ["--split_by", split, "--split_seed", str(seed)]
        run("prepare", *source, *split_options, "--output", str(records))
    if not (evaluation / "patches_test.json").is_file():
        settings = [f"--set=training.{name}={value}" for name, value in options["set"].items()]
        settings += [f"--set=model.width={options['width']}"]
        run(
            *("train", "--config", options["config"], "--records", str(records)),
            *("--output", str(trained), "--no-mlflow", *settings),
        )
        for part in ("test", "train"):
            run(
                *("evaluate", f"model={trained}", "--records", str(records), "--split", part),
                *("--output", str(evaluation), "--no-mlflow", "--limit", "400"),
            )
    counts = json.loads((records / "dataset.json").read_text())
    summaries = {
        part: json.loads((evaluation / f"patches_{part}.json").read_text())["summary"]
        for part in ("train", "test")
    }
    return {"split": split, "seed": seed, "dataset": counts, **summaries}


@click.command()
@click.option("--input", "source", required=True, help="Glob of the scenes, uint16 × 0.02 K.")
@click.option("--config", default="configs/croatia.yaml", show_default=True)
@click.option("--width", default=16, show_default=True, help="Channels of the network.")
@click.option("--epochs", default=20, show_default=True, help="Epochs; none is left out.")
@click.option("--seeds", default=1, show_default=True, help="Number of deals of dates and places.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("generalisation"))
def main(source: str, config: str, width: int, epochs: int, seeds: int, output: Path) -> None:
    """Prints the table of docs/generalisation.md."""
    options = {
        "input": source,
        "config": config,
        "width": width,
        # All epochs: a network that stops early has less time to learn anything by heart.
        "set": {"epochs": epochs, "early_stopping_patience": epochs},
    }
    print(
        "| split | deal | scored on | bicubic RMSE (K) | network RMSE (K) | gain (K) | gain "
        "| SSIM, bicubic → network | worse than bicubic |\n|---|---|---|---|---|---|---|---|---|"
    )
    for seed in range(seeds):
        for split in SPLITS:
            result = experiment(output, split, seed, options)
            for part in ("train", "test"):
                bicubic, network = result[part]["bicubic"], result[part]["model"]
                gain = bicubic["rmse_kelvin"] - network["rmse_kelvin"]
                print(
                    f"| by {split} | {seed} | {part} | {bicubic['rmse_kelvin']:.3f} "
                    f"| {network['rmse_kelvin']:.3f} | {gain:.3f} "
                    f"| {gain / bicubic['rmse_kelvin']:.1%} "
                    f"| {bicubic['ssim']:.3f} → {network['ssim']:.3f} "
                    f"| {network['worse_than_bicubic']:.0f} of {network['images']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
