"""The guided model by night and without NDVI: ``python benchmarks/guided_limits.py``.

Pairs are predicted by the models of cross-validation that have not seen their ground, with their
NDVI and without; simulated scenes, by day and by night, by the final model, which has seen none.
All is scored on the grid nested in LST by the bias-free error, beside bicubic. Intervals of 90 %
are those of the calibrated standard deviations.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np


def row(name, pairs, model_of, calibration):
    """Prints one line of the table."""
    from keras_lstsr.sharpening.interpolation import interpolated
    from keras_lstsr.training.guided_fit import predict_pair

    errors, plain, inside = [], [], []
    for pair in pairs:
        kelvin, std = predict_pair(model_of(pair.name), pair)
        bicubic = interpolated(pair.lst_kelvin, 4, "bicubic")
        there = np.isfinite(kelvin) & np.isfinite(pair.truth_kelvin)
        error, other = ((each - pair.truth_kelvin)[there] for each in (kelvin, bicubic))
        errors.append(error.std())
        plain.append(other.std())
        inside.append(np.mean(np.abs(error - error.mean()) < 1.645 * calibration * std[there]))
    worse = int(np.sum(np.array(errors) > np.array(plain)))
    print(
        f"| {name} | {np.mean(errors):.3f} | {np.mean(plain):.3f} | {worse} of {len(errors)} | "
        f"{np.mean(inside):.1%} ({np.min(inside):.0%} to {np.max(inside):.0%}) |",
        flush=True,
    )


def without_ndvi(pair):
    """Returns the pair without its guide."""
    return replace(pair, ndvi=np.full_like(pair.ndvi, np.nan))


@click.command()
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="Folder of pairs.")
@click.option(
    "--pretrained",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder that keras-lstsr pretrain has written.",
)
@click.option("--seed", default=250, show_default=True, help="of the simulated scenes")
def main(pairs, pretrained, seed):
    """Prints the table."""
    from keras_lstsr.artifacts.loading import load_keras_model
    from keras_lstsr.pairs.files import find_pairs
    from keras_lstsr.pairs.simulated import simulated_pairs
    from keras_lstsr.pairs.training_pairs import PairSet, nested_pair

    card = json.loads((pretrained / "guided.json").read_text())
    factor = card["calibration"]["factor"]
    folds = {name: fold["fold"] for fold in card["folds"] for name in fold["pairs"]}
    models = {
        fold: load_keras_model(pretrained / "folds" / f"fold_{fold}.keras")
        for fold in set(folds.values())
    }
    final = load_keras_model(pretrained / "guided.keras")
    known = PairSet(find_pairs(pairs), 4)
    real = known.selected(known.names, known.names)
    made = [nested_pair(pair, 4) for pair in simulated_pairs(seed=seed)]
    days = [pair for pair in made if pair.name.endswith("day")]
    nights = [pair for pair in made if pair.name.endswith("night")]
    print("| scenes | guided (K) | bicubic (K) | worse than bicubic | 90 % intervals hold |")
    print("|---" * 5 + "|")
    row("pairs, out of fold", real, lambda name: models[folds[name]], factor)
    bare = [without_ndvi(pair) for pair in real]
    row("pairs, out of fold, no NDVI", bare, lambda name: models[folds[name]], factor)
    for name, scenes in (("simulated days", days), ("simulated nights", nights)):
        row(name, scenes, lambda name: final, 1.0)
        bare = [without_ndvi(pair) for pair in scenes]
        row(f"{name}, no NDVI", bare, lambda name: final, 1.0)


if __name__ == "__main__":
    main()
